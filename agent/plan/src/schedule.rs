//! Which step may be taken when: the graph of `after` and `notify` edges, walked without any IO.
//!
//! Removals that depend on nothing that stays go first. A step is handed out when all before it have ended, well or badly;
//! what a bad end means for it is the engine's to decide (see [`Schedule::culprit`]).

use std::collections::{HashMap, VecDeque};

use muster_catalog::Resource;
use muster_ids::ResourceId;

/// A catalog whose edges make no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("these wait for one another: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Cycle(Vec<ResourceId>),
    #[error("{from} names {to}, and the catalog has no such resource")]
    Unknown { from: ResourceId, to: ResourceId },
    #[error("two resources are called {0}")]
    Twice(ResourceId),
}

/// How a step ended, as far as those behind it care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Right,
    Changed,
    /// Failed, skipped or blocked.
    Bad,
}

/// The walk over one catalog. Steps are indices into the resources it was made of.
#[derive(Debug)]
pub struct Schedule {
    ids: Vec<ResourceId>,
    index: HashMap<ResourceId, usize>,
    before: Vec<Vec<usize>>,
    behind: Vec<Vec<usize>>,
    notifies: Vec<Vec<usize>>,
    /// Removals that go before everything else.
    early: Vec<bool>,
    early_left: usize,
    waits_for: Vec<usize>,
    /// Something before it changed, however far.
    touched: Vec<bool>,
    culprit: Vec<Option<usize>>,
    ended: Vec<bool>,
    ready: VecDeque<usize>,
    /// Free of edges, but behind the early removals.
    gated: Vec<usize>,
    left: usize,
}

impl Schedule {
    pub fn new(resources: &[Resource]) -> Result<Self, ScheduleError> {
        let count = resources.len();
        let ids: Vec<ResourceId> = resources.iter().map(Resource::id).collect();
        let mut index = HashMap::with_capacity(count);
        for (step, id) in ids.iter().enumerate() {
            if index.insert(id.clone(), step).is_some() {
                return Err(ScheduleError::Twice(id.clone()));
            }
        }
        let mut before = vec![Vec::new(); count];
        let mut notifies = vec![Vec::new(); count];
        for (step, resource) in resources.iter().enumerate() {
            let find = |to: &ResourceId| {
                index.get(to).copied().ok_or_else(|| ScheduleError::Unknown { from: ids[step].clone(), to: to.clone() })
            };
            for after in &resource.after {
                before[step].push(find(after)?);
            }
            for target in &resource.notify {
                let target = find(target)?;
                notifies[step].push(target);
                before[target].push(step);
            }
        }
        let mut behind = vec![Vec::new(); count];
        for (step, all) in before.iter_mut().enumerate() {
            all.sort_unstable();
            all.dedup();
            for &other in all.iter() {
                behind[other].push(step);
            }
        }
        let order = order(&ids, &before, &behind)?;
        let mut early = vec![false; count];
        for step in order {
            early[step] = resources[step].spec.absent() && before[step].iter().all(|&other| early[other]);
        }
        let mut schedule = Self {
            waits_for: before.iter().map(Vec::len).collect(),
            early_left: early.iter().filter(|&&is| is).count(),
            touched: vec![false; count],
            culprit: vec![None; count],
            ended: vec![false; count],
            ready: VecDeque::new(),
            gated: Vec::new(),
            left: count,
            ids,
            index,
            before,
            behind,
            notifies,
            early,
        };
        for step in 0..count {
            if schedule.waits_for[step] == 0 {
                schedule.release(step);
            }
        }
        Ok(schedule)
    }

    /// The next step that may be taken, where one may.
    pub fn take(&mut self) -> Option<usize> {
        self.ready.pop_front()
    }

    /// Nothing is left to take or to end.
    pub fn finished(&self) -> bool {
        self.left == 0
    }

    pub fn id(&self, step: usize) -> &ResourceId {
        &self.ids[step]
    }

