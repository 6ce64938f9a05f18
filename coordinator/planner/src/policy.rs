//! What the admin wants, taken from the site: the part of it that the planner needs, and no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use muster_catalog::{
    kinds::cluster_member::MemberRole,
    site::{Provider, Site},
};
use muster_ids::{ClusterName, Digest, DiskName, EndpointName, EnvName, PoolName};
use serde::{Deserialize, Serialize};

/// Input of [`crate::plan()`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// The digest of the site's files.
    pub site: Digest,
    pub subnet: IpNet,
    pub pods: IpNet,
    pub pools: BTreeMap<PoolName, PoolPolicy>,
    pub endpoints: BTreeMap<EndpointName, EndpointPolicy>,
    pub disks: BTreeMap<DiskName, DiskPolicy>,
    /// The sets of Kubernetes objects: manifests and applications, by name.
    #[serde(default)]
    pub sets: BTreeSet<String>,
    /// Image reference for new nodes.
    pub node_image: String,
    /// Seconds after a step until a reading is believed to show it. Docker: 0.
    pub settle: i64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPolicy {
    pub member: MemberRole,
    /// How many nodes there should be. Scaling moves it between the pool's `min` and `max`; without, it is `min`.
    pub count: u32,
    /// How many nodes may be disrupted at once.
    pub disrupt: u32,
    /// Thousandths of CPUs.
    pub cpus: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPolicy {
    pub to: PoolName,
    pub listen: u16,
    /// The port on the nodes.
    pub port: u16,
    pub check: String,
    pub address: Option<IpAddr>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPolicy {
    pub pool: PoolName,
    /// Bytes.
    pub size: u64,
}

/// A site that cannot be planned for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("environment {environment} runs on AWS ({region}), which is not offered yet")]
    Aws { environment: EnvName, region: String },
}

impl Policy {
    /// From a valid site. `site` is the digest of its files, `node_image` what new nodes run.
    pub fn of(site: &Site, digest: Digest, node_image: &str) -> Result<Self, PolicyError> {
        let subnet = match &site.provider {
            Provider::Docker { subnet } => *subnet,
            Provider::Aws { region } => {
                return Err(PolicyError::Aws { environment: site.environment.clone(), region: region.clone() });
            }
        };
        let pool = |pool: &muster_catalog::site::Pool| PoolPolicy {
            member: pool.member,
            count: pool.min,
            disrupt: pool.disrupt,
            cpus: pool.cpus,
            memory: pool.memory,
        };
        let endpoint = |endpoint: &muster_catalog::site::Endpoint| EndpointPolicy {
            to: endpoint.to.clone(),
            listen: endpoint.listen,
            port: endpoint.port,
            check: endpoint.check.clone(),
            address: endpoint.address,
        };
        let disk = |disk: &muster_catalog::site::Disk| DiskPolicy { pool: disk.pool.clone(), size: disk.size };
        Ok(Self {
            cluster: site.cluster.clone(),
            environment: site.environment.clone(),
            site: digest,
            subnet,
            pods: site.pods,
            pools: site.pools.iter().map(|(name, spec)| (name.clone(), pool(spec))).collect(),
            endpoints: site.endpoints.iter().map(|(name, spec)| (name.clone(), endpoint(spec))).collect(),
            disks: site.disks.iter().map(|(name, spec)| (name.clone(), disk(spec))).collect(),
            sets: site.manifest_sets(),
            node_image: node_image.to_owned(),
            settle: 0,
        })
    }
}
