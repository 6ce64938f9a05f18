//! What a person who waits may expect of one status: the end, more of it, or nothing any more. Pure.

use std::collections::{BTreeMap, BTreeSet};

use muster_ids::NodeName;

use super::{NodeLife, NodeStatus, Problem, Status};
use crate::state::RolloutState;

/// How a wait goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// All is as written, apart from these nodes.
    Written { aside: Vec<NodeName> },
    /// Something moves, or may. `lasting`: and something else will not pass by itself.
    Moving { lasting: bool },
    /// Nothing moves by itself any more.
    Stuck(Stuck),
}

/// Why nothing moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// What was tried on one node first goes no further.
    Rollout { why: String },
    /// These fail for good, by problem: as the nodes reported last.
    Nodes(BTreeMap<(String, String, Option<String>), Vec<NodeName>>),
}

impl Status {
    /// Every node is as written and ready, what the site runs is rolled out, and nothing waits or fails.
    pub fn written(&self) -> bool {
        self.outlook(&BTreeSet::new()) == Outlook::Written { aside: vec![] }
    }

    /// What comes of waiting, where nobody waits for the nodes in `aside`.
    pub fn outlook(&self, aside: &BTreeSet<NodeName>) -> Outlook {
        if let Some(why) = self.rollout_ends(aside) {
            return Outlook::Stuck(Stuck::Rollout { why });
        }
        let unwritten: Vec<_> =
            self.nodes.iter().filter(|node| !aside.contains(&node.name) && !node.written()).collect();
        if unwritten.is_empty() {
            let good = self.generation.is_some()
                && self.settled
                && self.rollout.is_none()
                && self.failing.is_empty()
                && (self.cluster_is_well() || !aside.is_empty())
                // Without some nodes an application may well have to do with fewer pods.
                && (self.workloads.is_empty() || !aside.is_empty())
                && (self.endpoints.iter().all(|endpoint| endpoint.trouble.is_none()) || !aside.is_empty())
                && self.waits.iter().all(|wait| names_one_of(wait, aside));
            if good {
                let aside = self.nodes.iter().filter(|node| aside.contains(&node.name));
                return Outlook::Written { aside: aside.map(|node| node.name.clone()).collect() };
            }
        }
        let mut lasting: BTreeMap<_, Vec<NodeName>> = BTreeMap::new();
        let mut failed = 0;
        for node in &unwritten {
            let problems = node.lasting();
            failed += usize::from(!problems.is_empty());
            for Problem { what, text, help, .. } in problems {
                lasting.entry((what.clone(), text.clone(), help.clone())).or_default().push(node.name.clone());
            }
        }
        match failed {
            // While nodes come, they may be what the pods wait for.
            0 => Outlook::Moving { lasting: unwritten.is_empty() && self.workloads.iter().any(|one| one.lasting) },
            all if all == unwritten.len() => Outlook::Stuck(Stuck::Nodes(lasting)),
            _ => Outlook::Moving { lasting: true },
        }
    }

    /// Whether the control plane that leads says so: what nobody tells is not known to be well.
    pub(super) fn cluster_is_well(&self) -> bool {
        !self.born || self.control_plane.as_ref().is_some_and(|seen| seen.troubles().is_empty())
    }

    /// Why the try of a catalog on one node comes to nothing.
    fn rollout_ends(&self, aside: &BTreeSet<NodeName>) -> Option<String> {
        let rollout = self.rollout.as_ref()?;
        match &rollout.state {
            RolloutState::Stopped { .. } => Some(rollout.text()),
            RolloutState::Trying if aside.contains(&rollout.only) => {
                Some(format!("{}, which is paused or does not answer", rollout.text()))
            }
            RolloutState::Trying => None,
        }
    }
}

/// Whether a sentence names one of these nodes.
fn names_one_of(text: &str, nodes: &BTreeSet<NodeName>) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split(|c| !word(c)).any(|word| nodes.iter().any(|node| node.as_str() == word))
}

impl NodeStatus {
    fn written(&self) -> bool {
        match self.state {
            NodeLife::Written => self.ready && self.converged,
            NodeLife::Planned
            | NodeLife::Booting
            | NodeLife::Converging
            | NodeLife::Unready
            | NodeLife::Failing
            | NodeLife::Paused
            | NodeLife::Silent
            | NodeLife::Draining
            | NodeLife::Revoked
            | NodeLife::Retired => false,
        }
    }

    /// What keeps it from being as written for good: reported for the generation that it should have, by a node that is
    /// heard, which tries nothing else again that might be the cause.
    fn lasting(&self) -> Vec<&Problem> {
        let tried_again = self.problems.iter().any(|problem| problem.fails && !problem.lasting);
        if !self.connected || self.generation != Some(self.wanted) || tried_again {
            return vec![];
        }
        self.problems.iter().filter(|problem| problem.lasting).collect()
    }
}
