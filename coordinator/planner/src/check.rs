//! The checker: what no blueprint may say, however it came about. Findings are faults of the planner, or of a hand.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{DiskName, EndpointName, NodeName, PoolName};
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::{Blueprint, NodeState},
    inventory::{Inventory, Seen},
    plan::overlap,
};

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "finding")]
pub enum Finding {
    NoControlPlane,
    /// Outside of a change of their number, control planes are an odd number.
    EvenControlPlanes {
        count: u32,
    },
    /// Nobody, or more than one, would start the cluster; or someone would start a second one.
    Init {
        nodes: Vec<NodeName>,
        born: bool,
    },
    SameAddress {
        address: IpAddr,
        holders: Vec<String>,
    },
    OutsideSubnet {
        holder: String,
        address: IpAddr,
    },
    OverlappingPods {
        one: NodeName,
        other: NodeName,
    },
    PodsInSubnet {
        node: NodeName,
    },
    SameToken {
        one: NodeName,
        other: NodeName,
    },
    /// A name beyond the highest ever given.
    Ordinal {
        node: NodeName,
    },
    DiskWithoutNode {
        disk: DiskName,
        node: NodeName,
    },
    /// The node does not list the disk that it holds, or lists one that is another's.
    DiskMismatch {
        disk: DiskName,
        node: NodeName,
    },
    DiskOnLeavingNode {
        disk: DiskName,
        node: NodeName,
    },
    /// A load balancer sends to a node that is not in service, or to another address.
    Target {
        endpoint: EndpointName,
        node: NodeName,
    },
    LeavingTogether {
        pool: PoolName,
        nodes: Vec<NodeName>,
    },
    /// An instance under muster's label that no blueprint asked for.
    Orphan {
        node: NodeName,
        id: String,
    },
    /// What must never change did, from parent to child.
    Changed {
        what: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoControlPlane => f.write_str("no control plane is in service"),
            Self::EvenControlPlanes { count } => write!(f, "{count} control planes: an even number"),
            Self::Init { nodes, born: true } => write!(f, "{nodes:?} would start a second cluster"),
            Self::Init { nodes, born: false } => write!(f, "exactly one node starts the cluster, not {nodes:?}"),
            Self::SameAddress { address, holders } => write!(f, "{} share {address}", holders.join(" and ")),
            Self::OutsideSubnet { holder, address } => write!(f, "{address} of {holder} is outside the subnet"),
            Self::OverlappingPods { one, other } => write!(f, "the pod ranges of {one} and {other} overlap"),
            Self::PodsInSubnet { node } => write!(f, "the pod range of {node} overlaps the nodes' subnet"),
            Self::SameToken { one, other } => write!(f, "{one} and {other} have one token"),
            Self::Ordinal { node } => write!(f, "{node} is beyond the last number given in its pool"),
            Self::DiskWithoutNode { disk, node } => write!(f, "disk {disk} is held by {node}, which does not exist"),
            Self::DiskMismatch { disk, node } => write!(f, "disk {disk} and node {node} do not agree"),
            Self::DiskOnLeavingNode { disk, node } => write!(f, "{node} leaves and holds disk {disk}"),
            Self::Target { endpoint, node } => write!(f, "load balancer {endpoint} wrongly sends to {node}"),
            Self::LeavingTogether { pool, nodes } => write!(f, "{nodes:?} leave pool {pool} at once"),
            Self::Orphan { node, id } => write!(f, "instance {id} ({node}) is in no blueprint"),
            Self::Changed { what } => write!(f, "{what} must not change"),
        }
    }
}

