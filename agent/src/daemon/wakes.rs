//! Why and when to converge next, as pure functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_ids::ResourceId;
use muster_plan::{Outcome, Report, Skip};
use tokio::time::Instant;

/// Wakes that wait for the converge under way, made one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pending {
    full: Option<&'static str>,
    only: BTreeSet<ResourceId>,
}

/// What to converge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) woken_by: &'static str,
    /// None: everything.
    pub(super) only: Option<BTreeSet<ResourceId>>,
}

impl Pending {
    /// Everything is to be looked at. The first reason stays.
    pub(super) fn everything(&mut self, woken_by: &'static str) {
        self.full.get_or_insert(woken_by);
    }

    pub(super) fn drift(&mut self, resource: ResourceId) {
        self.only.insert(resource);
    }

    /// Leaves out what rests: its retry looks at it. When the first of what was left out has rested, if something was.
    pub(super) fn spare(&mut self, resting: &Resting, now: Instant) -> Option<Instant> {
        let mut first: Option<Instant> = None;
        self.only.retain(|resource| match resting.get(resource).filter(|until| **until > now) {
            Some(until) => {
                first = Some(first.map_or(*until, |first| first.min(*until)));
                false
            }
            None => true,
        });
        first
    }

    /// What is due, if something is; nothing is pending after it. A full converge covers every drift.
    pub(super) fn take(&mut self) -> Option<Due> {
        let Self { full, only } = std::mem::take(self);
        match full {
            Some(woken_by) => Some(Due { woken_by, only: None }),
            None if only.is_empty() => None,
            None => Some(Due { woken_by: "drift", only: Some(only) }),
        }
    }
}

/// How soon a converge is worth repeating, from how it ended; none: the timer is soon enough.
///
/// What waits for others (a turn, an API server that is being born) is asked for again within a second or two, because
/// somebody's `up` waits for it, and less and less often; what failed and may pass, more slowly.
pub(super) fn again(report: &Report, repeats: u32, now: i64) -> Option<Duration> {
    let mut soonest: Option<Duration> = None;
    let mut sooner = |wait: Duration| soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
    if report.node_ready == Some(false) {
        // Nothing here changes when kubelet becomes ready, and somebody waits to be told.
        sooner(grown(Duration::from_millis(500), repeats, Duration::from_secs(5)));
    }
    if !report.workloads.is_empty() {
        sooner(grown(Duration::from_millis(500), repeats, Duration::from_secs(30)));
    }
    for step in &report.steps {
        match &step.outcome {
            Outcome::Skipped { why: Skip::Waits { .. } | Skip::Turn { .. } } => {
                sooner(grown(Duration::from_millis(500), repeats, Duration::from_secs(5)));
            }
            Outcome::Skipped { why: Skip::NotTheLeader { .. } } => sooner(Duration::from_secs(15)),
            Outcome::Skipped { why: Skip::Contested { until } | Skip::Paused { until } } => {
                sooner(Duration::from_secs(u64::try_from(until - now).unwrap_or(0) + 1));
            }
            Outcome::Failed { retry: true, .. } => {
                sooner(rest(repeats));
            }
            Outcome::Failed { retry: false, .. }
            | Outcome::Skipped { why: Skip::Guard }
            | Outcome::AlreadyRight
            | Outcome::Done
            | Outcome::Blocked { .. } => {}
        }
    }
    soonest
}

/// How long what ended badly is left alone, whatever is heard of it: what keeps failing is heard of again and again because
/// of its own failures.
pub(super) fn rest(repeats: u32) -> Duration {
    grown(Duration::from_secs(2), repeats, Duration::from_secs(60))
}

/// What waits for something outside is looked at as soon as something is heard of it, within reason: its link may be up
/// again.
const WAITS: Duration = Duration::from_millis(500);

/// What a converge left open, and until when it is left alone.
pub(super) type Resting = BTreeMap<ResourceId, Instant>;

pub(super) fn resting(report: &Report, repeats: u32, now: Instant) -> Resting {
    let until = |step: &muster_plan::StepReport| match &step.outcome {
        Outcome::AlreadyRight | Outcome::Done => None,
        Outcome::Skipped { why: Skip::Waits { .. } } => Some(now + WAITS.min(rest(repeats))),
        Outcome::Skipped { .. } | Outcome::Blocked { .. } | Outcome::Failed { .. } => Some(now + rest(repeats)),
    };
    report.steps.iter().filter_map(|step| Some((step.resource.clone(), until(step)?))).collect()
}

fn grown(first: Duration, repeats: u32, most: Duration) -> Duration {
    // Half as long again each time.
    (0..repeats.min(20)).fold(first, |wait, _| (wait * 3 / 2).min(most))
}

/// What a converge left open.
fn bad(report: &Report) -> BTreeSet<ResourceId> {
    let unfinished = |outcome: &Outcome| match outcome {
        Outcome::AlreadyRight | Outcome::Done => false,
        Outcome::Skipped { .. } | Outcome::Blocked { .. } | Outcome::Failed { .. } => true,
    };
    let steps = report.steps.iter().filter(|step| unfinished(&step.outcome));
    steps.map(|step| step.resource.clone()).collect()
}

