//! The walk along the graph: what is ready runs, as much at once as helps.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use muster_catalog::{Catalog, Spec, kinds::Cost};
use muster_ids::ResourceId;
use muster_plan::{
    Outcome, Skip, StepReport,
    kinds::{Change, Describe, Observed},
    schedule::{End, Schedule},
};
use tokio::time::Instant;

use super::{
    ConvergeError, Ends, Engine, Options, Progress,
    disruption::Disruption,
    gathering::Gathering,
    left,
    look::{Seen, look},
    packages,
    step::{Ended, Step, digest},
};
use crate::{Context, StepError, kinds::package, ports::FileError};

/// Steps under way at once. Most of them wait for a program or a network.
const AT_ONCE: usize = 12;
/// Besides, so many units: they wait for systemd, and then to see that they stand.
const UNITS_AT_ONCE: usize = 64;
/// So many resources are named, where any of them may be to blame.
const MOST_NAMED: usize = 4;

/// One converge under way.
pub struct Walk<'a> {
    engine: &'a Engine,
    ctx: Context,
    catalog: Arc<Catalog>,
    options: &'a Options,
    /// None where the first look saw everything right.
    schedule: Option<Schedule>,
    seen: Vec<Seen>,
    /// Steps that this converge takes for right unseen.
    left_out: Vec<bool>,
}

/// How steps that ran together ended, and those that come again with others.
type Batch = (Vec<(usize, Duration, Result<Ended, StepError>)>, Vec<usize>);

impl<'a> Walk<'a> {
    /// The first look.
    pub async fn begin(
        engine: &'a Engine,
        catalog: &Arc<Catalog>,
        options: &'a Options,
    ) -> Result<Self, ConvergeError> {
        let ctx = engine.scoped(catalog);
        let catalog = Arc::clone(catalog);
        let count = catalog.resource.len();
        let mut left_out = vec![false; count];
        let mut wanted: Vec<usize> = (0..count).collect();
        if let Some(only) = &options.only {
            let pending: BTreeSet<ResourceId> = engine.ledger.read(|ledger| ledger.pending.keys().cloned().collect());
            let takes_part = |step: &usize| {
                let resource = &catalog.resource[*step];
                let id = resource.id();
                // What never was as written is for the whole converge, in its order.
                let was_right = || {
                    let digest = digest(&resource.spec);
                    engine.ledger.read(|ledger| ledger.right.get(&id) == Some(&digest))
                };
                (only.contains(&id) || pending.contains(&id)) && was_right()
            };
            wanted.retain(takes_part);
            left_out = vec![true; count];
            for &step in &wanted {
                left_out[step] = false;
            }
        }
        if options.paused_until.is_none() {
            left::settle(&ctx).await;
        }
        if options.only.is_none() && options.paused_until.is_none() {
            package::refresh(&ctx, &catalog).await;
        }
        let seen = look(&ctx, &catalog, &wanted, false).await;
        let quiet = ctx.packages.owed().await.is_empty()
            && engine.ledger.read(|ledger| ledger.pending.is_empty())
            && (0..count).all(|step| left_out[step] || matches!(seen[step], Seen::Right));
        let schedule = if quiet { None } else { Some(Schedule::new(&catalog.resource)?) };
        Ok(Self { engine, ctx, catalog, options, schedule, seen, left_out })
    }

    pub async fn run(mut self) -> Ends {
        let mut ends = Ends::default();
        let count = self.catalog.resource.len();
        let mut right: Vec<usize> = Vec::new();
        if let Some(schedule) = self.schedule.take() {
            self.walk(schedule, &mut ends, &mut right).await;
        } else {
            let looked = self.left_out.iter().filter(|&&out| !out).count();
            ends.already_right = looked as u32;
            right.extend((0..count).filter(|&step| !self.left_out[step]));
        }
        if let Err(error) = self.remember(&mut ends, &right) {
            // How the steps ended has to be told all the same, above all where the disk is full.
            tracing::error!(%error, cause = %error.source, "what this converge did cannot be remembered");
        }
        ends
    }

