//! Takes what the control plane that leads sees of the cluster to the coordinator.

use std::time::Duration;

use muster_plan::cluster::ClusterReport;
use tokio::{sync::watch, time};

use super::puller::chain;
use crate::link::Link;

/// So that a coordinator that began anew knows it soon, and one that hears nothing knows that nobody leads.
const EVERY: Duration = Duration::from_secs(10);
/// Changes of one event come together.
const GATHER: Duration = Duration::from_millis(200);
/// Until one that was not taken is sent again.
const AGAIN: Duration = Duration::from_secs(2);

/// Sends what is seen when it changes, and now and then; ends with its sender.
pub async fn report(link: Link, mut seen: watch::Receiver<Option<ClusterReport>>) {
    let mut said = false;
    loop {
        let report = seen.borrow_and_update().clone();
        let mut next = EVERY;
        if let Some(report) = report
            && link.enrolled().is_some()
            && let Ok(json) = serde_json::to_string(&report)
        {
            match link.report_cluster(&json).await {
                Ok(()) => said = false,
                Err(error) => {
                    if !said {
                        tracing::warn!(error = chain(&error), "what the cluster is was not taken; trying again");
                    }
                    said = true;
                    next = AGAIN;
                }
            }
        }
        tokio::select! {
            changed = seen.changed() => match changed {
                Ok(()) => time::sleep(GATHER).await,
                Err(_) => return,
            },
            () = time::sleep(next) => {}
        }
    }
}
