//! Names and labels: what belongs to which environment.

use std::{collections::HashMap, fmt};

use muster_ids::{ClusterName, DiskName, EndpointName, EnvName, NodeName};
use muster_proto::Realm;

/// `CLUSTER/ENVIRONMENT`, on everything that muster makes.
pub(crate) const LABEL: &str = "muster";
pub(crate) const ROLE: &str = "muster.role";
pub(crate) const NODE: &str = "muster.node";
pub(crate) const TOKEN: &str = "muster.token";
pub(crate) const INCARNATION: &str = "muster.incarnation";
pub(crate) const ADDRESS: &str = "muster.address";
pub(crate) const PODS: &str = "muster.pods";
pub(crate) const DISKS: &str = "muster.disks";
pub(crate) const DISK: &str = "muster.disk";
pub(crate) const SIZE: &str = "muster.size";
pub(crate) const ENDPOINT: &str = "muster.endpoint";
/// Digest of what a service's container was created from.
pub(crate) const SPEC: &str = "muster.spec";

/// One environment of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub cluster: ClusterName,
    pub environment: EnvName,
}

/// What a container or volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Coordinator,
    Artefacts,
    Node,
    LoadBalancer,
    Disk,
    Network,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Coordinator => "coordinator",
            Role::Artefacts => "artefacts",
            Role::Node => "node",
            Role::LoadBalancer => "load-balancer",
            Role::Disk => "disk",
            Role::Network => "network",
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.environment)
    }
}

impl Scope {
    pub fn of(realm: &Realm) -> Self {
        Self { cluster: realm.cluster.clone(), environment: realm.environment.clone() }
    }

    /// As in `muster-easypay-local-workers-1`; the network's name is [`Scope::network`].
    pub fn name(&self, what: impl fmt::Display) -> String {
        format!("muster-{}-{}-{what}", self.cluster, self.environment)
    }

    pub fn network(&self) -> String {
        format!("muster-{}-{}", self.cluster, self.environment)
    }

    pub fn node(&self, node: &NodeName) -> String {
        self.name(node)
    }

    pub fn load_balancer(&self, endpoint: &EndpointName) -> String {
        self.name(format_args!("endpoint-{endpoint}"))
    }

    pub fn disk(&self, disk: &DiskName) -> String {
        self.name(format_args!("disk-{disk}"))
    }

    /// The labels that everything of this environment carries.
    pub fn labels(&self, role: Role) -> HashMap<String, String> {
        HashMap::from([(LABEL.to_owned(), self.to_string()), (ROLE.to_owned(), role.to_string())])
    }

    /// Docker's filter for this environment.
    pub(crate) fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{LABEL}={self}")])])
    }
}
