//! Revocations from the record to the listener: connections of what was revoked are cut within a moment.

use std::sync::Arc;

use muster_proto::Revocations;
use tokio::sync::watch;

use crate::state::State;

/// Publishes whenever they change, for as long as the state lives.
pub async fn publish_revocations(state: State, publish: watch::Sender<Arc<Revocations>>) {
    let mut changes = state.changes();
    loop {
        let now = changes.borrow_and_update().identities.revocations.clone();
        publish.send_if_modified(|held| {
            let new = **held != now;
            if new {
                *held = Arc::new(now);
            }
            new
        });
        if changes.changed().await.is_err() {
            return;
        }
    }
}
