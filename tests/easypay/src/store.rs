//! Wallets and payments in PostgreSQL.
//!
//! A payment is first recorded as tried, in a transaction of its own; then the balance changes and the payment is marked
//! as succeeded in one more. Both steps may be repeated: a crash between them, or an answer that got lost, is finished
//! by sending the same payment again. That is also why this module may itself try again while the database is away.

mod connection;
mod statements;

use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError, Timeouts};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::Client;

use self::connection::{ConnectError, Connection, Connector};
pub use self::statements::takes_writes;
use crate::payment::{Key, Payment, User};
use crate::settings::Database;

/// For one attempt. A frozen connection must leave time for a second attempt within a request's patience.
const ATTEMPT: Duration = Duration::from_secs(3);

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
    #[error("no answer within {} s", ATTEMPT.as_secs())]
    Slow,
    #[error("the connection failed")]
    Query(#[source] tokio_postgres::Error),
}

/// The wallets.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Connector>,
    patience: Duration,
    unsaid: Arc<Mutex<Unsaid>>,
}

/// Requests that gave up and are not in the log yet: during an outage a line for each would fill disks and tell nothing.
#[derive(Default)]
struct Unsaid {
    requests: u64,
    last_line: Option<Instant>,
}

impl Unsaid {
    fn add(&mut self, trouble: &Trouble) {
        self.requests += 1;
        if self.last_line.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            tracing::warn!(
                requests = self.requests,
                error = chain(trouble),
                "requests gave up waiting for the database"
            );
            *self = Self { requests: 0, last_line: Some(Instant::now()) };
        }
    }
}

impl Store {
    /// Connects when first asked something, so that a front end starts while its database is still away.
    ///
    /// # Errors
    /// None in practice: the pool's own settings.
    pub fn new(database: Database, patience: Duration) -> Result<Self, deadpool::managed::BuildError> {
        let connections = database.connections;
        let pool =
            Pool::builder(Connector::new(database)).max_size(connections).runtime(deadpool::Runtime::Tokio1).build()?;
        Ok(Self { pool, patience, unsaid: Arc::default() })
    }

    /// How long a request waits for a database that is away.
    pub fn patience(&self) -> Duration {
        self.patience
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

    /// A connection outside the pool with the schema in place, for the probe: a pool in full use is no database that is away.
    ///
    /// # Errors
    /// What keeps the database from answering.
    pub async fn connect_with_schema(&self) -> Result<Client, Trouble> {
        let client = self.pool.manager().connect().await.map_err(Trouble::Connect)?;
        let schema = client.batch_execute(include_str!("store/schema.sql"));
        // Another replica may be at it, hence more than an attempt.
        timeout(self.patience, schema).await.map_err(|_| Trouble::Slow)?.map_err(Trouble::Query)?;
        Ok(client)
    }

    /// Does `work`, again and again on fresh connections while the database is away, until the patience ends.
    async fn patiently<T, W, F>(&self, work: W) -> Result<T, StoreError>
    where
        W: Fn(Arc<Connection>) -> F,
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(25);
        let mut before = None;
        loop {
            let trouble = match self.attempt(&work, deadline).await {
                Ok(done) => return Ok(done),
                Err(Trouble::Query(error)) if !passes(&error) => return Err(StoreError::Refused(error)),
                // The deadline cut an attempt short; what stopped the one before tells more.
                Err(Trouble::Busy) => before.take().unwrap_or(Trouble::Busy),
                Err(trouble) => trouble,
            };
            if Instant::now() + pause >= deadline {
                self.unsaid.lock().unwrap_or_else(PoisonError::into_inner).add(&trouble);
                return Err(StoreError::Away(trouble));
            }
            before = Some(trouble);
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    async fn attempt<T, W, F>(&self, work: &W, deadline: Instant) -> Result<T, Trouble>
    where
        W: Fn(Arc<Connection>) -> F,
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let object = timeout_at(deadline, self.pool.timeout_get(&Timeouts::default())).await;
        let object = match object {
            Ok(Ok(object)) => object,
            Ok(Err(PoolError::Backend(error))) => return Err(Trouble::Connect(error)),
            Ok(Err(PoolError::Timeout(_) | PoolError::Closed | PoolError::NoRuntimeSpecified))
            | Ok(Err(PoolError::PostCreateHook(_)))
            | Err(_) => return Err(Trouble::Busy),
        };
        // A handler that is dropped here gives the connection back with a statement under way; the check before its next
        // use waits behind that.
        let limit = deadline.min(Instant::now() + ATTEMPT);
        let trouble = match timeout_at(limit, work(Arc::clone(&object))).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => Trouble::Query(error),
            Err(_) => {
                self.pool.manager().suspect_all();
                Trouble::Slow
            }
        };
        // Whatever was wrong, a new connection starts clean.
        drop(Object::take(object));
        Err(trouble)
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

/// Whether an error is one of the moment, so that the same statement may do later on a new connection.
fn passes(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code().map(tokio_postgres::error::SqlState::code) else {
        let io = error.source().is_some_and(|source| source.is::<std::io::Error>());
        return io || error.is_closed();
    };
    // Connection, read-only after a failover, log-in, rollback, resources, object state, operator, system, internal.
    let class = ["08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"];
    // A changed row type, a lost prepared statement, a table or column that the starting replica is about to make.
    let single = ["0A000", "26000", "42P01", "42703"];
    class.iter().any(|c| code.starts_with(c)) || single.contains(&code)
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