/// Faults of one blueprint by itself.
pub fn check(blueprint: &Blueprint) -> Vec<Finding> {
    let mut findings = Vec::new();
    control_plane(blueprint, &mut findings);
    addresses(blueprint, &mut findings);
    nodes(blueprint, &mut findings);
    disks(blueprint, &mut findings);
    for (endpoint, balancer) in &blueprint.load_balancers {
        for (node, target) in &balancer.targets {
            let right = blueprint
                .nodes
                .get(node)
                .is_some_and(|plan| plan.state == NodeState::InService && plan.address == target.ip());
            if !right {
                findings.push(Finding::Target { endpoint: endpoint.clone(), node: node.clone() });
            }
        }
    }
    findings
}

fn control_plane(blueprint: &Blueprint, findings: &mut Vec<Finding>) {
    let count = blueprint.control_planes().count() as u32;
    let leaving = blueprint
        .nodes
        .values()
        .any(|node| node.member == MemberRole::ControlPlane && node.state != NodeState::InService);
    if count == 0 {
        findings.push(Finding::NoControlPlane);
    } else if count.is_multiple_of(2) && !leaving && !blueprint.born {
        // A living control plane passes through even numbers, one node at a time.
        findings.push(Finding::EvenControlPlanes { count });
    }
    let init: Vec<_> = blueprint.nodes.iter().filter(|(_, node)| node.init).map(|(name, _)| name.clone()).collect();
    if init.len() != usize::from(!blueprint.born && count > 0) {
        findings.push(Finding::Init { nodes: init, born: blueprint.born });
    }
}

fn addresses(blueprint: &Blueprint, findings: &mut Vec<Finding>) {
    let mut holders: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for (name, node) in &blueprint.nodes {
        holders.entry(node.address).or_default().push(name.to_string());
    }
    for (name, balancer) in &blueprint.load_balancers {
        holders.entry(balancer.address).or_default().push(format!("load balancer {name}"));
    }
    for (address, holders) in holders {
        if !blueprint.network.subnet.contains(&address) {
            findings.push(Finding::OutsideSubnet { holder: holders.join(", "), address });
        }
        if holders.len() > 1 {
            findings.push(Finding::SameAddress { address, holders });
        }
    }
}

fn nodes(blueprint: &Blueprint, findings: &mut Vec<Finding>) {
    let all: Vec<_> = blueprint.nodes.iter().collect();
    for (index, (name, node)) in all.iter().enumerate() {
        for (other, theirs) in &all[index + 1..] {
            if overlap(node.pods, theirs.pods) {
                findings.push(Finding::OverlappingPods { one: (*name).clone(), other: (*other).clone() });
            }
            if node.token == theirs.token {
                findings.push(Finding::SameToken { one: (*name).clone(), other: (*other).clone() });
            }
        }
        if overlap(node.pods, blueprint.network.subnet) {
            findings.push(Finding::PodsInSubnet { node: (*name).clone() });
        }
        let last = blueprint.last_ordinal.get(&node.pool).copied().unwrap_or(0);
        if name.ordinal().is_none_or(|ordinal| ordinal > last)
            || NodeName::of(&node.pool, name.ordinal().unwrap_or(0)) != **name
        {
            findings.push(Finding::Ordinal { node: (*name).clone() });
        }
    }
    let mut leaving: BTreeMap<&PoolName, Vec<NodeName>> = BTreeMap::new();
    for (name, node) in all.iter().filter(|(_, node)| node.state == NodeState::Draining) {
        leaving.entry(&node.pool).or_default().push((*name).clone());
    }
    for (pool, nodes) in leaving.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        findings.push(Finding::LeavingTogether { pool: pool.clone(), nodes });
    }
}

