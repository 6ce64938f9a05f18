//! Which paths speak for which resources. Pure.

use std::collections::BTreeMap;

use muster_catalog::{Catalog, kinds::Signal};
use muster_ids::ResourceId;

/// Folder to name to resources; the empty name stands for anything in the folder.
pub type Places = BTreeMap<String, BTreeMap<String, Vec<ResourceId>>>;

/// Every path that a change of shows in.
pub fn of(catalog: &Catalog) -> Places {
    let mut places = Places::new();
    for resource in &catalog.resource {
        for signal in resource.spec.signals() {
            match signal {
                Signal::Path(path) => add(&mut places, &path, &resource.id()),
                Signal::Inside(folder) => {
                    let names = places.entry(folder.trim_end_matches('/').to_owned()).or_default();
                    names.entry(String::new()).or_default().push(resource.id());
                }
                Signal::Unit(_)
                | Signal::Container(_)
                | Signal::Image(_)
                | Signal::Mounts
                | Signal::Swaps
                | Signal::Routes(_)
                | Signal::Node(_)
                | Signal::Cluster
                | Signal::Objects { .. } => {}
            }
        }
    }
    places
}

fn add(places: &mut Places, path: &str, id: &ResourceId) {
    let Some((folder, name)) = path.trim_end_matches('/').rsplit_once('/') else { return };
    let folder = if folder.is_empty() { "/" } else { folder };
    places.entry(folder.to_owned()).or_default().entry(name.to_owned()).or_default().push(id.clone());
}
