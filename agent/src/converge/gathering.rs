//! Packages on their way into one run of apt: each transaction costs seconds, whatever is in it.

use std::time::Duration;

use muster_catalog::{Catalog, Spec};
use muster_plan::schedule::Schedule;
use tokio::time::Instant;

/// How long packages that are ready wait for others that will be soon.
const GATHER: Duration = Duration::from_secs(3);

/// Packages that are ready, waiting to be one run of apt.
#[derive(Default)]
pub struct Gathering {
    steps: Vec<usize>,
    /// Removals that wait for others to go with.
    pub deferred: Vec<usize>,
    since: Option<Instant>,
    /// A run of apt is under way.
    pub running: bool,
}

impl Gathering {
    pub fn add(&mut self, step: usize) {
        self.steps.push(step);
        self.since.get_or_insert_with(Instant::now);
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.deferred.is_empty()
    }

    pub fn take(&mut self) -> Vec<usize> {
        self.since = None;
        self.running = true;
        let mut steps = std::mem::take(&mut self.steps);
        steps.append(&mut self.deferred);
        steps
    }

    pub fn deadline(&self) -> Option<Instant> {
        if self.running { None } else { self.since.map(|since| since + GATHER) }
    }

    /// It is time: no other package will be ready without these, or they waited long enough. What is deferred waits for
    /// others as long as some are coming.
    pub fn due(&self, schedule: &Schedule, catalog: &Catalog, idle: bool) -> bool {
        if self.running || self.is_empty() {
            return false;
        }
        if self.since.is_some_and(|since| since.elapsed() >= GATHER) {
            return true;
        }
        let mut coming = self.coming(schedule, catalog, &self.steps);
        // What waits for these removals will not be ready before them.
        (idle && self.steps.is_empty()) || !coming.any(|step| !schedule.is_gated(step))
    }

    /// Packages besides these and the deferred ones that will be ready without any of them.
    pub fn coming<'b>(
        &'b self,
        schedule: &'b Schedule,
        catalog: &'b Catalog,
        besides: &'b [usize],
    ) -> impl Iterator<Item = usize> + 'b {
        let is_package = move |step: usize| matches!(catalog.resource[step].spec, Spec::Package(_));
        (0..catalog.resource.len()).filter(move |&step| {
            is_package(step)
                && !schedule.ended(step)
                && !besides.contains(&step)
                && !self.deferred.contains(&step)
                && !schedule.all_before(step).into_iter().any(|before| is_package(before) && !schedule.ended(before))
        })
    }
}