    pub fn step(&self, id: &ResourceId) -> Option<usize> {
        self.index.get(id).copied()
    }

    pub fn ended(&self, step: usize) -> bool {
        self.ended[step]
    }

    /// Those that a change of `step` tells.
    pub fn notifies(&self, step: usize) -> &[usize] {
        &self.notifies[step]
    }

    /// Something before it changed in this walk: what was seen of it earlier no longer counts.
    pub fn touched(&self, step: usize) -> bool {
        self.touched[step]
    }

    /// The first bad end that it depends on: the one that really failed, not one that was blocked by it.
    pub fn culprit(&self, step: usize) -> Option<&ResourceId> {
        self.culprit[step].map(|culprit| &self.ids[culprit])
    }

    /// All that stand before `step`, however far, in no order.
    pub fn all_before(&self, step: usize) -> Vec<usize> {
        let mut seen = vec![false; self.ids.len()];
        let mut todo = self.before[step].clone();
        let mut all = Vec::new();
        while let Some(other) = todo.pop() {
            if !std::mem::replace(&mut seen[other], true) {
                all.push(other);
                todo.extend(&self.before[other]);
            }
        }
        all
    }

    pub fn end(&mut self, step: usize, end: End) {
        debug_assert!(!self.ended[step], "{} ended twice", self.ids[step]);
        self.ended[step] = true;
        self.left -= 1;
        let touched = self.touched[step] || end == End::Changed;
        let culprit = match end {
            End::Bad => Some(self.culprit[step].unwrap_or(step)),
            End::Right | End::Changed => None,
        };
        for next in self.behind[step].clone() {
            self.touched[next] |= touched;
            if self.culprit[next].is_none() {
                self.culprit[next] = culprit;
            }
            self.waits_for[next] -= 1;
            if self.waits_for[next] == 0 {
                self.release(next);
            }
        }
        if self.early[step] {
            self.early_left -= 1;
            if self.early_left == 0 {
                self.ready.extend(std::mem::take(&mut self.gated));
            }
        }
    }

    /// Waits for removals that go before everything else.
    pub fn is_gated(&self, step: usize) -> bool {
        self.early_left > 0 && !self.early[step]
    }

    /// A removal that goes with the additions after all: nothing waits for it any more but what depends on it.
    pub fn defer(&mut self, step: usize) {
        if std::mem::take(&mut self.early[step]) {
            self.early_left -= 1;
            if self.early_left == 0 {
                self.ready.extend(std::mem::take(&mut self.gated));
            }
        }
    }

    fn release(&mut self, step: usize) {
        if self.early[step] || self.early_left == 0 {
            self.ready.push_back(step);
        } else {
            self.gated.push(step);
        }
    }
}

/// Kahn's order; what is left over is the cycle.
fn order(ids: &[ResourceId], before: &[Vec<usize>], behind: &[Vec<usize>]) -> Result<Vec<usize>, ScheduleError> {
    let mut waits_for: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..ids.len()).filter(|&step| waits_for[step] == 0).collect();
    let mut at = 0;
    while at < order.len() {
        for &next in &behind[order[at]] {
            waits_for[next] -= 1;
            if waits_for[next] == 0 {
                order.push(next);
            }
        }
        at += 1;
    }
    if order.len() == ids.len() {
        return Ok(order);
    }
    // From any step that is left, going back always stays among them and so comes around.
    let first = (0..ids.len()).find(|&step| waits_for[step] > 0).unwrap_or_default();
    let mut path = vec![first];
    loop {
        let last = path[path.len() - 1];
        let Some(&previous) = before[last].iter().find(|&&step| waits_for[step] > 0) else {
            return Err(ScheduleError::Cycle(path.iter().map(|&step| ids[step].clone()).collect()));
        };
        if let Some(start) = path.iter().position(|&step| step == previous) {
            let mut cycle: Vec<_> = path[start..].iter().map(|&step| ids[step].clone()).collect();
            cycle.reverse();
            return Err(ScheduleError::Cycle(cycle));
        }
        path.push(previous);
    }
}

