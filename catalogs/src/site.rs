//! What a site says, once it is valid for one environment: the type that cannot be wrong.
//!
//! The planner reads pools, endpoints and disks from it; [`crate::compile()`] makes each node's catalog.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use muster_ids::{AppName, ClusterName, DiskName, EndpointName, EnvName, PoolName, RoleName};
use serde::{Deserialize, Serialize};

use crate::{
    apps,
    compile::NodeInput,
    diagnostic::Diagnostic,
    kinds::{cluster_member::MemberRole, pod_network::Mode},
    role, shape,
    template::Templates,
    tree::{Node, Sources},
};

/// A valid site, merged with one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// `down` and `destroy` refuse a protected environment without `--unprotect`.
    pub protected: bool,
    /// As in `1.34.4`.
    pub kubernetes: String,
    pub pods: IpNet,
    pub services: IpNet,
    pub network: Mode,
    pub provider: Provider,
    pub pools: BTreeMap<PoolName, Pool>,
    pub endpoints: BTreeMap<EndpointName, Endpoint>,
    pub disks: BTreeMap<DiskName, Disk>,
    pub apps: BTreeMap<AppName, crate::apps::App>,
    /// Values for templates: `[variables.packages.kubernetes] url = …` is `{{ packages.kubernetes.url }}`. Their own
    /// texts may be templates; [`crate::compile()`] renders them for each node.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Secrets that the coordinator makes once and keeps: `[secret.NAME] generate = true`.
    pub secrets: BTreeMap<String, Secret>,
    /// Roles, parsed but not yet resolved for a node.
    pub roles: Arc<BTreeMap<RoleName, crate::role::Role>>,
    /// What is worth saying and no error, as that a provider is not offered yet.
    pub warnings: Vec<Diagnostic>,
    /// Values that the coordinator provides, see [`Site::provide`].
    pub(crate) provided: BTreeMap<String, serde_json::Value>,
    /// One file without a site: templates know facts only.
    pub(crate) alone: bool,
    pub(crate) variable_tree: Node,
    pub(crate) sources: Sources,
    pub(crate) templates: Templates,
}

impl Site {
    /// Gives templates a value that stands in no file: `{{ NAME.… }}`. The coordinator of a local environment
    /// provides `local`, an object with `apt_key`, the ASCII-armoured public key of its package repository.
    ///
    /// It is no secret, and becomes a part of catalogs.
    pub fn provide(&mut self, name: &str, value: serde_json::Value) {
        self.provided.insert(name.to_owned(), value);
    }

    /// The address of the cluster's DNS: the tenth of the services', as kubeadm has it.
    pub fn dns(&self) -> IpAddr {
        nth(self.services, 10)
    }

    /// The sets of Kubernetes objects that control planes apply, by name: applications and manifests. A manifest counts
    /// whatever its `when` says; one whose name is a template does not.
    pub fn manifest_sets(&self) -> BTreeSet<String> {
        let pools = self.pools.values().filter(|pool| pool.member == MemberRole::ControlPlane);
        let written = pools
            .flat_map(|pool| role::with_included(&self.roles, &pool.role))
            .flat_map(|role| &role.resources)
            .filter(|written| written.kind == "manifest")
            .filter_map(|written| written.node.get(&["name"])?.str())
            .filter(|name| !shape::is_template(name))
            .map(str::to_owned);
        written.chain(self.apps.keys().map(apps::set)).collect()
    }

    /// What errors that other nodes may not have call this one.
    pub(crate) fn names(&self, node: &NodeInput) -> Option<String> {
        (!self.alone).then(|| node.name.to_string())
    }

    /// The pool of control planes.
    pub fn control_planes(&self) -> Option<(&PoolName, &Pool)> {
        self.pools.iter().find(|(_, pool)| pool.member == MemberRole::ControlPlane)
    }
}

/// The address at `index` of a network, counted from 0.
pub(crate) fn nth(net: IpNet, index: u32) -> IpAddr {
    match net.network() {
        IpAddr::V4(first) => IpAddr::V4(u32::from(first).wrapping_add(index).into()),
        IpAddr::V6(first) => IpAddr::V6(u128::from(first).wrapping_add(index.into()).into()),
    }
}

/// Where the cluster runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// Containers on the coordinator's machine.
    Docker {
        /// The nodes' network, CIDR; addresses are fixed within it.
        subnet: IpNet,
    },
    /// EC2. Not offered yet: `validate` says so, and nothing else takes it.
    Aws { region: String },
}

impl Provider {
    /// Why this provider cannot be planned or applied, where it cannot.
    pub fn not_offered(&self) -> Option<&'static str> {
        match self {
            Provider::Docker { .. } => None,
            Provider::Aws { .. } => Some("the provider aws is not offered yet: its environments can only be validated"),
        }
    }
}

/// Nodes of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The pool's own role; its members also get the roles that it includes.
    pub role: RoleName,
    /// What the pool's nodes are to Kubernetes.
    pub member: MemberRole,
    pub min: u32,
    pub max: u32,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<String>,
    /// CPUs of each node (Docker), in thousandths; absent: all of the machine's.
    pub cpus: Option<u32>,
    /// Bytes of memory of each node (Docker); absent: unlimited.
    pub memory: Option<u64>,
    /// How many nodes may be disrupted at once.
    pub disrupt: u32,
    /// Instance types, the first that is to be had (AWS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance: Vec<String>,
}

/// An address that outlives nodes, with a load balancer behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub to: PoolName,
    /// The port that clients use.
    pub listen: u16,
    /// The port on the nodes: 6443 for the API, a NodePort for applications.
    pub port: u16,
    /// Path of the health check, HTTPS for the API.
    pub check: String,
    /// The fixed address (Docker), where the site writes one. Absent: the planner chooses, and its blueprint remembers.
    pub address: Option<IpAddr>,
}

/// A disk with a life of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The pool one of whose nodes holds it.
    pub pool: PoolName,
    /// Bytes.
    pub size: u64,
}

/// A secret by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The coordinator makes a random one of 32 characters and keeps it sealed.
    pub generate: bool,
}
