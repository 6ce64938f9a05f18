//! Who may disrupt now: a pool's budget, and the control plane's majority. Without a turn a step is skipped, and says so.

use std::{collections::BTreeSet, fmt};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::NodeName;
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::{Blueprint, NodeState},
    policy::Policy,
};

/// The answer to a node that wants to disrupt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "turn")]
pub enum Turn {
    Granted,
    /// The pool's budget is used up.
    Held {
        by: Vec<NodeName>,
    },
    /// The control plane would lose its majority.
    Quorum {
        ready: u32,
        needed: u32,
    },
    /// The blueprint does not know the node.
    Unknown,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Turn::Granted => f.write_str("granted"),
            Turn::Held { by } => {
                write!(f, "{}", by.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", "))
            }
            Turn::Quorum { ready, needed } => {
                write!(f, "the control plane: {ready} other members are ready, {needed} are needed")
            }
            Turn::Unknown => f.write_str("nobody: the blueprint does not know this node"),
        }
    }
}

/// Whether `node` may disrupt itself while `holders` have turns and only `ready` nodes serve.
///
/// Holders and nodes that do not serve both use up the pool's budget. A node that does not serve itself is only held up
/// by other holders: it may be what heals it. Before the cluster is born there is nobody to disrupt.
pub fn may_disrupt(
    node: &NodeName,
    blueprint: &Blueprint,
    policy: &Policy,
    holders: &BTreeSet<NodeName>,
    ready: &BTreeSet<NodeName>,
) -> Turn {
    let Some(plan) = blueprint.nodes.get(node) else { return Turn::Unknown };
    if !blueprint.born || holders.contains(node) {
        return Turn::Granted;
    }
    let budget = policy.pools.get(&plan.pool).map_or(1, |pool| pool.disrupt.max(1));
    let serves = ready.contains(node);
    let by: Vec<NodeName> = blueprint
        .nodes
        .iter()
        .filter(|(other, theirs)| *other != node && theirs.pool == plan.pool && theirs.state < NodeState::Lost)
        .filter(|(other, _)| holders.contains(*other) || (serves && !ready.contains(*other)))
        .map(|(other, _)| other.clone())
        .collect();
    if by.len() >= budget as usize {
        return Turn::Held { by };
    }
    if plan.member == MemberRole::ControlPlane && serves {
        let members: Vec<_> = blueprint.control_planes().map(|(name, _)| name).collect();
        let others = members.iter().filter(|other| ***other != *node);
        let left = others.filter(|other| ready.contains(**other) && !holders.contains(**other)).count() as u32;
        let needed = members.len() as u32 / 2 + 1;
        // A single control plane has no majority to keep: its disruption is the site's own choice.
        if members.len() > 1 && left < needed {
            return Turn::Quorum { ready: left, needed };
        }
    }
    Turn::Granted
}