    async fn walk(&mut self, mut schedule: Schedule, ends: &mut Ends, right: &mut Vec<usize>) {
        let disruption = Disruption::new(self.ctx.clone(), Arc::clone(&self.engine.health));
        let (catalog, ctx, ledger) = (Arc::clone(&self.catalog), self.ctx.clone(), self.engine.ledger.clone());
        let step_of = |step: usize| Step {
            ctx: &ctx,
            ledger: &ledger,
            disruption: &disruption,
            resource: &catalog.resource[step],
            id: catalog.resource[step].id(),
        };
        let mut running: FuturesUnordered<BoxFuture<'_, Batch>> = FuturesUnordered::new();
        let mut waiting: Vec<usize> = Vec::new();
        let mut packages = Gathering::default();
        // Those of `running` that are units.
        let mut units = 0;
        loop {
            while let Some(step) = schedule.take() {
                match self.decide(&schedule, step) {
                    Decision::Right => {
                        right.push(step);
                        ends.already_right += u32::from(!self.left_out[step]);
                        schedule.end(step, End::Right);
                    }
                    Decision::Ends(outcome, detail) => {
                        let passes = matches!(outcome, Outcome::Skipped { why: Skip::NotTheLeader { .. } });
                        self.tell(
                            ends,
                            StepReport {
                                resource: schedule.id(step).clone(),
                                outcome,
                                detail,
                                notes: Vec::new(),
                                took: 0,
                            },
                        );
                        schedule.end(step, if passes { End::Right } else { End::Bad });
                    }
                    Decision::Package => packages.add(step),
                    Decision::Run => waiting.push(step),
                }
            }
            if self.options.stop.is_cancelled() && !(waiting.is_empty() && packages.is_empty()) {
                for step in waiting.drain(..).chain(packages.take()) {
                    let resource = schedule.id(step).clone();
                    self.tell(
                        ends,
                        StepReport { resource, outcome: stopping(), detail: Vec::new(), notes: Vec::new(), took: 0 },
                    );
                    schedule.end(step, End::Bad);
                }
                continue;
            }
            let is_unit = |step: usize| catalog.resource[step].spec.cost() == Cost::Unit;
            while let Some(next) = waiting
                .iter()
                .position(|&step| if is_unit(step) { units < UNITS_AT_ONCE } else { running.len() - units < AT_ONCE })
            {
                let step = waiting.remove(next);
                units += usize::from(is_unit(step));
                self.say(Progress::Began(schedule.id(step).clone()));
                let seen = self.usable(&schedule, step);
                let work = step_of(step);
                running.push(Box::pin(async move {
                    let began = Instant::now();
                    let end = work.run(seen).await;
                    (vec![(step, began.elapsed(), end)], Vec::new())
                }));
            }
            if packages.due(&schedule, &catalog, running.is_empty()) {
                let steps = packages.take();
                let more = packages.coming(&schedule, &catalog, &steps).next().is_some();
                for &step in &steps {
                    self.say(Progress::Began(schedule.id(step).clone()));
                }
                let batch: Vec<_> = steps.into_iter().map(|step| (step, step_of(step))).collect();
                let catalog = &catalog;
                running.push(Box::pin(async move {
                    let began = Instant::now();
                    let all = packages::run(catalog, batch, more).await;
                    let ends = all.ends.into_iter().map(|(step, end)| (step, began.elapsed(), end));
                    (ends.collect(), all.deferred)
                }));
            }
            let deadline = async {
                match packages.deadline() {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            if running.is_empty() && packages.is_empty() {
                break;
            }
            let stop = self.options.stop.cancelled();
            let ended = tokio::select! {
                ended = running.next(), if !running.is_empty() => ended,
                () = deadline => continue,
                () = stop, if !self.options.stop.is_cancelled() => continue,
            };
            let Some((ended, deferred)) = ended else { break };
            for step in deferred {
                packages.running = false;
                packages.deferred.push(step);
                schedule.defer(step);
            }
            for (step, took, end) in ended {
                let package = matches!(catalog.resource[step].spec, Spec::Package(_));
                packages.running &= !package;
                units -= usize::from(is_unit(step));
                let end = self.ended(&schedule, ends, right, step, took, end);
                schedule.end(step, end);
            }
        }
        debug_assert!(schedule.finished());
        if self.options.only.is_none() && self.options.paused_until.is_none() && !self.options.stop.is_cancelled() {
            self.settle(&schedule, ends, right, step_of).await;
        }
        if !self.options.stop.is_cancelled() {
            self.look_once_more(&schedule, ends, right).await;
        }
    }

    /// What was right until something that was done after it took it back has failed: a unit that another one excludes, a
    /// setting that another one resets.
    async fn look_once_more(&self, schedule: &Schedule, ends: &mut Ends, right: &mut Vec<usize>) {
        let did = |report: &StepReport| matches!(report.outcome, Outcome::Done | Outcome::Failed { .. });
        if !ends.steps.iter().any(did) {
            return;
        }
        let mut doubtful: Vec<usize> = right.clone();
        doubtful.retain(|&step| !self.left_out[step] && self.catalog.resource[step].spec.undone_by_others());
        let mut seen = Vec::new();
        // A unit that systemd restarts along with another is on its way for a moment.
        for pause in [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)] {
            if doubtful.is_empty() {
                return;
            }
            tokio::time::sleep(pause).await;
            seen = look(&self.ctx, &self.catalog, &doubtful, false).await;
            doubtful.retain(|&step| matches!(&seen[step], Seen::Differs(seen) if !seen.1.of_our_doing()));
        }
        for step in doubtful {
            let Seen::Differs(differs) = &seen[step] else { continue };
            right.retain(|&other| other != step);
            let id = schedule.id(step).clone();
            let before = ends.steps.iter().position(|report| report.resource == id).map(|at| ends.steps.remove(at));
            ends.already_right -= u32::from(before.is_none());
            let others = ends.steps.iter().filter(|report| did(report)).map(|report| report.resource.to_string());
            let others: Vec<String> = others.take(MOST_NAMED).collect();
            let error = StepError::failed(format!(
                "it was as written, and is not any more at the end of this converge: {}",
                differs.1.detail().join("; ")
            ));
            let error = error.help(format!(
                "what was done after it took it back: does it exclude {}, or reset it?",
                if others.is_empty() { "another resource".to_owned() } else { others.join(" or ") }
            ));
            let took = before.map_or(0, |report| report.took);
            let outcome = error.retry().into_outcome();
            self.tell(ends, StepReport { resource: id, outcome, detail: Vec::new(), notes: Vec::new(), took });
        }
    }

    /// Starts anew what an upgrade left running, where no step of its own did so.
    async fn settle<'b>(
        &self,
        schedule: &Schedule,
        ends: &mut Ends,
        right: &mut Vec<usize>,
        step_of: impl Fn(usize) -> Step<'b>,
    ) {
        let left = packages::settle(&self.ctx, &self.catalog).await;
        for step in left.steps {
            // A step that failed or waits for its turn says so already.
            let Some(at) = right.iter().position(|&other| other == step) else { continue };
            right.remove(at);
            let id = schedule.id(step);
            let told = ends.steps.iter().position(|report| report.resource == *id);
            let before = told.map(|at| ends.steps.remove(at));
            ends.already_right -= u32::from(before.is_none());
            self.say(Progress::Began(id.clone()));
            let began = Instant::now();
            let mut end = step_of(step).run(None).await;
            if let (Ok(ended), Some(before)) = (&mut end, before) {
                let mut lines = before.detail;
                lines.extend(ended.done.take().unwrap_or_default());
                ended.done = Some(lines);
                ended.notes.splice(0..0, before.notes);
            }
            self.ended(schedule, ends, right, step, began.elapsed(), end);
        }
        for (package, line) in left.restarted {
            tracing::info!(package, "{line}");
            let is_it = |report: &StepReport| report.resource.kind() == "package" && report.outcome == Outcome::Done;
            let own = |report: &StepReport| is_it(report) && report.resource.name() == package;
            let at = ends.steps.iter().position(own).or_else(|| ends.steps.iter().position(is_it));
            if let Some(at) = at {
                ends.steps[at].notes.push(line);
            }
        }
    }

