//! From a blueprint and what is seen to the executor's list: which calls, in which order. No decision is left to it.
//!
//! What is missing from a reading is asked for again: the calls are idempotent. What is destroyed was seen twice.

use std::fmt;

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{Digest, DiskName, EndpointName, NodeName};
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::{Blueprint, LoadBalancerPlan, NodePlan, NodeState},
    inventory::{Instance, Made, Seen},
};

/// One call to the provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    Network,
    Disk {
        disk: DiskName,
    },
    /// Creates it, or gives it its new configuration, or starts it.
    LoadBalancer {
        endpoint: EndpointName,
        why: Why,
    },
    /// Creates it, or finishes a creation that was interrupted.
    Instance {
        node: NodeName,
    },
    /// Only the instance with this id: a stale reading makes none.
    StartInstance {
        node: NodeName,
        id: String,
    },
    /// Only the instance with this id and token.
    RemoveInstance {
        node: NodeName,
        id: String,
    },
    RemoveLoadBalancer {
        endpoint: EndpointName,
        id: String,
    },
}

/// Why something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    Absent,
    Stopped,
    Differs,
}

impl Step {
    /// Whether `other` must have succeeded before this step is taken.
    pub fn waits_for(&self, other: &Step, blueprint: &Blueprint) -> bool {
        match (self, other) {
            (Step::Network, _) => false,
            (Step::Disk { .. } | Step::LoadBalancer { .. } | Step::Instance { .. }, Step::Network) => true,
            (Step::Instance { node }, Step::Disk { disk }) => {
                blueprint.nodes.get(node).is_some_and(|node| node.disks.contains(disk))
            }
            (Step::Disk { .. } | Step::LoadBalancer { .. } | Step::Instance { .. } | Step::StartInstance { .. }, _) => {
                false
            }
            // A node goes when no load balancer points at it any more.
            (Step::RemoveInstance { .. } | Step::RemoveLoadBalancer { .. }, Step::LoadBalancer { .. }) => true,
            (Step::RemoveInstance { .. } | Step::RemoveLoadBalancer { .. }, _) => false,
        }
    }

    /// Additions first, then removals.
    pub fn removes(&self) -> bool {
        match self {
            Step::RemoveInstance { .. } | Step::RemoveLoadBalancer { .. } => true,
            Step::Network
            | Step::Disk { .. }
            | Step::LoadBalancer { .. }
            | Step::Instance { .. }
            | Step::StartInstance { .. } => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Network => f.write_str("create the network"),
            Step::Disk { disk } => write!(f, "create disk {disk}"),
            Step::LoadBalancer { endpoint, why: Why::Absent } => write!(f, "create load balancer {endpoint}"),
            Step::LoadBalancer { endpoint, why: Why::Stopped } => write!(f, "start load balancer {endpoint}"),
            Step::LoadBalancer { endpoint, why: Why::Differs } => write!(f, "configure load balancer {endpoint}"),
            Step::Instance { node } => write!(f, "create instance {node}"),
            Step::StartInstance { node, .. } => write!(f, "start instance {node}"),
            Step::RemoveInstance { node, .. } => write!(f, "remove instance {node}"),
            Step::RemoveLoadBalancer { endpoint, .. } => write!(f, "remove load balancer {endpoint}"),
        }
    }
}

/// What a load balancer's configuration is made from, as a digest: kept beside the configuration, compared here.
pub fn configuration(plan: &LoadBalancerPlan) -> String {
    Digest::of(serde_json::to_string(plan).expect("a load balancer holds nothing that JSON cannot say")).to_string()
}

/// The calls that make the world as the blueprint says, in an order that may be taken. Empty: nothing to do.
pub fn steps(blueprint: &Blueprint, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    if seen.latest.network.is_none() {
        steps.push(Step::Network);
    }
    for disk in blueprint.disks.keys() {
        // A disk that was made and is gone took its data along: making an empty one in its place would hide that.
        if !seen.latest.disks.contains_key(disk) && !seen.disks.contains(disk) {
            steps.push(Step::Disk { disk: disk.clone() });
        }
    }
    for (endpoint, plan) in &blueprint.load_balancers {
        if let Some(why) = balancer_needs(plan, endpoint, seen) {
            steps.push(Step::LoadBalancer { endpoint: endpoint.clone(), why });
        }
    }
    for (node, plan) in &blueprint.nodes {
        steps.extend(instance_needs(plan, node, seen));
    }
    steps.extend(removals(blueprint, seen));
    steps
}

