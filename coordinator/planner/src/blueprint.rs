//! What must exist, exactly: an immutable value with a parent. An executor that follows it has no choice left.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{ClusterName, Digest, DiskName, EndpointName, EnvName, Generation, NodeName, PoolName};
use serde::{Deserialize, Serialize};

/// Which instances, members, disks and load balancers exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blueprint {
    pub parent: Option<Digest>,
    pub generation: Generation,
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// The digest of the site's files that it follows.
    pub site: Digest,
    pub network: NetworkPlan,
    pub nodes: BTreeMap<NodeName, NodePlan>,
    pub disks: BTreeMap<DiskName, DiskPlan>,
    pub load_balancers: BTreeMap<EndpointName, LoadBalancerPlan>,
    /// The highest ordinal ever given in each pool: a retired name is never used again.
    pub last_ordinal: BTreeMap<PoolName, u32>,
    /// True once a control plane has reported a living cluster: from then on nobody starts with `init`.
    pub born: bool,
    /// The sets of Kubernetes objects that the site has.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sets: BTreeSet<String>,
    /// Those that it had once and has no more. They stay here, because an agent may be away for long.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_sets: BTreeSet<String>,
    /// Names of revoked nodes: their kubelets' certificates cannot be called back, so the cluster refuses the names for good.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<NodeName>,
}

impl Blueprint {
    /// The address of this blueprint in the store: the digest of [`Blueprint::to_json`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json())
    }

    /// The stored form. Maps are ordered, so equal blueprints have equal bytes.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a blueprint holds nothing that JSON cannot say")
    }

    /// Nodes of one pool in a state, lowest ordinal first.
    pub fn in_pool<'a>(
        &'a self,
        pool: &'a PoolName,
        state: NodeState,
    ) -> impl Iterator<Item = (&'a NodeName, &'a NodePlan)> {
        let mut nodes: Vec<_> =
            self.nodes.iter().filter(move |(_, node)| node.pool == *pool && node.state == state).collect();
        nodes.sort_by_key(|(name, _)| name.ordinal());
        nodes.into_iter()
    }

    /// Control planes that must serve.
    pub fn control_planes(&self) -> impl Iterator<Item = (&NodeName, &NodePlan)> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.member == MemberRole::ControlPlane && node.state == NodeState::InService)
    }
}

/// The nodes' network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    pub subnet: IpNet,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    pub pool: PoolName,
    pub member: MemberRole,
    pub address: IpAddr,
    pub pods: IpNet,
    /// Counted from 1; raised when an instance is proven lost and another one takes the name.
    pub incarnation: u32,
    /// Deterministic, of name and incarnation: the same blueprint makes the same instance, never a second one.
    pub token: String,
    pub state: NodeState,
    /// Disks that the instance is created with; it cannot get others later.
    pub disks: Vec<DiskName>,
    /// The one node that starts a cluster that was never born.
    pub init: bool,
    /// Node image reference, fixed when the node was planned: a newer image is for newer nodes.
    pub image: String,
    /// Thousandths of CPUs; absent: unlimited.
    pub cpus: Option<u32>,
    /// Bytes; absent: unlimited.
    pub memory: Option<u64>,
}

/// A node's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Must exist and serve.
    InService,
    /// Its pods are being moved; then it leaves the cluster.
    Draining,
    /// Nobody trusts it any more: the control plane that leads takes it out of the cluster, whatever it says itself. A
    /// worker's instance goes at once, a control plane's once its vote is gone.
    Revoked,
    /// Its instance is gone for sure and it has not left: the control plane that leads removes it from the cluster.
    Lost,
    /// Left the cluster; its instance goes.
    Retired,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPlan {
    /// Bytes.
    pub size: u64,
    /// The node that holds it.
    pub node: NodeName,
}

/// One load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancerPlan {
    pub address: IpAddr,
    pub listen: u16,
    /// Where traffic goes: only nodes in service.
    pub targets: BTreeMap<NodeName, SocketAddr>,
    /// True: TCP pass-through with an HTTPS check, for the API. False: HTTP.
    pub tls: bool,
    /// Path of the health check.
    pub check: String,
}
