//! Whether a payment sent now would be served: what requests and the probe have found out lately.
//!
//! Two things speak against it. Nothing was answered for as long as a request waits; or requests gave up because there were
//! too few connections and no new one can be made, however well the few that still live answer the probe.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::Manager as _;
use tokio::time::timeout;

use super::attempt::ATTEMPT;
use super::statements::takes_writes;
use super::{Connection, Store, Trouble};

/// For the probe to get a connection. Behind requests that wait for longer it learns nothing that they do not tell.
const TURN: Duration = Duration::from_millis(800);
/// Names the tables, so that lost ones count as lost.
const QUESTION: &str = "SELECT current_setting('transaction_read_only'), pg_postmaster_start_time() \
                        FROM (SELECT count(*) FROM (SELECT 1 FROM payments, wallets LIMIT 1) AS any_row) AS one_row";

/// What is known of the database.
#[derive(Debug, Default)]
pub struct Health(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    /// When a connection of the pool last did what it was for.
    answered: Option<Instant>,
    /// Since when no new connection can be made: the start of the first that failed.
    barred: Option<Instant>,
    /// Whether a request has given up since then for want of a connection.
    wanted: bool,
}

impl Health {
    pub fn answered(&self) {
        self.facts().answered = Some(Instant::now());
    }

    pub fn connected(&self) {
        let mut facts = self.facts();
        (facts.barred, facts.wanted) = (None, false);
    }

    /// No new connection could be made from `start` until now.
    pub fn not_connected(&self, start: Instant) {
        self.facts().barred.get_or_insert(start);
    }

    /// A request has given up for want of a connection.
    pub fn wanted(&self) {
        let mut facts = self.facts();
        facts.wanted = facts.barred.is_some();
    }

    /// Whether the last new connection failed.
    pub fn barred(&self) -> bool {
        self.facts().barred.is_some()
    }

    /// Ready as long as a payment's patience after things went wrong: one sent now may still get through. So a database
    /// that restarts is not made worse by load balancers that find no front end at all.
    fn serves(&self, patience: Duration, now: Instant) -> bool {
        let facts = self.facts();
        let lately = |at: Instant| now.saturating_duration_since(at) < patience;
        facts.answered.is_some_and(lately) && (!facts.wanted || facts.barred.is_none_or(lately))
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Whether a payment sent now would be served. Costs nothing, however often it is asked.
    pub fn serves(&self) -> bool {
        self.health().serves(self.patience, Instant::now())
    }

    /// Whether the last new connection failed.
    pub fn barred(&self) -> bool {
        self.health().barred()
    }

    /// Makes a connection like the pool's, to know whether it can be done.
    pub async fn try_new_connection(&self) {
        // What keeps it from being made is in the log with the requests that it fails, if there are any.
        drop(self.pool.manager().create().await);
    }

    /// Makes what is missing of the schema; returns which start of which server it was done on. On a connection outside
    /// the pool: the pool's are prepared for the schema, and the probe must be able to make it while they are all in use.
    ///
    /// # Errors
    /// What keeps the database from answering.
    pub async fn set_up(&self) -> Result<String, Trouble> {
        let client = self.pool.manager().connect().await.map_err(Trouble::Connect)?;
        let schema = async {
            client.batch_execute(include_str!("schema.sql")).await?;
            started(&client).await
        };
        // Another replica may be at it, hence more than an attempt.
        let started = timeout(self.patience, schema).await.map_err(|_| Trouble::Slow)?.map_err(Trouble::Query)?;
        started.ok_or(Trouble::ReadOnly)
    }

    /// Whether a connection of the pool is free, alive or not.
    pub fn has_free_connection(&self) -> bool {
        self.pool.status().available > 0
    }

    /// Asks as a payment does: by the pool, with a payment's limits. Returns which start of which server has answered.
    ///
    /// # Errors
    /// [`Trouble::Busy`] when requests wait for longer, and otherwise what would trouble a payment.
    pub async fn ask(&self) -> Result<String, Trouble> {
        let object = self.get(TURN).await?;
        let question = |connection: Arc<Connection>| async move { started(&connection.client).await };
        let Some(started) = self.within(ATTEMPT, object, &question).await? else {
            self.pool.manager().suspect_all();
            return Err(Trouble::ReadOnly);
        };
        self.health().answered();
        Ok(started)
    }

    pub(super) fn health(&self) -> &Health {
        &self.pool.manager().health
    }
}

/// When the server was started, which tells it from others and from itself before; `None` where it only reads.
async fn started(client: &tokio_postgres::Client) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(QUESTION).await?;
    let started = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(1).map(str::to_owned),
        _ => None,
    });
    Ok(started.filter(|_| takes_writes(&messages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn serves(health: &Health, later: u64) -> bool {
        health.serves(PATIENCE, Instant::now() + Duration::from_millis(later))
    }

    #[test]
    fn an_answer_is_good_for_a_requests_patience() {
        let health = Health::default();
        assert!(!serves(&health, 0), "nothing was ever answered");
        health.answered();
        assert!(serves(&health, 4900));
        assert!(!serves(&health, 5100));
    }

    #[test]
    fn a_want_of_connections_counts_while_none_can_be_made() {
        let health = Health::default();
        let start = Instant::now();
        let after = |health: &Health, seconds| {
            let now = start + Duration::from_secs(seconds);
            health.facts().answered = Some(now);
            health.serves(PATIENCE, now)
        };
        health.wanted();
        health.not_connected(start);
        assert!(after(&health, 9), "whoever gave up had not failed for that, and those there are suffice");
        health.wanted();
        health.not_connected(start + Duration::from_secs(3));
        assert!(after(&health, 4), "a request sent now may still get through");
        assert!(!after(&health, 5) && health.barred());
        health.connected();
        assert!(after(&health, 9) && !health.barred());
    }
}