    /// What becomes of a step that is ready.
    fn decide(&mut self, schedule: &Schedule, step: usize) -> Decision {
        let id = schedule.id(step);
        let told = self.engine.ledger.read(|ledger| ledger.pending.contains_key(id));
        if self.left_out[step] {
            // What was put back tells it now: what runs by somebody's change runs by it until then.
            let resource = &self.catalog.resource[step];
            let was_right = self.engine.ledger.read(|ledger| ledger.right.get(id) == Some(&digest(&resource.spec)));
            if !(told && was_right) {
                return Decision::Right;
            }
            self.left_out[step] = false;
        }
        let right = matches!(self.seen[step], Seen::Right);
        let culprit = schedule.culprit(step);
        // What is as written needs nothing of what failed before it.
        if right && !told && (!schedule.touched(step) || culprit.is_some()) {
            return Decision::Right;
        }
        if let Some(by) = culprit {
            return Decision::Ends(Outcome::Blocked { by: by.clone() }, Vec::new());
        }
        let detail = match &self.seen[step] {
            Seen::Differs(seen) => seen.1.detail(),
            Seen::Nothing | Seen::Right | Seen::Error(_) => Vec::new(),
        };
        let now = self.ctx.clock.now();
        if let Some(until) = self.options.paused_until.filter(|&until| until > now) {
            return Decision::Ends(Outcome::Skipped { why: Skip::Paused { until } }, detail);
        }
        if let Some(until) = self.engine.ledger.read(|ledger| ledger.truce(id, now)) {
            return Decision::Ends(Outcome::Skipped { why: Skip::Contested { until } }, detail);
        }
        if self.options.stop.is_cancelled() {
            return Decision::Ends(stopping(), detail);
        }
        match &self.catalog.resource[step].spec {
            Spec::Package(_) => Decision::Package,
            _other => Decision::Run,
        }
    }

