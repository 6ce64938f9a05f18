//! From a valid site and what is known of one node to that node's catalog.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use muster_ids::{DiskName, EndpointName, Generation, NodeName, PoolName};
use serde::{Deserialize, Serialize};

use crate::{
    catalog::Catalog,
    diagnostic::Diagnostics,
    kinds::{cluster_member::Start, pod_network::Peer},
    site::Site,
};

/// What a node reports of itself; `facts.…` in `when` and templates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub hostname: String,
    /// As in `debian`.
    pub os: String,
    /// As in `12`.
    pub os_version: String,
    /// As in `amd64`, Debian's words.
    pub arch: String,
    pub kernel: String,
    /// `container`, `vm` or `none`.
    pub virtualization: String,
    /// `1` or `2`.
    pub cgroup: u32,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// The first address of the interface with the default route.
    pub address: String,
    pub interface: String,
}

/// What the blueprint says of a node, and the facts that it reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInput {
    pub name: NodeName,
    pub pool: PoolName,
    pub address: IpAddr,
    pub node_pods: IpNet,
    pub peers: Vec<Peer>,
    pub start: Start,
    pub endpoints: BTreeMap<EndpointName, IpAddr>,
    /// Disks that this node holds, mounted at `/var/lib/muster/disks/NAME`.
    pub disks: Vec<DiskName>,
    pub facts: Facts,
}

/// Compiles one node's catalog. Errors that only show with the node's facts are diagnostics with the place in the site.
pub fn compile(site: &Site, node: &NodeInput, generation: Generation) -> Result<Catalog, Diagnostics> {
    let _ = (site, node, generation);
    unimplemented!("LANG")
}
