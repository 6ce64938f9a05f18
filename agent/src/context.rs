//! What a kind may use to look and to act: the ports, who this node is, and what the rest of the catalog owns.
//!
//! Cheap to clone (all parts are shared). A kind gets everything from here and nothing from the process's environment, so
//! that the same code runs against fakes.

use std::{collections::BTreeSet, sync::Arc};

use muster_catalog::Catalog;
use muster_ids::{ClusterName, EnvName, Generation, NodeName};

use crate::ports::{Clock, Commands, Docker, Files, Kube, Packages, Secrets, Tickets, Turns, Units};

/// The ports and the scope of one converge.
#[derive(Clone)]
pub struct Context {
    pub files: Arc<dyn Files>,
    pub packages: Arc<dyn Packages>,
    pub units: Arc<dyn Units>,
    pub docker: Arc<dyn Docker>,
    pub commands: Arc<dyn Commands>,
    pub clock: Arc<dyn Clock>,
    pub kube: Arc<dyn Kube>,
    /// Turns to disrupt, and the cluster's turn to change etcd's membership.
    pub turns: Arc<dyn Turns>,
    /// Secrets by name.
    pub secrets: Arc<dyn Secrets>,
    /// Tickets to join the cluster as this node.
    pub tickets: Arc<dyn Tickets>,
    pub scope: Arc<Scope>,
}

/// Who this node is and what its catalog owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub cluster: ClusterName,
    pub environment: EnvName,
    pub node: NodeName,
    pub generation: Generation,
    /// Paths that a resource owns: a purged folder keeps these.
    pub paths: BTreeSet<String>,
}

impl Scope {
    pub fn of(catalog: &Catalog) -> Self {
        let purges = catalog.resource.iter().any(|resource| match &resource.spec {
            muster_catalog::Spec::Directory(directory) => directory.purge,
            _other => false,
        });
        Self {
            cluster: catalog.cluster.clone(),
            environment: catalog.environment.clone(),
            node: catalog.node.clone(),
            generation: catalog.generation,
            paths: if purges { owned_paths(catalog) } else { BTreeSet::new() },
        }
    }
}

fn owned_paths(catalog: &Catalog) -> BTreeSet<String> {
    use muster_catalog::Spec;
    let mut paths = BTreeSet::new();
    for resource in &catalog.resource {
        match &resource.spec {
            Spec::File(file) if !file.absent => drop(paths.insert(file.path.clone())),
            Spec::Directory(directory) if !directory.absent => drop(paths.insert(directory.path.clone())),
            Spec::Mount(mount) if !mount.absent => drop(paths.insert(mount.path.clone())),
            Spec::AptSource(source) if !source.absent => {
                paths.insert(format!("/etc/apt/sources.list.d/{}.sources", source.name));
                paths.insert(format!("/etc/apt/keyrings/{}.asc", source.name));
            }
            Spec::Sysctl(sysctl) => drop(paths.insert(format!("/etc/sysctl.d/90-muster-{}.conf", sysctl.key))),
            Spec::KernelModule(module) => {
                paths.insert(format!("/etc/modules-load.d/muster-{}.conf", module.name));
            }
            Spec::File(_)
            | Spec::Directory(_)
            | Spec::Mount(_)
            | Spec::AptSource(_)
            | Spec::ClusterMember(_)
            | Spec::Command(_)
            | Spec::Container(_)
            | Spec::Group(_)
            | Spec::Image(_)
            | Spec::Manifest(_)
            | Spec::Package(_)
            | Spec::PodNetwork(_)
            | Spec::Service(_)
            | Spec::User(_) => {}
        }
    }
    paths
}
