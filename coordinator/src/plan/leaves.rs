//! What leaves a node's catalog and stays on the node: nobody should learn that from what is still there.

use std::{collections::BTreeSet, path::Path};

use muster_catalog::{Catalog, Spec};
use muster_ids::ResourceId;

/// The resources of the catalog that a node follows which the new one has no more, and that stay there as they are. Without
/// those that are removed by what the new one says of their folder, and those that leave nothing behind.
pub fn leaves(old: &Catalog, new: &Catalog) -> Vec<ResourceId> {
    let kept: BTreeSet<ResourceId> = new.resource.iter().map(|resource| resource.id()).collect();
    let left = old.resource.iter().filter(|resource| !kept.contains(&resource.id()) && !resource.spec.absent());
    left.filter(|resource| stays(&resource.spec, new)).map(|resource| resource.id()).collect()
}

fn stays(spec: &Spec, new: &Catalog) -> bool {
    match spec.kind() {
        // What it did is done; sets of objects and memberships are taken back by the cluster's own steps.
        "command" | "manifest" | "cluster_member" | "pod_network" => false,
        "file" | "link" | "directory" => !purged(spec.name(), new),
        _stays => true,
    }
}

/// Whether the new catalog empties a folder that it is in.
fn purged(path: &str, new: &Catalog) -> bool {
    new.resource.iter().any(|resource| match &resource.spec {
        Spec::Directory(folder) => folder.purge && Path::new(path).starts_with(&folder.path),
        _other => false,
    })
}

/// How somebody has it removed, for people.
pub fn way_out(resource: &ResourceId) -> &'static str {
    match resource.kind() {
        "service" => "to stop it: running = false and enabled = false",
        "sysctl" | "hostname" | "timezone" => "another value is set by writing it",
        _removable => "to remove it: absent = true",
    }
}
