//! What the coordinator does by itself: follow the record, read the provider, plan, execute. Level-triggered: a task acts
//! on state, and whatever wakes it only says that it may be worth a look.

mod endpoints;
mod intents;
mod reconcile;
mod revocations;

pub use endpoints::watch_endpoints;
pub use intents::StateIntents;
pub use reconcile::{Boot, reconcile};
pub use revocations::publish_revocations;
