//! The Kubernetes cluster that the nodes make together, as far as it matters here: who is a member, who votes in etcd,
//! which tickets are good. Reachable for all nodes at any time; how kubeadm and etcd get there is for the live tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_ids::NodeName;
use muster_plan::cluster::{ClusterReport, Dns, Member, MemberState, NodeCondition};

/// A ticket that a control plane minted.
#[derive(Debug, Clone)]
pub struct Minted {
    pub node: NodeName,
    pub control_plane: bool,
    /// Seconds since the epoch.
    pub expires: i64,
}

/// A node that disturbs itself now.
#[derive(Debug, Clone)]
pub struct Disrupted {
    pub pool: String,
    /// When it asked for its turn, since the beginning.
    pub asked: Duration,
}

/// The cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    pub born: bool,
    /// Members, with the instance that each is.
    pub members: BTreeMap<NodeName, String>,
    /// Until when a node is not ready.
    pub unready: BTreeMap<NodeName, Duration>,
    /// Control planes that vote.
    pub etcd: BTreeSet<NodeName>,
    /// Who changes etcd's membership now.
    pub changing: Option<NodeName>,
    pub tickets: BTreeMap<String, Minted>,
    pub disrupted: BTreeMap<NodeName, Disrupted>,
    /// How often anything was disrupted on purpose.
    pub disruptions: u32,
    /// When the coordinator first knew of the birth: before, everybody gets a turn to disrupt.
    pub known_born: Option<Duration>,
}

impl Cluster {
    /// What the control plane that leads tells of it at a time.
    pub fn report(&self, now: Duration) -> ClusterReport {
        let condition = |node: &NodeName| {
            let ready = self.unready.get(node).is_none_or(|until| now >= *until);
            NodeCondition { ready, why: (!ready).then(|| "KubeletNotReady".to_owned()), cordoned: false }
        };
        let member = |node: &NodeName| Member { node: node.to_string(), state: MemberState::Voter };
        ClusterReport {
            nodes: self.members.keys().map(|node| (node.to_string(), condition(node))).collect(),
            members: Some(self.etcd.iter().map(member).collect()),
            dns: Some(Dns { wanted: 1, ready: 1 }),
        }
    }

    /// The machine is gone for good, and what it was to the cluster with it.
    pub fn lost(&mut self, node: &NodeName, instance: &str) {
        if self.members.get(node).is_some_and(|member| member == instance) {
            self.members.remove(node);
            self.etcd.remove(node);
        }
    }
}