#[cfg(test)]
mod tests {
    use muster_catalog::{Spec, kinds::group::GroupSpec};
    use proptest::prelude::*;

    use super::*;

    fn group(name: &str, absent: bool, after: &[&str]) -> Resource {
        Resource {
            after: after.iter().map(|name| ResourceId::new("group", *name)).collect(),
            notify: Vec::new(),
            spec: Spec::Group(GroupSpec { name: name.into(), gid: None, system: false, absent }),
        }
    }

    fn walk(resources: &[Resource], mut end: impl FnMut(usize) -> End) -> (Schedule, Vec<usize>) {
        let mut schedule = Schedule::new(resources).unwrap();
        let mut order = Vec::new();
        while let Some(step) = schedule.take() {
            order.push(step);
            schedule.end(step, end(step));
        }
        (schedule, order)
    }

    #[test]
    fn removals_go_first_where_nothing_holds_them() {
        let resources = [group("a", false, &[]), group("b", true, &[]), group("c", true, &["a"])];
        let (schedule, order) = walk(&resources, |_| End::Right);
        assert_eq!(order, [1, 0, 2]);
        assert!(schedule.finished());
    }

    #[test]
    fn a_removal_that_is_deferred_lets_the_additions_go_and_ends_with_them() {
        let resources = [group("a", true, &[]), group("b", false, &[])];
        let mut schedule = Schedule::new(&resources).unwrap();
        assert_eq!((schedule.take(), schedule.take()), (Some(0), None));
        assert!(schedule.is_gated(1) && !schedule.is_gated(0));
        schedule.defer(0);
        assert!(!schedule.is_gated(1));
        schedule.defer(0);
        assert_eq!((schedule.take(), schedule.take()), (Some(1), None));
        schedule.end(1, End::Right);
        schedule.end(0, End::Changed);
        assert!(schedule.finished());
    }

    #[test]
    fn the_one_that_failed_is_named_and_others_go_on() {
        let resources =
            [group("a", false, &[]), group("b", false, &["a"]), group("c", false, &["b"]), group("d", false, &[])];
        let (schedule, _) = walk(&resources, |step| if step < 2 { End::Bad } else { End::Right });
        assert_eq!(schedule.culprit(2), Some(&ResourceId::new("group", "a")));
        assert_eq!(schedule.culprit(3), None);
    }

    #[test]
    fn a_cycle_is_named_in_order() {
        let resources = [group("a", false, &["c"]), group("b", false, &["a"]), group("c", false, &["b"])];
        let Err(ScheduleError::Cycle(cycle)) = Schedule::new(&resources) else { panic!() };
        assert_eq!(cycle.len(), 3);
    }

    proptest! {
        #[test]
        fn every_step_comes_once_and_after_those_before_it(
            edges in proptest::collection::vec((0usize..12, 0usize..12), 0..30), absent in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let resources: Vec<Resource> = (0..12).map(|n| {
                // Edges point backwards only, so that there is no cycle.
                let after: Vec<String> =
                    edges.iter().filter(|(from, to)| *from == n && to < from).map(|(_, to)| format!("g{to}")).collect();
                group(&format!("g{n}"), absent[n], &after.iter().map(String::as_str).collect::<Vec<_>>())
            }).collect();
            let (schedule, order) = walk(&resources, |_| End::Changed);
            prop_assert!(schedule.finished());
            let mut at = order.clone();
            at.sort_unstable();
            prop_assert_eq!(at, (0..12).collect::<Vec<_>>());
            let place = |step| order.iter().position(|&other| other == step).unwrap();
            for (step, resource) in resources.iter().enumerate() {
                for after in &resource.after {
                    prop_assert!(place(schedule.step(after).unwrap()) < place(step));
                    prop_assert!(schedule.touched(step));
                }
            }
        }
    }
}
