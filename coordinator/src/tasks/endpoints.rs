//! Asks every load balancer as its clients do, for the status.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use crate::context::Context;

const EVERY: Duration = Duration::from_secs(2);

/// Runs until it is dropped.
pub async fn watch_endpoints(ctx: Arc<Context>) {
    loop {
        // Without anything applied there is nobody to ask, and what cannot be read is the other tasks' to tell.
        if let Ok(published) = ctx.current() {
            let balancers = &published.blueprint.load_balancers;
            let asked =
                balancers.iter().map(async |(name, plan)| Some((name.clone(), ctx.cloud.served(plan).await.ok()??)));
            let served = join_all(asked).await.into_iter().flatten().collect();
            ctx.keep_served(served);
        }
        tokio::time::sleep(EVERY).await;
    }
}