fn disks(blueprint: &Blueprint, findings: &mut Vec<Finding>) {
    for (disk, plan) in &blueprint.disks {
        let (disk, node) = (disk.clone(), plan.node.clone());
        match blueprint.nodes.get(&node) {
            None => findings.push(Finding::DiskWithoutNode { disk, node }),
            Some(holder) if !holder.disks.contains(&disk) => findings.push(Finding::DiskMismatch { disk, node }),
            // Of one that was revoked they go to another when nobody can write to them any more.
            Some(holder)
                if !matches!(
                    holder.state,
                    NodeState::InService | NodeState::Revoked | NodeState::Lost | NodeState::Retired
                ) =>
            {
                findings.push(Finding::DiskOnLeavingNode { disk, node });
            }
            Some(_) => {}
        }
    }
    for (node, plan) in &blueprint.nodes {
        for disk in plan.disks.iter().filter(|disk| blueprint.disks.get(*disk).is_none_or(|plan| plan.node != *node)) {
            findings.push(Finding::DiskMismatch { disk: disk.clone(), node: node.clone() });
        }
    }
}

/// Instances that no blueprint asked for.
pub fn check_seen(blueprint: &Blueprint, inventory: &Inventory) -> Vec<Finding> {
    let known = |node: &NodeName, token: &str| blueprint.nodes.get(node).is_some_and(|plan| plan.token == token);
    inventory
        .instances
        .iter()
        .filter(|(node, instance)| !known(node, &instance.token))
        .map(|(node, instance)| Finding::Orphan { node: node.clone(), id: instance.id.clone() })
        .collect()
}

/// Faults of a step from `parent` to `child` by what was seen.
///
/// A node in service is never just gone, with one exception: it does not exist, and another instance is where it was.
/// Places are given away by forgetting alone, so a recovery lost the blueprint that forgot it.
///
/// A life is an incarnation's, not a name's: a later one, made by a lost blueprint, is in service whatever the parent
/// did to the earlier one. A name ends with the incarnation that is retired.
pub fn check_change(parent: &Blueprint, child: &Blueprint, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut hold = |right: bool, what: &str| {
        if !right {
            findings.push(Finding::Changed { what: what.to_owned() });
        }
    };
    hold(child.parent == Some(parent.digest()), "the parent");
    hold(child.generation > parent.generation, "the order of generations");
    hold((&child.cluster, &child.environment) == (&parent.cluster, &parent.environment), "the environment");
    hold(child.network == parent.network, "the subnet");
    hold(child.born || !parent.born, "the birth");
    hold(child.refused.is_superset(&parent.refused), "the names that are refused");
    for (pool, last) in &parent.last_ordinal {
        hold(child.last_ordinal.get(pool).is_some_and(|now| now >= last), &format!("the last number of pool {pool}"));
    }
    for (name, old) in &parent.nodes {
        match child.nodes.get(name) {
            None => {
                let missing = !seen.latest.instances.contains_key(name);
                let given = missing && seen.in_place_of(name, old).is_some();
                let leaving = old.state != NodeState::InService || !parent.born;
                hold(leaving || given, &format!("{name} in service, which is gone,"));
            }
            Some(new) => {
                let fixed =
                    (&new.pool, new.member, new.address, new.pods) == (&old.pool, old.member, old.address, old.pods);
                hold(fixed, &format!("pool, role, address or range of {name}"));
                let same = new.incarnation == old.incarnation;
                let again = !same && old.state != NodeState::Retired;
                hold(new.state >= old.state || again, &format!("{name} back into service"));
                hold(new.incarnation >= old.incarnation, &format!("the incarnation of {name}"));
                hold(same == (new.token == old.token), &format!("the token of {name}"));
                let handed_on = old.state >= NodeState::Lost && new.disks.iter().all(|disk| old.disks.contains(disk));
                hold(!same || new.disks == old.disks || handed_on, &format!("the disks of {name} on one instance"));
            }
        }
    }
    for (name, disk) in &parent.disks {
        let gone = |node: &NodeName| {
            parent.nodes.get(node).is_none_or(|old| old.state >= NodeState::Lost)
                && !seen.latest.instances.contains_key(node)
        };
        let kept = child
            .disks
            .get(name)
            .is_some_and(|now| now.size >= disk.size && (now.node == disk.node || gone(&disk.node)));
        hold(kept, &format!("the place of disk {name}"));
    }
    findings
}
