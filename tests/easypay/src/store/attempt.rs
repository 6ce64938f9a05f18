//! How a request gets its answer: by attempts, each on a connection of the pool, until its patience ends.

use std::error::Error as _;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use deadpool::managed::{Object, PoolError, Timeouts};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::{ConnectError, Connection, Connector};
use super::{Store, StoreError, Trouble, chain};

/// For one attempt. A frozen connection must leave time for a second attempt within a request's patience.
pub const ATTEMPT: Duration = Duration::from_secs(3);

/// Requests that gave up and are not in the log yet: during an outage a line for each would fill disks and tell nothing.
#[derive(Default)]
pub struct Unsaid {
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
    /// Does `work`, again and again on fresh connections while the database is away, until the patience ends.
    pub(super) async fn patiently<T, W, F>(&self, work: W) -> Result<T, StoreError>
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
                Err(trouble @ (Trouble::Busy | Trouble::Connect(ConnectError::Slow))) => {
                    before.take().unwrap_or(trouble)
                }
                Err(trouble) => trouble,
            };
            if Instant::now() + pause >= deadline {
                if matches!(trouble, Trouble::Connect(_)) {
                    self.health().wanted();
                }
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
        let left = || deadline.saturating_duration_since(Instant::now());
        // Who gets a connection just before the patience ends keeps it from the others for nothing. In a queue as long as
        // the patience all come to be such, and no payment succeeds any more: so the last quarter is for the work.
        let object = timeout_at(deadline, self.get(left().saturating_sub(self.patience / 4))).await;
        let object = object.unwrap_or(Err(Trouble::Connect(ConnectError::Slow)))?;
        let done = self.within(ATTEMPT.min(left()), object, work).await?;
        self.health().answered();
        Ok(done)
    }

    /// A connection of the pool, for which at most `turn` is waited while all are in use, and then as long as it takes to
    /// check or make it. In a task of its own: the pool throws a connection away whose check is broken off, and there may
    /// be no other; and one that is made too late for this request serves the next.
    pub(super) async fn get(&self, turn: Duration) -> Result<Object<Connector>, Trouble> {
        let pool = self.pool.clone();
        let timeouts = Timeouts { wait: Some(turn), ..Timeouts::default() };
        let getting = tokio::spawn(async move { pool.timeout_get(&timeouts).await }).await;
        let got = getting.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        got.map_err(|error| match error {
            PoolError::Backend(error) => Trouble::Connect(error),
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => Trouble::Busy,
        })
    }

    /// Does `work` on a connection, which goes back to the pool unless it is to blame.
    pub(super) async fn within<T, W, F>(
        &self,
        limit: Duration,
        object: Object<Connector>,
        work: &W,
    ) -> Result<T, Trouble>
    where
        W: Fn(Arc<Connection>) -> F,
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let trouble = match timeout(limit, work(Arc::clone(&object))).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => Trouble::Query(error),
            // The patience has ended, which is no fault of the connection's. It goes back with a statement under way, as
            // when a handler is dropped; the check before its next use waits behind that.
            Err(_) if limit < ATTEMPT => return Err(Trouble::Slow),
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
