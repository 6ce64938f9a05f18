//! What the provider says exists: said to be stale and perhaps incomplete.

use std::{collections::BTreeMap, net::IpAddr};

use muster_ids::{DiskName, EndpointName, NodeName};
use serde::{Deserialize, Serialize};

/// One reading of the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Seconds since the epoch.
    pub taken: i64,
    /// False when a part of the reading failed: then nothing may be destroyed because of it.
    pub complete: bool,
    pub network: Option<String>,
    pub instances: BTreeMap<NodeName, Instance>,
    pub disks: BTreeMap<DiskName, String>,
    pub load_balancers: BTreeMap<EndpointName, LoadBalancer>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The provider's id.
    pub id: String,
    pub token: String,
    pub running: bool,
    pub address: Option<IpAddr>,
    pub image: String,
}

/// One load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    pub id: String,
    pub running: bool,
    /// The digest of the configuration that it runs.
    pub configuration: String,
}
