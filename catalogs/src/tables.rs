//! The tables of a site as they are written: what serde reads and what the JSON Schema tells editors.
//!
//! Formats and bounds stand here, so that checking, schema and reference come from one place. What several tables
//! together must fulfil is in [`crate::load`].

use std::collections::BTreeMap;

use muster_ids::{AppName, ClusterName, DiskName, EndpointName, PoolName, RoleName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    apps::AppTable,
    kinds::{cluster_member::MemberRole, pod_network::Mode},
};

/// `muster.toml` and the file of an environment, which overrides it table by table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a site")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the whole file is only checked; each table of it is decoded by itself")]
pub(crate) struct SiteTable {
    pub(crate) cluster: ClusterTable,
    /// `down` refuses a protected environment unless told `--unprotect`.
    #[serde(default)]
    pub(crate) protected: bool,
    /// Where the cluster runs; mostly given by the environment.
    pub(crate) provider: Option<ProviderTable>,
    /// Nodes of one kind, by the pool's name.
    pub(crate) pool: BTreeMap<PoolName, PoolTable>,
    /// Addresses that outlive nodes, by name. `api` is the cluster's own.
    pub(crate) endpoint: BTreeMap<EndpointName, EndpointTable>,
    /// Disks with a life of their own, by name.
    #[serde(default)]
    pub(crate) disk: BTreeMap<DiskName, DiskTable>,
    /// Secrets, by name.
    #[serde(default)]
    pub(crate) secret: BTreeMap<DiskName, SecretTable>,
    /// Applications, by name; mostly in files of their own in `apps/`.
    #[serde(default)]
    pub(crate) app: BTreeMap<AppName, AppTable>,
    /// Values for templates: `[variables.packages.kubernetes] url = …` is `{{ packages.kubernetes.url }}`.
    /// An environment may only change what `muster.toml` declares.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, serde_json::Value>,
}

/// `[cluster]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "the cluster")]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterTable {
    /// Never changes for a living cluster.
    pub(crate) name: ClusterName,
    /// The version of Kubernetes.
    #[schemars(extend("format" = "version"))]
    pub(crate) kubernetes: String,
    /// All pods' addresses. Each node gets 256 of them.
    #[serde(default = "pods")]
    #[schemars(extend("format" = "cidr"))]
    pub(crate) pods: String,
    /// All services' addresses.
    #[serde(default = "services")]
    #[schemars(extend("format" = "cidr"))]
    pub(crate) services: String,
    /// How pods of different nodes reach one another.
    #[serde(default)]
    pub(crate) network: Mode,
}

fn pods() -> String {
    "10.244.0.0/16".to_owned()
}

fn services() -> String {
    "10.96.0.0/12".to_owned()
}

/// `[provider.…]`: exactly one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(title = "the provider")]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderTable {
    /// Containers on this machine.
    pub(crate) docker: Option<DockerTable>,
    /// EC2. Checked, and not offered yet.
    pub(crate) aws: Option<AwsTable>,
}

/// `[provider.docker]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "the provider docker")]
#[serde(deny_unknown_fields)]
pub(crate) struct DockerTable {
    /// The nodes' network.
    #[serde(default = "subnet")]
    #[schemars(extend("format" = "cidr"))]
    pub(crate) subnet: String,
}

fn subnet() -> String {
    "10.89.0.0/16".to_owned()
}

/// `[provider.aws]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "the provider aws")]
#[serde(deny_unknown_fields)]
pub(crate) struct AwsTable {
    #[schemars(extend("format" = "word"))]
    pub(crate) region: String,
    /// The machine image of new instances.
    #[serde(default)]
    #[expect(dead_code, reason = "checked, and not offered yet")]
    pub(crate) image: Option<AwsImageTable>,
}

/// `image = { family = "debian-12", arch = "amd64" }`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "an image of the provider aws")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked, and not offered yet")]
pub(crate) struct AwsImageTable {
    #[schemars(extend("format" = "word"))]
    pub(crate) family: String,
    #[schemars(extend("format" = "word"))]
    pub(crate) arch: String,
}

