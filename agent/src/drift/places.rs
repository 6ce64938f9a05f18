//! Which paths speak for which resources. Pure.

use std::collections::BTreeMap;

use muster_catalog::{Catalog, Spec};
use muster_ids::ResourceId;
use muster_plan::kinds::{apt_source, kernel_module, sysctl};

/// Folder to name to resources; the empty name stands for anything in the folder.
pub type Places = BTreeMap<String, BTreeMap<String, Vec<ResourceId>>>;

/// Every path that a change of shows in.
pub fn of(catalog: &Catalog) -> Places {
    let mut places = Places::new();
    for resource in &catalog.resource {
        let id = resource.id();
        for path in paths(&resource.spec) {
            add(&mut places, &path, &id);
        }
        if let Spec::Directory(folder) = &resource.spec
            && folder.purge
            && !folder.absent
        {
            let names = places.entry(folder.path.trim_end_matches('/').to_owned()).or_default();
            names.entry(String::new()).or_default().push(id);
        }
    }
    places
}

fn add(places: &mut Places, path: &str, id: &ResourceId) {
    let Some((folder, name)) = path.trim_end_matches('/').rsplit_once('/') else { return };
    let folder = if folder.is_empty() { "/" } else { folder };
    places.entry(folder.to_owned()).or_default().entry(name.to_owned()).or_default().push(id.clone());
}

fn paths(spec: &Spec) -> Vec<String> {
    let accounts = || vec!["/etc/passwd".to_owned(), "/etc/group".to_owned()];
    match spec {
        Spec::File(spec) => vec![spec.path.clone()],
        Spec::Directory(spec) => vec![spec.path.clone()],
        Spec::AptSource(spec) => vec![apt_source::source_path(&spec.name), apt_source::key_path(&spec.name)],
        Spec::Sysctl(spec) => vec![sysctl::path(spec), sysctl::proc_path(spec)],
        Spec::KernelModule(spec) => vec![kernel_module::path(spec)],
        Spec::Mount(_) => vec!["/etc/fstab".to_owned()],
        Spec::User(_) | Spec::Group(_) => accounts(),
        Spec::Package(_) => vec!["/var/lib/dpkg/status".to_owned()],
        Spec::Command(spec) => spec.creates.iter().cloned().collect(),
        // Heard over D-Bus; enabling shows as a link.
        Spec::Service(_) => Vec::new(),
        Spec::ClusterMember(_) | Spec::Container(_) | Spec::Image(_) | Spec::Manifest(_) | Spec::PodNetwork(_) => {
            Vec::new()
        }
    }
}
