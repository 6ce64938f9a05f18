//! What is known of the world: readings of the provider, said to be stale and perhaps incomplete, what the
//! executor remembers to have made, and what the cluster says of its members.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use muster_ids::{DiskName, EndpointName, NodeName};
use serde::{Deserialize, Serialize};

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
    /// Nodes that are drained and gone from the cluster, etcd included.
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