/// `[pool.NAME]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a pool")]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolTable {
    /// The role of its nodes: a file in `roles/`.
    pub(crate) role: RoleName,
    /// How many nodes. Or give `min` and `max`.
    #[schemars(range(min = 1, max = 250))]
    pub(crate) count: Option<u32>,
    /// At least so many nodes; the pool begins with them.
    #[schemars(range(min = 1, max = 250))]
    pub(crate) min: Option<u32>,
    /// At most so many nodes. Nothing adds nodes by itself yet: a pool stays at `min`.
    #[schemars(range(min = 1, max = 250))]
    pub(crate) max: Option<u32>,
    /// Labels of its nodes in Kubernetes.
    #[serde(default)]
    #[schemars(extend(
        "propertyNames" = { "format": "label-name" },
        "additionalProperties" = { "type": "string", "format": "label" }
    ))]
    pub(crate) labels: BTreeMap<String, String>,
    /// Taints of its nodes in Kubernetes. Control planes always have their own besides.
    #[serde(default)]
    pub(crate) taints: Vec<Taint>,
    /// CPUs of each node (Docker). Absent: all of the machine's.
    #[schemars(range(min = 0.1))]
    pub(crate) cpus: Option<f64>,
    /// Memory of each node (Docker). Absent: unlimited.
    #[schemars(extend("format" = "size"))]
    pub(crate) memory: Option<String>,
    /// How many nodes may be disrupted at once.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub(crate) disrupt: u32,
    /// Instance types, the first that is to be had (AWS).
    pub(crate) instance: Option<OneOrMany>,
}

fn one() -> u32 {
    1
}

/// `key=value:Effect`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Taint(#[schemars(extend("format" = "taint"))] pub(crate) String);

/// One text or a list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `[endpoint.NAME]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "an endpoint")]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointTable {
    /// The pool behind it.
    pub(crate) to: PoolName,
    /// The port that clients use. `api`: 6443.
    #[schemars(range(min = 1))]
    pub(crate) listen: Option<u16>,
    /// The port on the nodes: for an application from 30000 to 32767, another for each component. `api`: always 6443.
    #[schemars(range(min = 1))]
    pub(crate) port: Option<u16>,
    /// Path of the health check. `api`: `/readyz`, others `/`.
    #[schemars(extend("format" = "path"))]
    pub(crate) check: Option<String>,
    /// Its fixed address, from the 10th to the 255th of the provider's subnet (Docker). Absent: a free one is chosen, and kept.
    #[schemars(extend("format" = "ip"))]
    pub(crate) address: Option<String>,
}

/// `[disk.NAME]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a disk")]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskTable {
    /// The pool one of whose nodes holds it.
    pub(crate) pool: PoolName,
    #[schemars(extend("format" = "size"))]
    pub(crate) size: String,
}

/// `[secret.NAME]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a secret")]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretTable {
    /// The coordinator makes a random one of 32 characters and keeps it sealed.
    pub(crate) generate: bool,
}

/// A file in `roles/`: these keys and resources.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a role")]
pub(crate) struct RoleHead {
    /// Roles whose resources it has as well.
    #[serde(default)]
    pub(crate) include: Vec<RoleName>,
    /// What nodes of this role are to Kubernetes.
    pub(crate) member: Option<MemberRole>,
}

/// A file in `apps/`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(title = "a file of applications")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the file is only checked; its tables are merged into the site's")]
pub(crate) struct AppFile {
    /// Applications, by name.
    pub(crate) app: BTreeMap<AppName, AppTable>,
}

/// What every resource may say besides its kind's keys.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Common {
    /// Resources that are converged before this one.
    pub(crate) after: Vec<ResourceRef>,
    /// Resources that are told when this one changed: services restart or reload, commands run.
    pub(crate) notify: Vec<ResourceRef>,
    /// Only on nodes where this expression is true, as in `facts.virtualization == "container"`.
    pub(crate) when: Option<String>,
}

/// `service.containerd`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[expect(dead_code, reason = "only its schema counts: the compiler reads references with their places")]
pub(crate) struct ResourceRef(#[schemars(extend("format" = "resource"))] String);
