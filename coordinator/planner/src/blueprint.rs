//! What must exist, exactly: an immutable value with a parent. An executor that follows it has no choice left.

use std::{collections::BTreeMap, net::IpAddr};

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
    /// Deterministic: the same blueprint makes the same instance, never a second one.
    pub token: String,
    pub state: NodeState,
    pub disks: Vec<DiskName>,
    /// The one node that starts a cluster that was never born.
    pub init: bool,
    /// Node image reference.
    pub image: String,
    /// Thousandths of CPUs; absent: unlimited.
    pub cpus: Option<u32>,
    /// Bytes.
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
    /// Left the cluster; its instance may go.
    Retired,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPlan {
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
    /// Where traffic goes, `address:port`, in order.
    pub targets: BTreeMap<NodeName, std::net::SocketAddr>,
    /// TCP pass-through with an HTTPS check, or HTTP.
    pub tls: bool,
    pub check: String,
}