/// Instances that a reading shows and nobody remembers to have made: a crash fell between the two, or an older state was
/// restored. The executor remembers them first: what was made once is not made again under the same token.
pub fn confirmed<'a>(blueprint: &'a Blueprint, seen: &'a Seen) -> impl Iterator<Item = (&'a NodeName, Made)> {
    blueprint.nodes.iter().filter_map(|(node, plan)| {
        let ours = |instance: &&Instance| instance.started && instance.token == plan.token;
        let instance = seen.latest.instances.get(node).filter(ours)?;
        let made = Made { token: plan.token.clone(), id: instance.id.clone() };
        (seen.made.get(node) != Some(&made)).then_some((node, made))
    })
}

fn balancer_needs(plan: &LoadBalancerPlan, endpoint: &EndpointName, seen: &Seen) -> Option<Why> {
    match seen.latest.load_balancers.get(endpoint) {
        None => Some(Why::Absent),
        Some(balancer) if balancer.configuration != configuration(plan) => Some(Why::Differs),
        Some(balancer) if balancer.address.is_some_and(|address| address != plan.address) => Some(Why::Differs),
        Some(balancer) if !balancer.running => Some(Why::Stopped),
        Some(_) => None,
    }
}

fn instance_needs(plan: &NodePlan, node: &NodeName, seen: &Seen) -> Option<Step> {
    let made = match plan.state {
        NodeState::InService => true,
        // One that is there must run to leave; nobody is made in order to leave.
        NodeState::Draining => false,
        NodeState::Lost | NodeState::Revoked | NodeState::Retired => return None,
    };
    match seen.latest.instances.get(node) {
        Some(instance) if instance.started && instance.token == plan.token => {
            let (node, id) = (node.clone(), instance.id.clone());
            (!instance.running).then_some(Step::StartInstance { node, id })
        }
        Some(_) | None if !made => None,
        // Made once and not seen now: either the reading is stale, or the planner replaces it when two readings agree.
        None if seen.made.get(node).is_some_and(|made| made.token == plan.token) => None,
        // Somebody writes to it: a second one would destroy it.
        Some(_) | None if plan.disks.iter().any(|disk| seen.holder(disk, node, &plan.token).is_some()) => None,
        // Not there, or its creation was interrupted, or another's: then the provider says whose it is.
        Some(_) | None => Some(Step::Instance { node: node.clone() }),
    }
}

fn removals(blueprint: &Blueprint, seen: &Seen) -> Vec<Step> {
    let Some(earlier) = seen.earlier.as_ref().filter(|earlier| {
        earlier.complete && seen.latest.complete && earlier.taken > seen.last_step && earlier.taken < seen.latest.taken
    }) else {
        return vec![];
    };
    let goes = |plan: &&NodePlan| match plan.state {
        NodeState::Retired => true,
        // Where etcd's others lack its vote it has to answer until they do without.
        NodeState::Revoked => plan.member == MemberRole::Worker,
        NodeState::InService | NodeState::Draining | NodeState::Lost => false,
    };
    let retired = |node: &NodeName| blueprint.nodes.get(node).filter(goes).map(|plan| plan.token.as_str());
    let instances = seen.latest.instances.iter().filter(|(node, instance)| {
        retired(node) == Some(instance.token.as_str())
            && earlier.instances.get(*node).is_some_and(|before| before.id == instance.id)
    });
    let balancers = seen.latest.load_balancers.iter().filter(|(endpoint, balancer)| {
        !blueprint.load_balancers.contains_key(*endpoint)
            && earlier.load_balancers.get(*endpoint).is_some_and(|before| before.id == balancer.id)
    });
    let instances =
        instances.map(|(node, instance)| Step::RemoveInstance { node: node.clone(), id: instance.id.clone() });
    let balancers = balancers
        .map(|(endpoint, balancer)| Step::RemoveLoadBalancer { endpoint: endpoint.clone(), id: balancer.id.clone() });
    instances.chain(balancers).collect()
}