    /// The first look's difference, where nothing changed before it since.
    fn usable(&mut self, schedule: &Schedule, step: usize) -> Option<(Observed, Change)> {
        match std::mem::take(&mut self.seen[step]) {
            Seen::Differs(seen) if !schedule.touched(step) => Some(*seen),
            Seen::Differs(_) | Seen::Nothing | Seen::Right | Seen::Error(_) => None,
        }
    }

    fn ended(
        &self,
        schedule: &Schedule,
        ends: &mut Ends,
        right: &mut Vec<usize>,
        step: usize,
        took: Duration,
        end: Result<Ended, StepError>,
    ) -> End {
        let id = schedule.id(step).clone();
        let (outcome, detail, notes, end) = match end {
            Ok(Ended { done: None, .. }) => {
                ends.already_right += 1;
                right.push(step);
                return End::Right;
            }
            Ok(Ended { done: Some(detail), notes, repaired }) => {
                if repaired && !follows(schedule, ends, step) {
                    ends.drift.push(id.clone());
                }
                right.push(step);
                (Outcome::Done, detail, notes, End::Changed)
            }
            Err(error) => {
                if follows(schedule, ends, step) {
                    ends.open.push(id.clone());
                }
                let outcome = error.into_outcome();
                let end = match &outcome {
                    // Another's to do, and as good as done for what comes after it here.
                    Outcome::Skipped { why: Skip::NotTheLeader { .. } } => End::Right,
                    Outcome::AlreadyRight
                    | Outcome::Done
                    | Outcome::Skipped { .. }
                    | Outcome::Blocked { .. }
                    | Outcome::Failed { .. } => End::Bad,
                };
                (outcome, Vec::new(), Vec::new(), end)
            }
        };
        self.tell(ends, StepReport { resource: id, outcome, detail, notes, took: took.as_millis() as u64 });
        end
    }

    fn tell(&self, ends: &mut Ends, step: StepReport) {
        self.say(Progress::Ended(step.clone()));
        ends.steps.push(step);
    }

    fn say(&self, progress: Progress) {
        if let Some(listener) = &self.options.progress {
            // Nobody listens any more: nothing to do about it.
            let _ = listener.send(progress);
        }
    }

    /// What was right is written down, so that a later difference is known for drift; repairs are counted.
    fn remember(&self, ends: &mut Ends, right: &[usize]) -> Result<(), FileError> {
        let now = self.ctx.clock.now();
        let catalog = &self.catalog;
        let whole = self.options.only.is_none();
        let quiet = ends.steps.is_empty()
            && self.engine.ledger.read(|ledger| {
                ledger.generation == Some(catalog.generation)
                    && (!whole || ledger.right.len() == right.len())
                    && ledger.contested.is_empty()
            });
        if quiet {
            return Ok(());
        }
        self.engine.ledger.change(|ledger| {
            ledger.generation = Some(catalog.generation);
            ledger.tidy(now);
            if whole {
                let kept: BTreeSet<ResourceId> = catalog.resource.iter().map(|resource| resource.id()).collect();
                ledger.right.retain(|id, _| kept.contains(id));
                ledger.pending.retain(|id, _| kept.contains(id));
            }
            for id in &ends.open {
                ledger.right.remove(id);
            }
            for &step in right {
                let resource = &catalog.resource[step];
                ledger.right.insert(resource.id(), digest(&resource.spec));
            }
            for id in &ends.drift {
                if ledger.repaired(id, now) {
                    tracing::warn!(resource = %id, "put back five times in an hour: left alone for ten minutes");
                }
            }
        })?;
        Ok(())
    }
}

/// Something before it changed, and not because somebody's change was put back: what differs after that follows from the site.
fn follows(schedule: &Schedule, ends: &Ends, step: usize) -> bool {
    schedule.touched(step)
        && schedule.all_before(step).into_iter().any(|before| {
            let id = schedule.id(before);
            let done = || ends.steps.iter().any(|step| step.resource == *id && step.outcome == Outcome::Done);
            // The first of a chain decides: what comes after it may only have been told.
            !schedule.touched(before) && !ends.drift.contains(id) && done()
        })
}

/// Why a step is left when the agent is told to stop.
fn stopping() -> Outcome {
    Outcome::Skipped { why: Skip::Waits { what: "the agent to go on: it stops, or has a newer catalog".to_owned() } }
}

enum Decision {
    Right,
    Ends(Outcome, Vec<String>),
    Package,
    Run,
}
