//! Who may disrupt now: a pool's budget, and the control plane's majority. Without a turn a step is skipped, and says so.

use std::{collections::BTreeSet, fmt};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::NodeName;
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::{Blueprint, NodePlan, NodeState},
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

/// Those of `ready` that count for a turn of `node`.
///
/// Another of its pool that fails may have been broken by what this node is about to do: it holds the others up, and is
/// the first to be mended. One that fails itself waits for no such node, or two would wait for each other. One that
/// cannot be drained holds up nobody: it may be the others that it waits for.
pub fn sound(
    node: &NodeName,
    blueprint: &Blueprint,
    mut ready: BTreeSet<NodeName>,
    failing: &BTreeSet<NodeName>,
) -> BTreeSet<NodeName> {
    let Some(plan) = blueprint.nodes.get(node).filter(|_| !failing.contains(node)) else { return ready };
    let warns = |other: &NodePlan| other.pool == plan.pool && other.state == NodeState::InService;
    ready.retain(|other| !(failing.contains(other) && blueprint.nodes.get(other).is_some_and(warns)));
    ready
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
        .filter(|(other, theirs)| *other != node && theirs.pool == plan.pool && theirs.state < NodeState::Revoked)
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

#[cfg(test)]
pub(crate) mod fixture {
    use std::collections::BTreeMap;

    use muster_ids::{Digest, Generation};

    use super::*;
    use crate::blueprint::NetworkPlan;

    pub(crate) fn names(all: &[&str]) -> BTreeSet<NodeName> {
        all.iter().map(|name| name.parse().unwrap()).collect()
    }

    pub(crate) fn node(pool: &str, state: NodeState) -> NodePlan {
        NodePlan {
            pool: pool.parse().unwrap(),
            member: MemberRole::Worker,
            address: "10.89.0.21".parse().unwrap(),
            pods: "10.244.1.0/24".parse().unwrap(),
            incarnation: 1,
            token: String::new(),
            state,
            disks: vec![],
            init: false,
            image: String::new(),
            cpus: None,
            memory: None,
        }
    }

    pub(crate) fn blueprint(nodes: &[(&str, NodePlan)]) -> Blueprint {
        Blueprint {
            parent: None,
            generation: Generation::default(),
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            site: Digest::of("site"),
            network: NetworkPlan { subnet: "10.89.0.0/16".parse().unwrap() },
            nodes: nodes.iter().map(|(name, plan)| (name.parse().unwrap(), plan.clone())).collect(),
            disks: BTreeMap::new(),
            load_balancers: BTreeMap::new(),
            last_ordinal: BTreeMap::new(),
            born: true,
            sets: BTreeSet::new(),
            left_sets: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_ids::Digest;

    use super::{
        fixture::{blueprint, names, node},
        *,
    };

    /// One of each pool at a time.
    fn policy() -> Policy {
        Policy {
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            site: Digest::of("site"),
            subnet: "10.89.0.0/16".parse().unwrap(),
            pods: "10.244.0.0/16".parse().unwrap(),
            pools: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            disks: BTreeMap::new(),
            sets: BTreeSet::new(),
            node_image: String::new(),
            settle: 0,
        }
    }

    fn asks(name: &str, blueprint: &Blueprint, holders: &[&str], ready: &[&str]) -> Turn {
        may_disrupt(&name.parse().unwrap(), blueprint, &policy(), &names(holders), &names(ready))
    }

    fn control_plane(pool: &str) -> NodePlan {
        NodePlan { member: MemberRole::ControlPlane, ..node(pool, NodeState::InService) }
    }

    #[test]
    fn before_the_birth_and_with_a_turn_in_hand_nobody_is_judged() {
        let all = [("cp-1", control_plane("cp")), ("cp-2", control_plane("cp")), ("cp-3", control_plane("cp"))];
        let born = blueprint(&all);
        let unborn = Blueprint { born: false, ..blueprint(&all) };
        assert_eq!(asks("cp-1", &unborn, &["cp-2"], &["cp-1"]), Turn::Granted);
        assert_eq!(asks("cp-1", &born, &["cp-1", "cp-2"], &["cp-1"]), Turn::Granted);
        let by = vec!["cp-2".parse().unwrap(), "cp-3".parse().unwrap()];
        assert_eq!(asks("cp-1", &born, &["cp-2"], &["cp-1"]), Turn::Held { by });
        assert_eq!(asks("cp-9", &born, &[], &[]), Turn::Unknown);
    }

    #[test]
    fn the_control_plane_keeps_its_majority_beyond_pools() {
        // Each in a pool of its own, so that no pool's budget holds anybody up.
        let all = ["a", "b", "c"].map(|pool| (pool.to_owned() + "-1", control_plane(pool)));
        let mut nodes: Vec<(&str, NodePlan)> = all.iter().map(|(name, plan)| (name.as_str(), plan.clone())).collect();
        nodes.push(("workers-1", node("workers", NodeState::InService)));
        let plane = blueprint(&nodes);
        let few = Turn::Quorum { ready: 1, needed: 2 };
        assert_eq!(asks("a-1", &plane, &[], &["a-1", "b-1", "c-1"]), Turn::Granted);
        assert_eq!(asks("a-1", &plane, &[], &["a-1", "b-1"]), few);
        assert_eq!(asks("a-1", &plane, &["b-1"], &["a-1", "b-1", "c-1"]), few);
        // One that does not serve is not missed, and a worker has no vote.
        assert_eq!(asks("c-1", &plane, &[], &["a-1"]), Turn::Granted);
        assert_eq!(asks("workers-1", &plane, &[], &["workers-1"]), Turn::Granted);
        let alone = blueprint(&nodes[..1]);
        assert_eq!(asks("a-1", &alone, &[], &["a-1"]), Turn::Granted, "the site's own choice");
        assert!(few.to_string().contains("1 other members are ready, 2 are needed"), "{few}");
    }

    #[test]
    fn a_node_that_does_not_serve_waits_for_holders_alone_and_the_gone_for_nobody() {
        let serves = NodeState::InService;
        let all = [
            ("workers-1", node("workers", serves)),
            ("workers-2", node("workers", serves)),
            ("workers-3", node("workers", NodeState::Lost)),
            ("others-1", node("others", serves)),
        ];
        let plan = blueprint(&all);
        let held = Turn::Held { by: vec!["workers-2".parse().unwrap()] };
        assert_eq!(asks("workers-1", &plan, &[], &["workers-1"]), held);
        assert_eq!(asks("workers-1", &plan, &[], &[]), Turn::Granted, "it may be what heals it");
        assert_eq!(asks("workers-1", &plan, &["workers-2"], &[]), held);
        assert_eq!(asks("workers-1", &plan, &["others-1"], &["workers-1", "workers-2"]), Turn::Granted);
        assert_eq!(asks("workers-1", &plan, &["workers-3"], &["workers-1", "workers-2"]), Turn::Granted);
        assert_eq!(held.to_string(), "workers-2");
    }

    #[test]
    fn a_node_that_fails_though_it_serves_holds_up_its_pool_and_not_itself() {
        let serves = NodeState::InService;
        let all = ["leaving-1", "others-1", "workers-1", "workers-2", "workers-3"];
        let blueprint = blueprint(&[
            ("leaving-1", node("workers", NodeState::Draining)),
            ("others-1", node("others", serves)),
            ("workers-1", node("workers", serves)),
            ("workers-2", node("workers", serves)),
            ("workers-3", node("workers", serves)),
        ]);
        let asks = |name: &str, failing: &[&str]| {
            let name: NodeName = name.parse().unwrap();
            let ready = sound(&name, &blueprint, names(&all), &names(failing));
            may_disrupt(&name, &blueprint, &policy(), &BTreeSet::new(), &ready)
        };
        let held = Turn::Held { by: vec!["workers-1".parse().unwrap()] };
        assert_eq!(asks("workers-2", &["workers-1"]), held);
        assert_eq!(asks("workers-1", &["workers-1"]), Turn::Granted);
        assert_eq!(asks("others-1", &["workers-1"]), Turn::Granted);
        // Two that fail do not wait for each other, and the third does for both.
        assert_eq!(asks("workers-2", &["workers-1", "workers-2"]), Turn::Granted);
        assert!(matches!(asks("workers-3", &["workers-1", "workers-2"]), Turn::Held { by } if by.len() == 2));
        assert_eq!(asks("workers-2", &["leaving-1", "others-1"]), Turn::Granted);
    }
}
