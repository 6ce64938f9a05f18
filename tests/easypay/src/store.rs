//! Wallets and payments in PostgreSQL.
//!
//! A payment is first recorded as tried, in a transaction of its own; then the balance changes and the payment is marked
//! as succeeded in one more. Both steps may be repeated: a crash between them, or an answer that got lost, is finished
//! by sending the same payment again. That is also why this module may itself try again while the database is away.

mod attempt;
mod connection;
mod health;
mod name;
mod statements;

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool::managed::{BuildError, Pool};
use serde::Serialize;

use self::attempt::Unsaid;
use self::connection::{ConnectError, Connection, Connector};
pub use self::name::Resolver;
use crate::payment::{Key, Payment, User};
use crate::settings::Database;

/// What a payment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Receipt {
    pub id: i64,
    /// The balance right after this payment, also when it is asked again later.
    #[serde(rename = "balance_cents")]
    pub balance: i64,
}

/// How a payment that is there came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paid {
    Now(Receipt),
    Before(Receipt),
}

/// A payment as recorded.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    pub id: i64,
    pub key: String,
    pub user: String,
    pub amount_cents: i64,
    pub balance_after_cents: Option<i64>,
    pub tried_at: String,
    pub succeeded_at: Option<String>,
    /// How many rows have this key. Counted rather than assumed: a check that trusts the constraint checks nothing.
    pub times: i64,
}

/// A user's wallet.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Wallet {
    pub balance_cents: i64,
    pub tried: i64,
    pub succeeded: i64,
    /// Sum of the succeeded payments, which the balance must equal.
    pub succeeded_cents: i64,
}

/// All wallets together.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    pub wallets: i64,
    pub tried: i64,
    pub succeeded: i64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key was used for another user or amount.
    #[error("this idempotency key belongs to another payment")]
    OtherPayment,
    /// Nothing is known about the payment; sending it again is safe.
    #[error("the database does not answer")]
    Away(#[source] Trouble),
    #[error("the database does not accept what it was asked")]
    Refused(#[source] tokio_postgres::Error),
}

/// What kept one attempt from its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("no connection")]
    Connect(#[source] ConnectError),
    #[error("all connections are in use")]
    Busy,
    #[error("no answer in time")]
    Slow,
    #[error("the connection failed")]
    Query(#[source] tokio_postgres::Error),
    #[error("it is read-only")]
    ReadOnly,
}

/// The wallets.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Connector>,
    patience: Duration,
    unsaid: Arc<Mutex<Unsaid>>,
}

impl Store {
    /// Connects when first asked something, so that a front end starts while its database is still away.
    ///
    /// # Errors
    /// None in practice: the pool's own settings.
    pub fn new(database: Database, patience: Duration) -> Result<Self, BuildError> {
        let resolver = name::system(&database.host, database.port);
        Self::with_resolver(database, patience, resolver)
    }

    /// As [`Store::new`], and `resolver` says where the host is.
    ///
    /// # Errors
    /// As [`Store::new`].
    pub fn with_resolver(database: Database, patience: Duration, resolver: Resolver) -> Result<Self, BuildError> {
        let connections = database.connections;
        let connector = Connector::new(database, resolver);
        let pool = Pool::builder(connector).max_size(connections).runtime(deadpool::Runtime::Tokio1).build()?;
        Ok(Self { pool, patience, unsaid: Arc::default() })
    }

    /// Does a payment once, however often it is asked.
    ///
    /// # Errors
    /// [`StoreError::OtherPayment`] for a key used before; [`StoreError::Away`] when the database stays away.
    pub async fn pay(&self, payment: &Payment) -> Result<Paid, StoreError> {
        self.patiently(|connection| async move { connection.pay(payment).await }).await?.ok_or(StoreError::OtherPayment)
    }

    /// # Errors
    /// [`StoreError::Away`] when the database stays away.
    pub async fn payment(&self, key: &Key) -> Result<Option<Recorded>, StoreError> {
        self.patiently(|connection| async move { connection.payment(key).await }).await
    }

    /// # Errors
    /// [`StoreError::Away`] when the database stays away.
    pub async fn wallet(&self, user: &User) -> Result<Option<Wallet>, StoreError> {
        self.patiently(|connection| async move { connection.wallet(user).await }).await
    }

    /// The wallet and its newest payments.
    ///
    /// # Errors
    /// [`StoreError::Away`] when the database stays away.
    pub async fn history(&self, user: &User, most: i64) -> Result<(Option<Wallet>, Vec<Recorded>), StoreError> {
        self.patiently(|connection| async move {
            Ok((connection.wallet(user).await?, connection.latest(user, most).await?))
        })
        .await
    }

    /// # Errors
    /// [`StoreError::Away`] when the database stays away.
    pub async fn totals(&self) -> Result<Totals, StoreError> {
        self.patiently(|connection| async move { connection.totals().await }).await
    }
}

impl Connection {
    /// `None` when the key belongs to another payment.
    async fn pay(&self, payment: &Payment) -> Result<Option<Paid>, tokio_postgres::Error> {
        let (key, user, amount) = (payment.key.as_str(), payment.user.as_str(), payment.amount.get());
        let new = self.client.execute(&self.statements.try_payment, &[&key, &user, &amount]).await? == 1;
        if !new {
            match self.payment(&payment.key).await? {
                Some(old) if old.user != user || old.amount_cents != amount => return Ok(None),
                Some(Recorded { id, balance_after_cents: Some(balance), .. }) => {
                    return Ok(Some(Paid::Before(Receipt { id, balance })));
                }
                Some(_) | None => {}
            }
        }
        if let Some(row) = self.client.query_opt(&self.statements.succeed, &[&key]).await? {
            return Ok(Some(Paid::Now(Receipt { id: row.try_get(0)?, balance: row.try_get(1)? })));
        }
        // Someone else with the same key was quicker, and has committed: its lock was waited for.
        let row = self.client.query_one(&self.statements.payment, &[&key]).await?;
        Ok(Some(Paid::Before(Receipt { id: row.try_get(1)?, balance: row.try_get(4)? })))
    }

    async fn payment(&self, key: &Key) -> Result<Option<Recorded>, tokio_postgres::Error> {
        // Not query_opt: a doubled payment is to be reported, not to be an error.
        let rows = self.client.query(&self.statements.payment, &[&key.as_str()]).await?;
        rows.first().map(statements::recorded).transpose()
    }

    async fn wallet(&self, user: &User) -> Result<Option<Wallet>, tokio_postgres::Error> {
        let row = self.client.query_opt(&self.statements.wallet, &[&user.as_str()]).await?;
        row.as_ref().map(statements::wallet).transpose()
    }

    async fn latest(&self, user: &User, most: i64) -> Result<Vec<Recorded>, tokio_postgres::Error> {
        let rows = self.client.query(&self.statements.latest, &[&user.as_str(), &most]).await?;
        rows.iter().map(statements::recorded).collect()
    }

    async fn totals(&self) -> Result<Totals, tokio_postgres::Error> {
        statements::totals(&self.client.query_one(&self.statements.totals, &[]).await?)
    }
}

/// An error with all its causes, for a log line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
