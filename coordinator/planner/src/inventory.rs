//! What is known of the world: readings of the provider, said to be stale and perhaps incomplete, what the
//! executor remembers to have made, and what the cluster says of its members.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use muster_ids::{DiskName, EndpointName, NodeName};
use serde::{Deserialize, Serialize};

use crate::{blueprint::NodePlan, plan::overlap};

/// One reading of the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Seconds since the epoch, when the reading began.
    pub taken: i64,
    /// False when a part of the reading failed: then nothing may be destroyed because of it.
    pub complete: bool,
    pub network: Option<String>,
    pub instances: BTreeMap<NodeName, Instance>,
    pub disks: BTreeMap<DiskName, Disk>,
    pub load_balancers: BTreeMap<EndpointName, LoadBalancer>,
}

/// One instance, with what its tags say that it was planned as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The provider's id.
    pub id: String,
    pub token: String,
    pub incarnation: u32,
    pub running: bool,
    /// Whether it ever ran: one that never did can still be given what it boots with.
    pub started: bool,
    pub address: Option<IpAddr>,
    pub pods: Option<IpNet>,
    pub image: String,
    pub disks: Vec<DiskName>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The provider's id.
    pub id: String,
    /// Bytes, as asked for at creation.
    pub size: u64,
}

/// One load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// The provider's id.
    pub id: String,
    pub running: bool,
    pub address: Option<IpAddr>,
    /// The digest of the plan that its configuration was rendered from ([`crate::steps::configuration`]).
    pub configuration: String,
}

/// All that the planner knows of the world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub latest: Inventory,
    /// The reading before: destruction needs two that agree.
    pub earlier: Option<Inventory>,
    /// Seconds since the epoch, when the last step that changes anything ended. After a restart of the coordinator: now.
    pub last_step: i64,
    /// Instances whose creation the provider confirmed, with the token that each was made by.
    pub made: BTreeMap<NodeName, Made>,
    /// Disks whose creation the provider confirmed: made once, never again under the same name.
    pub disks: BTreeSet<DiskName>,
    pub cluster: ClusterSeen,
}

/// What the executor persisted of an instance at once when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub token: String,
    /// The provider's id.
    pub id: String,
}

/// What the cluster says of its members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSeen {
    /// A control plane reported a living cluster.
    pub born: bool,
    /// Nodes that are Ready members now.
    pub ready: BTreeSet<NodeName>,
    /// Nodes that the parent blueprint drains, or has lost, and that are gone from the cluster, etcd included, since it
    /// does: what was said under another blueprint, a later one that a recovery lost included, is no answer to this one.
    pub left: BTreeSet<NodeName>,
}

impl Seen {
    /// Whether the instance that a node was given is gone for sure: made once, and missing from two complete
    /// readings, both begun more than `settle` seconds after the last step.
    pub fn lost(&self, node: &NodeName, token: &str, settle: i64) -> bool {
        self.made.get(node).is_some_and(|made| made.token == token) && self.absent(node, settle)
    }

    /// Whether no instance of this name exists for sure, by the same two readings.
    pub fn absent(&self, node: &NodeName, settle: i64) -> bool {
        self.twice(settle, |reading| !reading.instances.contains_key(node))
    }

    /// Whether the latest reading shows a node's planned instance.
    pub fn shows(&self, node: &NodeName, token: &str) -> bool {
        self.latest.instances.get(node).is_some_and(|instance| instance.token == token)
    }

    /// Whether the provider shows a node as it was planned, or shows nothing of its name since the last step: then what
    /// the blueprint says of its disks is true. One complete reading will do: nothing is destroyed by it yet.
    pub fn as_planned(&self, node: &NodeName, token: &str, settle: i64) -> bool {
        let latest = &self.latest;
        latest.complete
            && match latest.instances.get(node) {
                Some(instance) => instance.token == token,
                None => latest.taken > self.last_step + settle,
            }
    }

    /// An instance that is seen under another name at the address of a node, or with pods of its range.
    pub fn in_place_of(&self, node: &NodeName, plan: &NodePlan) -> Option<&NodeName> {
        let there = |instance: &Instance| {
            instance.address == Some(plan.address) || instance.pods.is_some_and(|pods| overlap(pods, plan.pods))
        };
        let mut seen = self.latest.instances.iter();
        seen.find(|(name, instance)| *name != node && there(instance)).map(|(name, _)| name)
    }

    /// An instance that is seen with this disk and is not `node`'s planned one.
    pub fn holder(&self, disk: &DiskName, node: &NodeName, token: &str) -> Option<&NodeName> {
        let other = |name: &NodeName, instance: &Instance| name != node || instance.token != token;
        let mut seen = self.latest.instances.iter();
        seen.find(|(name, instance)| instance.disks.contains(disk) && other(name, instance)).map(|(name, _)| name)
    }

    /// Whether a disk that was made is gone for sure.
    pub fn disk_lost(&self, disk: &DiskName, settle: i64) -> bool {
        self.disks.contains(disk) && self.twice(settle, |reading| !reading.disks.contains_key(disk))
    }

    /// Whether two complete readings after the last step both say so.
    fn twice(&self, settle: i64, says: impl Fn(&Inventory) -> bool) -> bool {
        let proves = |reading: &Inventory| reading.complete && reading.taken > self.last_step + settle && says(reading);
        self.earlier.as_ref().is_some_and(|earlier| earlier.taken < self.latest.taken && proves(earlier))
            && proves(&self.latest)
    }
}
