//! What a kind may use to look and to act: the ports, who this node is, and what the rest of the catalog owns.
//!
//! Cheap to clone (all parts are shared). A kind gets everything from here and nothing from the process's environment, so
//! that the same code runs against fakes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use muster_catalog::{
    Catalog, Spec,
    kinds::{Owned, manifest::ObjectId},
};
use muster_ids::{ClusterName, EnvName, Generation, NodeName, ResourceId};

use crate::ports::{Archives, Clock, Commands, Docker, Files, Kube, Mounts, Packages, Secrets, Tickets, Turns, Units};

/// The ports and the scope of one converge.
#[derive(Clone)]
pub struct Context {
    pub files: Arc<dyn Files>,
    pub mounts: Arc<dyn Mounts>,
    pub archives: Arc<dyn Archives>,
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
    /// What is done for the whole cluster is marked with it: the catalog's, or the other nodes' while this one tries its own.
    pub generation: Generation,
    /// What the node's resources own, by path. Filled where a folder is purged.
    pub owned: BTreeMap<String, Owner>,
    /// Users with keys of the catalog, each with one of them. Where their files are the node knows.
    pub keys: BTreeMap<String, ResourceId>,
    /// The groups that it keeps.
    pub groups: BTreeSet<String>,
    /// The Kubernetes objects that the catalog's sets name, as written, each with its set.
    pub objects: Vec<(String, ObjectId)>,
}

/// Whose a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub by: ResourceId,
    /// With all below it.
    pub tree: bool,
}

impl Scope {
    pub fn of(catalog: &Catalog) -> Self {
        let purges = catalog.resource.iter().any(|resource| match &resource.spec {
            Spec::Directory(directory) => directory.purge,
            _other => false,
        });
        Self {
            cluster: catalog.cluster.clone(),
            environment: catalog.environment.clone(),
            node: catalog.node.clone(),
            generation: of_the_cluster(catalog),
            owned: if purges { owned(catalog) } else { BTreeMap::new() },
            keys: if purges { keys(catalog) } else { BTreeMap::new() },
            groups: catalog.resource.iter().filter_map(|resource| group(&resource.spec)).collect(),
            objects: objects(catalog),
        }
    }
}

fn group(spec: &Spec) -> Option<String> {
    match spec {
        Spec::Group(group) if !group.absent => Some(group.name.clone()),
        _other => None,
    }
}

fn keys(catalog: &Catalog) -> BTreeMap<String, ResourceId> {
    let keys = catalog.resource.iter().filter_map(|resource| match &resource.spec {
        Spec::AuthorizedKey(key) if !key.absent => Some((key.user.clone(), resource.id())),
        _other => None,
    });
    keys.collect()
}

fn of_the_cluster(catalog: &Catalog) -> Generation {
    let of = catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::Manifest(set) => set.prune.as_ref()?.of,
        _other => None,
    });
    of.unwrap_or(catalog.generation)
}

fn objects(catalog: &Catalog) -> Vec<(String, ObjectId)> {
    let sets = catalog.resource.iter().filter_map(|resource| match &resource.spec {
        Spec::Manifest(set) => Some(set),
        _other => None,
    });
    sets.flat_map(|set| set.objects().into_iter().map(|id| (set.name.clone(), id))).collect()
}

fn owned(catalog: &Catalog) -> BTreeMap<String, Owner> {
    let mut all: BTreeMap<String, Owner> = BTreeMap::new();
    for resource in catalog.resource.iter().filter(|resource| !resource.spec.absent()) {
        for Owned { path, tree } in resource.spec.owns() {
            // Who owns all below it speaks for it.
            if tree || !all.contains_key(&path) {
                all.insert(path, Owner { by: resource.id(), tree });
            }
        }
    }
    all
}
