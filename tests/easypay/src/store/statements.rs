//! The SQL, prepared once a connection, and what its rows mean.

use tokio_postgres::{Client, Error, Row, SimpleQueryMessage, Statement};

use super::{Recorded, Totals, Wallet};

const PAYMENT: &str = "SELECT key, id, user_name, amount_cents, balance_after_cents, \
     to_char(tried_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
     to_char(succeeded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
     count(*) OVER () \
     FROM payments";

/// One statement and therefore one transaction: the balance changes and the payment is marked, or neither. Whoever waits
/// for the row's lock finds the payment succeeded when it gets it, and then changes nothing.
const SUCCEED: &str = "\
    WITH due AS ( \
        SELECT key, user_name, amount_cents FROM payments WHERE key = $1 AND succeeded_at IS NULL FOR UPDATE \
    ), credited AS ( \
        INSERT INTO wallets AS w (user_name, balance_cents) SELECT user_name, amount_cents FROM due \
        ON CONFLICT (user_name) DO UPDATE SET balance_cents = w.balance_cents + excluded.balance_cents \
        RETURNING balance_cents \
    ) \
    UPDATE payments SET succeeded_at = now(), balance_after_cents = credited.balance_cents \
    FROM due, credited WHERE payments.key = due.key \
    RETURNING payments.id, payments.balance_after_cents";

/// Balance and payments in one statement, so that they are of one moment and can be compared.
const WALLET: &str = "\
    SELECT p.tried, p.succeeded, p.succeeded_cents, coalesce(w.balance_cents, 0) FROM ( \
        SELECT count(*) AS tried, count(succeeded_at) AS succeeded, \
               coalesce(sum(amount_cents) FILTER (WHERE succeeded_at IS NOT NULL), 0)::bigint AS succeeded_cents \
        FROM payments WHERE user_name = $1 \
    ) p LEFT JOIN wallets w ON w.user_name = $1 \
    WHERE p.tried > 0 OR w.user_name IS NOT NULL";

/// All prepared statements of a connection.
pub struct Statements {
    pub try_payment: Statement,
    pub succeed: Statement,
    pub payment: Statement,
    pub wallet: Statement,
    pub latest: Statement,
    pub totals: Statement,
}

impl Statements {
    /// Prepares all at once: one round trip.
    ///
    /// # Errors
    /// The database's, one of an undefined table while the schema is not there.
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let by_key = format!("{PAYMENT} WHERE key = $1");
        let by_user = format!("{PAYMENT} WHERE user_name = $1 ORDER BY id DESC LIMIT $2");
        let (try_payment, succeed, payment, wallet, latest, totals) = tokio::try_join!(
            client.prepare(
                "INSERT INTO payments (key, user_name, amount_cents) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING"
            ),
            client.prepare(SUCCEED),
            client.prepare(&by_key),
            client.prepare(WALLET),
            client.prepare(&by_user),
            client.prepare("SELECT (SELECT count(*) FROM wallets), count(*), count(succeeded_at) FROM payments"),
        )?;
        Ok(Self { try_payment, succeed, payment, wallet, latest, totals })
    }
}

/// Whether `transaction_read_only`, the first column, is off.
pub fn takes_writes(messages: &[SimpleQueryMessage]) -> bool {
    messages.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off")))
}

/// # Errors
/// A column of another type: the schema is not the one this program makes.
pub fn recorded(row: &Row) -> Result<Recorded, Error> {
    Ok(Recorded {
        key: row.try_get(0)?,
        id: row.try_get(1)?,
        user: row.try_get(2)?,
        amount_cents: row.try_get(3)?,
        balance_after_cents: row.try_get(4)?,
        tried_at: row.try_get(5)?,
        succeeded_at: row.try_get(6)?,
        times: row.try_get(7)?,
    })
}

/// # Errors
/// As [`recorded`].
pub fn wallet(row: &Row) -> Result<Wallet, Error> {
    Ok(Wallet {
        tried: row.try_get(0)?,
        succeeded: row.try_get(1)?,
        succeeded_cents: row.try_get(2)?,
        balance_cents: row.try_get(3)?,
    })
}

/// # Errors
/// As [`recorded`].
pub fn totals(row: &Row) -> Result<Totals, Error> {
    Ok(Totals { wallets: row.try_get(0)?, tried: row.try_get(1)?, succeeded: row.try_get(2)? })
}
