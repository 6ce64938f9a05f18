//! What is noted of a membership and seen of the node and its cluster.

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::kinds::cluster_member::{MemberRole, Start};
use serde::{Deserialize, Serialize};

use super::WorkerSeen;

/// How far the node has come. Each stage includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// kubeadm was started.
    Begun,
    /// Certificates and configuration are written, kubelet runs.
    Prepared,
    /// The control plane answers (init), etcd has the member (join).
    Answering,
    /// Others can join by what was published, or will in a moment (init).
    Published,
    /// Done.
    Member,
    /// On its way out.
    Leaving,
}

/// What the agent noted of its way into the cluster; one small file, written atomically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    pub version: u32,
    pub name: String,
    pub role: MemberRole,
    pub start: Start,
    pub stage: Stage,
    /// How often a cut way was gone on with; what only waited is not counted.
    #[serde(default)]
    pub resumed: u32,
    /// Labels that this agent put on the node, so that those which left the site can go.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// What kubelet was last started with; absent: nobody knows.
    #[serde(default)]
    pub kubelet: Option<Settings>,
}

/// A component's settings, by digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Of what the site says.
    pub wanted: String,
    /// Of the file that was made of it.
    pub written: String,
}

/// Settings as they are wanted now, and the file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsSeen {
    pub now: Settings,
    /// Lines for people: what is wanted and stands otherwise in the file.
    pub differences: Vec<String>,
}

impl Membership {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub membership: Option<Membership>,
    pub files: Files,
    pub node: Known,
    /// Nodes that died or were revoked and of which the cluster still has a Node object or an etcd member; looked for by control
    /// planes.
    pub remains: BTreeSet<String>,
    /// Of a whole member.
    pub kubelet: Option<SettingsSeen>,
    /// kube-proxy's, the cluster's own: wanted, and as the cluster has them. Seen by the control plane that leads.
    pub proxy: Option<(String, Option<String>)>,
    /// Cluster DNS, likewise.
    pub dns: Option<(String, Option<String>)>,
    /// The names that the cluster refuses, likewise.
    pub refused: Option<(String, Option<String>)>,
    /// How many members vote, while this node's etcd would do without its data if that went.
    pub loose_etcd: Option<u32>,
    /// The workers' Node objects, as the control plane that leads sees them.
    pub workers: BTreeMap<String, WorkerSeen>,
}

/// What the cluster's API says of this node. That it has no Node is an answer; silence is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Known {
    /// There is nothing to ask with.
    #[default]
    NoCredentials,
    /// Nobody answered, or not to the question.
    Silent,
    Absent,
    Node(NodeSeen),
}

impl Known {
    pub fn node(&self) -> Option<&NodeSeen> {
        match self {
            Self::Node(node) => Some(node),
            Self::NoCredentials | Self::Silent | Self::Absent => None,
        }
    }
}

/// kubeadm's files on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub kubelet_conf: bool,
    pub bootstrap_conf: bool,
    /// Static pods that have a manifest: `etcd`, `kube-apiserver`, …
    pub manifests: BTreeSet<String>,
    /// `/var/lib/etcd/member` is there.
    pub etcd_data: bool,
    /// A segment of etcd's write-ahead log is there.
    pub etcd_log: bool,
}

impl Files {
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Of a control plane that serves, or did until a moment ago: never thrown away for want of evidence.
    pub(super) fn living(&self) -> bool {
        !self.manifests.is_empty() && self.etcd_data
    }
}

/// The Node object's part that is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSeen {
    pub labels: BTreeMap<String, String>,
    /// `key=value:Effect`, sorted; those of Kubernetes' own controllers left out.
    pub taints: BTreeSet<String>,
}
