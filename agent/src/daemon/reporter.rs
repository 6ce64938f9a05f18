//! Takes reports and metrics to the coordinator. How things stand is the newest report's to say; what reports that could not
//! be sent have to tell (drift that was put back, notes) goes with it. It is lost with the agent's process; the journal has it.

use std::time::Duration;

use muster_ids::{Digest, Generation};
use muster_plan::Report;
use tokio::{sync::mpsc, time};

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

impl Reported {
    fn with_untold(self, earlier: &Self) -> Self {
        Self { report: self.report.with_untold(&earlier.report), ..self }
    }
}

/// Sends a report as soon as it is there, and metrics every ten seconds; ends with the reports' sender.
pub(super) async fn run(link: Link, mut meter: Meter, mut reports: mpsc::UnboundedReceiver<Reported>) {
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut newest: Option<Reported> = None;
    let mut unsent = false;
    let mut said = false;
    loop {
        let mut came = tokio::select! {
            came = reports.recv() => match came {
                Some(came) => Some(came),
                None => return,
            },
            _ = ticks.tick() => None,
        };
        // More than one, where the coordinator took long to answer.
        while let Some(report) = came.take().or_else(|| reports.try_recv().ok()) {
            newest = Some(match &newest {
                Some(earlier) if unsent => report.with_untold(earlier),
                Some(_) | None => report,
            });
            unsent = true;
        }
        if link.enrolled().is_none() {
            continue;
        }
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
