//! Looks twice a second whether the database would serve a payment, through the pool that payments use: a connection of
//! the probe's own would go on answering after theirs are lost and new ones cannot be made.
//!
//! The probe also owns the schema: at its start and each time the database was away or has been started anew it makes what
//! is missing, so a database that came back empty is set up again without a restart. A database that only reads (a
//! standby, after a failover) does not count as answering. While no new connection can be made it tries to make one, so
//! that a front end whose requests need more than it has is ready again by itself. A pool in full use is no database that
//! is away: then the requests tell.

use std::time::Duration;

use tokio::time::sleep;

use crate::store::{Store, Trouble, chain};

const EVERY: Duration = Duration::from_millis(500);

/// Starts probing. It ends with the program.
pub fn start(store: &Store) {
    tokio::spawn(look_on(store.clone()));
    tokio::spawn(knock(store.clone()));
}

async fn look_on(store: Store) {
    let mut server = None;
    // Each change is logged once, the first included.
    let mut serves = None;
    loop {
        let reason = match look(&store, &mut server).await {
            Ok(()) | Err(Trouble::Busy) if store.serves() => None,
            Ok(()) => Some("requests get no connection, and no new one can be made".to_owned()),
            Err(trouble) => Some(chain(&trouble)),
        };
        let before = serves.replace(reason.is_none());
        match reason {
            None if before != Some(true) => tracing::info!("the database answers"),
            Some(reason) if before != Some(false) => {
                tracing::warn!(reason, "the database does not answer; payments wait for it");
            }
            _ => {}
        }
        sleep(EVERY).await;
    }
}

/// In a task of its own: where nobody answers it takes longer than the looks may be apart.
async fn knock(store: Store) {
    loop {
        if store.barred() {
            store.try_new_connection().await;
        }
        sleep(EVERY).await;
    }
}

/// One look. `server` is the one that has the schema, and which start of it.
async fn look(store: &Store, server: &mut Option<String>) -> Result<(), Trouble> {
    let set_up = match server.take() {
        Some(server) => Some(server),
        None => match store.set_up().await {
            Ok(server) => Some(server),
            // A connection from before may serve for lack of a new one.
            Err(_) if store.has_free_connection() => None,
            Err(trouble) => return Err(trouble),
        },
    };
    let answer = store.ask().await;
    let same = match &answer {
        Ok(asked) => set_up.as_ref() == Some(asked),
        Err(trouble) => matches!(trouble, Trouble::Busy | Trouble::Slow),
    };
    *server = set_up.filter(|_| same);
    answer.map(drop)
}

#[cfg(test)]
mod tests;
