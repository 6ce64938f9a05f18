//! What each step of the planner did, and what it waits for: users see both.

use std::fmt;

use muster_ids::{DiskName, NodeName, PoolName};
use serde::{Deserialize, Serialize};

/// One planning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// In the order in which they were taken; those that neither did nor wait for anything are left out.
    pub steps: Vec<StepReport>,
    /// What stays as it is on purpose: nothing is waited for.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// Something that an admin may wonder about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "note")]
pub enum Note {
    /// The site does not name the disk any more; its data is kept.
    DiskKept { disk: DiskName },
    /// A newer node image is for newer nodes.
    OlderImage { image: String, nodes: Vec<NodeName> },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskKept { disk } => write!(f, "disk {disk} left the site; its data is kept"),
            Self::OlderImage { image, nodes } => {
                write!(f, "{} keep the node image {image}; a newer one is for new nodes", list(nodes))
            }
        }
    }
}

/// One step of one planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: Step,
    /// What it changed, for people.
    pub did: Vec<String>,
    pub waits: Vec<Waiting>,
}

/// The planner's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Birth,
    Revoke,
    Retire,
    Forget,
    Adopt,
    Replace,
    Grow,
    Disks,
    Shrink,
    Balance,
}

/// Why something that the site asks for is not planned yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "waits")]
pub enum Waiting {
    /// The reading is incomplete, too old, or the only one.
    Reading { node: NodeName },
    /// The provider was not read in full yet.
    Inventory,
    /// The node's pods are being moved and it leaves the cluster.
    Leave { node: NodeName },
    /// The leading control plane removes it from the cluster, because it cannot leave by itself any more.
    Burial { node: NodeName },
    /// The leading control plane takes it out of the cluster, because it was revoked.
    Revocation { node: NodeName },
    /// Its instance is being removed.
    Removal { node: NodeName },
    /// Others of the pool must be Ready first.
    Ready { pool: PoolName, nodes: Vec<NodeName> },
    /// One node of the pool at a time.
    Turn { pool: PoolName, node: NodeName },
    /// The cluster must be born first.
    Birth,
    /// Losing it would lose the control plane's majority, or it is lost already.
    Quorum { ready: u32, needed: u32 },
    /// An even number of control planes has no better quorum than one less; the old number stays.
    OddControlPlanes { wanted: u32 },
    /// Every node that could go holds a disk.
    HoldsDisk { pool: PoolName, nodes: Vec<NodeName> },
    /// No node of the pool can be given the disk.
    DiskPlace { disk: DiskName, pool: PoolName },
    /// The disk was made and is gone: an empty one in its place would hide that.
    DiskLost { disk: DiskName },
    /// A pool's nodes cannot change from worker to control plane or back.
    Member { pool: PoolName },
    /// No free address is left in the subnet.
    Addresses,
    /// No free range is left for a node's pods.
    Pods,
    /// Exists at the provider under muster's label, and the blueprint does not know it.
    Unknown { node: NodeName, id: String },
    /// Exists under the name of a node and is not the instance that was planned for it.
    Other { node: NodeName, id: String },
    /// A disk without a place in the blueprint is held by an instance that is none of the blueprint's.
    DiskHeld { disk: DiskName, node: NodeName },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading { node } => {
                write!(f, "{node} is not seen: waits for two complete readings that agree before it is replaced")
            }
            Self::Inventory => f.write_str("waits for a complete reading of the provider"),
            Self::Leave { node } => write!(f, "{node} is being drained and has not left the cluster yet"),
            Self::Burial { node } => {
                write!(f, "{node} is gone: the control plane that leads removes it from the cluster")
            }
            Self::Revocation { node } => {
                write!(f, "{node} was revoked: the control plane that leads takes it out of the cluster")
            }
            Self::Removal { node } => write!(f, "the instance of {node} is being removed"),
            Self::Ready { pool, nodes } => write!(f, "pool {pool} waits for {} to be Ready", list(nodes)),
            Self::Turn { pool, node } => write!(f, "pool {pool} changes one node at a time: {node} first"),
            Self::Birth => f.write_str("waits for the cluster's birth"),
            Self::Quorum { ready, needed } => {
                write!(f, "the control plane has {ready} ready members and needs {needed} for its majority")
            }
            Self::OddControlPlanes { wanted } => {
                write!(f, "{wanted} control planes were asked for: only odd numbers are planned")
            }
            Self::HoldsDisk { pool, nodes } => {
                write!(f, "pool {pool} cannot shrink: {} holds a disk", list(nodes))
            }
            Self::DiskPlace { disk, pool } => write!(f, "disk {disk} waits for a node of pool {pool}"),
            Self::DiskLost { disk } => {
                write!(f, "disk {disk} is gone with its data: restore a backup, or name a new disk in the site")
            }
            Self::Member { pool } => write!(f, "pool {pool} changed its part in the cluster: make a new pool instead"),
            Self::Addresses => f.write_str("no free address is left in the subnet"),
            Self::Pods => f.write_str("no free range is left for a node's pods"),
            Self::Other { node, id } => write!(f, "instance {id} carries the name {node} and is not the planned one"),
            Self::DiskHeld { disk, node } => {
                write!(f, "disk {disk} is held by instance {node}, which the blueprint does not know")
            }
            Self::Unknown { node, id } => {
                write!(f, "instance {id} carries the name {node}, which the blueprint does not know")
            }
        }
    }
}

fn list(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

impl PlanReport {
    /// Everything that is waited for, in order, each thing once.
    pub fn waits(&self) -> impl Iterator<Item = &Waiting> {
        let all = || self.steps.iter().flat_map(|step| &step.waits);
        all()
            .enumerate()
            .filter(move |(index, waits)| !all().take(*index).any(|before| before == *waits))
            .map(|(_, w)| w)
    }

    /// Everything that was changed, for people.
    pub fn did(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(|step| &step.did).map(String::as_str)
    }
}