/// Whether a converge ended as the one before did, so that repeating it at once would be of no use.
pub(super) fn no_progress(before: &Report, after: &Report) -> bool {
    let done = after.steps.iter().any(|step| step.outcome == Outcome::Done);
    // Why a pod does not start changes while nothing moves.
    let open = |report: &Report| report.workloads.iter().map(ToString::to_string).collect::<Vec<_>>();
    !done && bad(before) == bad(after) && open(before) == open(after)
}

#[cfg(test)]
mod tests {
    use muster_plan::{StepReport, Workload};

    use super::*;

    fn ended(outcomes: &[Outcome]) -> Report {
        let steps = outcomes.iter().enumerate().map(|(n, outcome)| StepReport {
            resource: ResourceId::new("file", format!("/{n}")),
            outcome: outcome.clone(),
            detail: vec![],
            notes: vec![],
            took: 0,
        });
        Report { steps: steps.collect(), ..Report::default() }
    }

    fn waits() -> Outcome {
        Outcome::Skipped { why: Skip::Waits { what: "the API server to answer".to_owned() } }
    }

    fn fails(retry: bool) -> Outcome {
        Outcome::Failed { error: "no".to_owned(), help: None, retry }
    }

    #[test]
    fn wakes_become_one() {
        let mut pending = Pending::default();
        assert_eq!(pending.take(), None);
        let file = ResourceId::new("file", "/etc/x");
        pending.drift(file.clone());
        pending.drift(file.clone());
        assert_eq!(pending.take(), Some(Due { woken_by: "drift", only: Some([file.clone()].into()) }));
        pending.drift(file);
        pending.everything("push");
        pending.everything("timer");
        assert_eq!(pending.take(), Some(Due { woken_by: "push", only: None }));
        assert_eq!(pending.take(), None);
    }

    #[test]
    fn what_ended_badly_is_spared_by_drift_and_by_nothing_else() {
        let (failed, other) = (ResourceId::new("service", "x"), ResourceId::new("file", "/etc/x"));
        let now = Instant::now();
        let until = now + Duration::from_secs(2);
        let resting = [(failed.clone(), until)].into();
        let mut pending = Pending::default();
        pending.drift(failed.clone());
        assert_eq!(pending.spare(&resting, now), Some(until));
        assert_eq!(pending.take(), None);
        pending.drift(failed.clone());
        assert_eq!(pending.spare(&resting, until), None, "it has rested");
        assert!(pending.take().is_some());
        pending.drift(failed.clone());
        pending.drift(other.clone());
        assert_eq!(pending.spare(&resting, now), Some(until));
        assert_eq!(pending.take(), Some(Due { woken_by: "drift", only: Some([other].into()) }));
        pending.drift(failed);
        pending.everything("push");
        pending.spare(&resting, now);
        assert_eq!(pending.take(), Some(Due { woken_by: "push", only: None }));
        assert!(rest(0) == Duration::from_secs(2) && rest(100) == Duration::from_secs(60));
    }

    #[test]
    fn what_waits_is_heard_at_once_and_what_fails_rests_ever_longer() {
        let now = Instant::now();
        let rests = |outcome, repeats| {
            resting(&ended(&[outcome]), repeats, now).into_values().next().map(|until| until.duration_since(now))
        };
        for (repeats, fails_for) in [(0, 2), (100, 60)] {
            assert_eq!(rests(waits(), repeats), Some(Duration::from_millis(500)));
            assert_eq!(rests(fails(true), repeats), Some(Duration::from_secs(fails_for)));
        }
        assert_eq!(rests(Outcome::Done, 0), None);
    }

    #[test]
    fn what_waits_is_asked_again_soon_and_what_only_an_edit_mends_is_not() {
        assert_eq!(again(&ended(&[Outcome::Done]), 0, 0), None);
        assert_eq!(again(&ended(&[fails(false)]), 0, 0), None);
        assert_eq!(again(&ended(&[fails(true), waits()]), 0, 0), Some(Duration::from_millis(500)));
        assert_eq!(again(&ended(&[fails(true)]), 0, 0), Some(Duration::from_secs(2)));
        assert_eq!(again(&ended(&[waits()]), 100, 0), Some(Duration::from_secs(5)));
        assert_eq!(again(&ended(&[fails(true)]), 100, 0), Some(Duration::from_secs(60)));
        let web = |why: &str| Workload {
            name: "shop/web".to_owned(),
            open: "1 of 2 pods are available".to_owned(),
            why: Some(why.to_owned()),
            lasting: true,
        };
        let rolls = Report { workloads: vec![web("ErrImagePull")], ..ended(&[]) };
        assert_eq!(again(&rolls, 0, 0), Some(Duration::from_millis(500)));
        assert_eq!(again(&rolls, 100, 0), Some(Duration::from_secs(30)));
        assert!(no_progress(&rolls, &Report { workloads: vec![web("ImagePullBackOff")], ..ended(&[]) }));
        assert!(!no_progress(&rolls, &ended(&[])));
        let contested = Outcome::Skipped { why: Skip::Contested { until: 130 } };
        assert_eq!(again(&ended(&[contested]), 0, 100), Some(Duration::from_secs(31)));
    }

    #[test]
    fn progress_starts_the_waits_anew() {
        let stuck = ended(&[waits(), fails(true)]);
        assert!(no_progress(&stuck, &stuck));
        assert!(!no_progress(&stuck, &ended(&[waits(), Outcome::Done])));
        assert!(!no_progress(&stuck, &ended(&[waits()])));
    }
}
