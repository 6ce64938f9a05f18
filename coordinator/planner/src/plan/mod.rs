//! The planner: synchronous, seeded, the same answer for the same input.
//!
//! Each step looks at the draft that the steps before it left, changes what it is sure of, and reports what it waits
//! for. Planning again on its own result changes nothing: then the parent comes back as it was, generation and all.

mod allocate;
mod balance;
mod disks;
mod endpoints;
mod life;
mod scale;

pub(crate) use allocate::overlap;
pub use endpoints::{AddressTaken, addresses_taken};

use std::collections::{BTreeMap, BTreeSet};

use muster_ids::{Generation, NodeName, PoolName};

use crate::{
    blueprint::{Blueprint, NetworkPlan, NodeState},
    inventory::Seen,
    policy::{Policy, PoolPolicy},
    report::{Note, PlanReport, Step, StepReport, Waiting},
};

/// All that a planning depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub policy: &'a Policy,
    pub seen: &'a Seen,
    pub parent: Option<&'a Blueprint>,
    /// Names that an operator revoked, and those that were retired: none of them serves.
    pub revoked: &'a BTreeSet<NodeName>,
    /// The environment's own, made once and kept: tokens of two environments never meet.
    pub seed: u64,
}

/// More rounds than any input needs; a fault of ours would go on for ever.
const ROUNDS: usize = 100;

/// From what is wanted and what is known to what must exist.
pub fn plan(input: Input<'_>) -> (Blueprint, PlanReport) {
    let mut draft = Draft::new(input);
    for _ in 0..ROUNDS {
        let before = draft.next.clone();
        draft.step(Step::Birth, Draft::birth);
        draft.step(Step::Revoke, Draft::revoke);
        draft.step(Step::Retire, Draft::retire);
        draft.step(Step::Forget, Draft::forget);
        draft.step(Step::Adopt, Draft::adopt);
        draft.step(Step::Replace, Draft::replace);
        draft.step(Step::Grow, Draft::grow);
        draft.step(Step::Disks, Draft::place_disks);
        draft.step(Step::Shrink, Draft::shrink);
        draft.step(Step::Balance, Draft::balance);
        // What one step frees another may use: the end is where nothing moves any more.
        if draft.next == before {
            break;
        }
    }
    draft.finish()
}

/// A blueprint in the making.
struct Draft<'a> {
    input: Input<'a>,
    next: Blueprint,
    /// Nodes whose instance this planning asks for first: the only ones that can still be given a disk.
    fresh: BTreeSet<NodeName>,
    /// Instances of each pool that are taken back as soon as another reading says that their place is free.
    awaited: BTreeMap<PoolName, u32>,
    did: Vec<String>,
    waits: Vec<Waiting>,
    report: PlanReport,
}

impl<'a> Draft<'a> {
    fn new(input: Input<'a>) -> Self {
        let policy = input.policy;
        let mut next = input.parent.cloned().unwrap_or_else(|| Blueprint {
            parent: None,
            generation: Generation { epoch: 1, counter: 0 },
            cluster: policy.cluster.clone(),
            environment: policy.environment.clone(),
            site: policy.site,
            network: NetworkPlan { subnet: policy.subnet },
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            load_balancers: BTreeMap::new(),
            last_ordinal: BTreeMap::new(),
            born: false,
            sets: BTreeSet::new(),
            left_sets: BTreeSet::new(),
            refused: BTreeSet::new(),
        });
        next.site = policy.site;
        next.left_sets.append(&mut next.sets);
        next.left_sets.retain(|set| !policy.sets.contains(set));
        next.sets.clone_from(&policy.sets);
        Self {
            input,
            next,
            fresh: BTreeSet::new(),
            awaited: BTreeMap::new(),
            did: vec![],
            waits: vec![],
            report: PlanReport::default(),
        }
    }

    fn step(&mut self, step: Step, run: fn(&mut Self)) {
        run(self);
        let (did, waits) = (std::mem::take(&mut self.did), std::mem::take(&mut self.waits));
        let steps = &mut self.report.steps;
        match steps.iter_mut().find(|report| report.step == step) {
            // What was waited for a round ago may have happened since.
            Some(report) => {
                report.did.extend(did);
                report.waits = waits;
            }
            None => steps.push(StepReport { step, did, waits }),
        }
    }

    fn did(&mut self, what: impl Into<String>) {
        self.did.push(what.into());
    }

    fn waits(&mut self, why: Waiting) {
        self.waits.push(why);
    }

    fn ready(&self, node: &NodeName) -> bool {
        self.input.seen.cluster.ready.contains(node)
    }

    /// Pools of the site, and pools that left it while nodes of theirs remain (wanted: none).
    fn pools(&self) -> Vec<(PoolName, Option<&'a PoolPolicy>)> {
        let policy = self.input.policy;
        let mut pools: BTreeMap<_, _> = self.next.nodes.values().map(|node| (node.pool.clone(), None)).collect();
        pools.extend(policy.pools.iter().map(|(name, pool)| (name.clone(), Some(pool))));
        pools.into_iter().collect()
    }

    fn note(&mut self) {
        let left = self.next.disks.keys().filter(|disk| !self.input.policy.disks.contains_key(*disk));
        self.report.notes = left.map(|disk| Note::DiskKept { disk: disk.clone() }).collect();
        let mut older: BTreeMap<&str, Vec<NodeName>> = BTreeMap::new();
        for (name, node) in &self.next.nodes {
            if node.image != self.input.policy.node_image && node.state == NodeState::InService {
                older.entry(&node.image).or_default().push(name.clone());
            }
        }
        let notes = older.into_iter().map(|(image, nodes)| Note::OlderImage { image: image.to_owned(), nodes });
        self.report.notes.extend(notes);
    }

    fn finish(mut self) -> (Blueprint, PlanReport) {
        self.note();
        self.report.steps.retain(|step| !step.did.is_empty() || !step.waits.is_empty());
        match self.input.parent {
            Some(parent) if *parent == self.next => (parent.clone(), self.report),
            Some(parent) => {
                self.next.parent = Some(parent.digest());
                self.next.generation = parent.generation.next();
                (self.next, self.report)
            }
            None => {
                self.next.generation = self.next.generation.next();
                (self.next, self.report)
            }
        }
    }
}
