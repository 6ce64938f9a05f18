//! Whether the database answers, asked on a connection of its own.
//!
//! The probe also owns the schema: each time it connects anew it makes what is missing, so a database that came back empty
//! is set up again without a restart. A database that only reads (a standby, after a failover) does not count as
//! answering, and the connection to it is given up. `/ready` reads the last answer and costs nothing, however often it is asked.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::store::{Store, chain, takes_writes};

const EVERY: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_millis(800);
/// Names the tables, so that lost ones count as lost.
const QUESTION: &str = "SELECT current_setting('transaction_read_only') \
                        FROM (SELECT count(*) FROM (SELECT 1 FROM payments, wallets LIMIT 1) AS any_row) AS one_row";

/// Whether requests are to be sent here.
#[derive(Debug, Clone)]
pub struct Ready {
    /// When the database last answered and would have taken a payment.
    answered: watch::Receiver<Option<Instant>>,
    patience: Duration,
}

impl Ready {
    /// Ready as long as a payment's patience after the database's last answer: one sent now may still get through. So a
    /// database that restarts is not made worse by load balancers that find no front end at all.
    pub fn now(&self) -> bool {
        self.answered.borrow().is_some_and(|at| at.elapsed() < self.patience)
    }
}

/// Starts probing, until nobody watches any more.
pub fn start(store: Store) -> Ready {
    let (sender, answered) = watch::channel(None);
    let patience = store.patience();
    tokio::spawn(async move {
        let mut client = None;
        // Each change is logged once, the first included.
        let mut answers = None;
        while !sender.is_closed() {
            match look(&store, client.take()).await {
                Ok(alive) => {
                    client = Some(alive);
                    if answers.replace(true) != Some(true) {
                        tracing::info!("the database answers");
                    }
                    sender.send_replace(Some(Instant::now()));
                }
                Err(reason) => {
                    if answers.replace(false) != Some(false) {
                        tracing::warn!(reason, "the database does not answer; payments wait for it");
                    }
                }
            }
            sleep(EVERY).await;
        }
    });
    Ready { answered, patience }
}

/// One look; returns the connection for the next.
async fn look(store: &Store, client: Option<Client>) -> Result<Client, String> {
    let client = match client {
        Some(client) => client,
        None => store.connect_with_schema().await.map_err(|trouble| chain(&trouble))?,
    };
    match timeout(ANSWER, client.simple_query(QUESTION)).await {
        Ok(Ok(messages)) if takes_writes(&messages) => Ok(client),
        Ok(Ok(_)) => Err("it is read-only".to_owned()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} ms", ANSWER.as_millis())),
    }
}
