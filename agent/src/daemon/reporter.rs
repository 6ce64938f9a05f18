//! Takes reports and metrics to the coordinator. Only the newest report counts: what could not be sent is replaced by it.

use std::time::Duration;

use muster_ids::{Digest, Generation};
use muster_plan::Report;
use tokio::{sync::watch, time};

use super::{Meter, puller::chain};
use crate::link::Link;

const EVERY: Duration = Duration::from_secs(10);

/// How a converge ended, and of what.
#[derive(Debug, Clone)]
pub(super) struct Reported {
    pub(super) generation: Generation,
    pub(super) etag: Digest,
    pub(super) report: Report,
}

/// Sends the newest report as soon as it is there, and metrics every ten seconds; ends with the reports' sender.
pub(super) async fn run(link: Link, mut meter: Meter, mut reports: watch::Receiver<Option<Reported>>) {
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut unsent = false;
    let mut said = false;
    loop {
        tokio::select! {
            changed = reports.changed() => match changed {
                Ok(()) => unsent = true,
                Err(_) => return,
            },
            _ = ticks.tick() => {}
        }
        if link.enrolled().is_none() {
            continue;
        }
        let newest = reports.borrow_and_update().clone();
        let json = match &newest {
            Some(reported) if unsent => serde_json::to_string(&reported.report).ok(),
            Some(_) | None => None,
        };
        let etag = newest.as_ref().map(|reported| reported.etag.to_string()).unwrap_or_default();
        let generation = newest.as_ref().map(|reported| reported.generation);
        match link.report(generation, &etag, json.as_deref(), Some(meter.read())).await {
            Ok(()) => {
                unsent = false;
                said = false;
            }
            Err(error) if !said => {
                tracing::warn!(error = chain(&error), "the report was not taken; trying again");
                said = true;
            }
            Err(_) => {}
        }
    }
}
