//! What cannot be changed on a living cluster, as its version until upgrades exist: said when the plan is made, with the place.

use muster_catalog::{Diagnostic, Diagnostics, Site, SiteFiles, diagnostic::Place, site::Provider};
use muster_planner::{AddressTaken, Blueprint, Policy, addresses_taken, bytes};

/// Refuses a changed Kubernetes version, pod or service range, nodes' network or cluster name.
pub fn refuse_fixed(files: &SiteFiles, new: &Site, living: &Site) -> Result<(), Diagnostics> {
    let (cluster, docker) = ("[cluster]", "[provider.docker]");
    let checks = [
        (cluster, "name", "the cluster's name", living.cluster.to_string(), new.cluster.to_string()),
        (cluster, "kubernetes", "the Kubernetes version", living.kubernetes.clone(), new.kubernetes.clone()),
        (cluster, "pods", "the pods' range", living.pods.to_string(), new.pods.to_string()),
        (cluster, "services", "the services' range", living.services.to_string(), new.services.to_string()),
        (docker, "subnet", "the nodes' network", provider(living), provider(new)),
    ];
    let mut errors = Vec::new();
    for (table, key, what, old, new) in checks.into_iter().filter(|(.., old, new)| old != new) {
        errors.push(Diagnostic {
            message: format!("{what} cannot change on a living cluster: {old} → {new}"),
            places: place(files, table, key, &new, &format!("the cluster was made with {old}")).into_iter().collect(),
            help: Some(format!("put `{key} = \"{old}\"` back, or make a new environment")),
        });
    }
    if errors.is_empty() { Ok(()) } else { Err(Diagnostics(errors)) }
}

/// Refuses a disk that would shrink, or be at another pool: its data is where it is, and fills it as it is.
pub fn refuse_disks(files: &SiteFiles, new: &Site, living: &Blueprint) -> Result<(), Diagnostics> {
    let mut errors = Vec::new();
    for (name, disk) in &new.disks {
        let Some(plan) = living.disks.get(name) else { continue };
        let table = format!("[disk.{name}]");
        if disk.size < plan.size {
            let (old, written) = (bytes(plan.size), bytes(disk.size));
            errors.push(Diagnostic {
                message: format!("disk {name} cannot shrink: {old} → {written}"),
                places: key_place(files, &table, "size", &format!("it was made with {old}")).into_iter().collect(),
                help: Some(format!(
                    "put `size = \"{old}\"` back, or write a smaller disk under another name and copy the data to it"
                )),
            });
        }
        let holder = living.nodes.get(&plan.node);
        if let Some(holder) = holder.filter(|holder| holder.pool != disk.pool) {
            let (old, node) = (&holder.pool, &plan.node);
            errors.push(Diagnostic {
                message: format!("disk {name} cannot move from the pool {old} to {}", disk.pool),
                places: key_place(files, &table, "pool", &format!("{node} of {old} holds it")).into_iter().collect(),
                help: Some(format!(
                    "put `pool = \"{old}\"` back, or write a disk of {} under another name and copy the data to it",
                    disk.pool
                )),
            });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Diagnostics(errors)) }
}

/// Refuses a written address that was chosen for another endpoint before: clients know it as that one's.
pub fn refuse_taken(files: &SiteFiles, policy: &Policy, living: &Blueprint) -> Result<(), Diagnostics> {
    let error = |taken: AddressTaken| {
        let AddressTaken { endpoint, address, holder, free } = taken;
        let table = format!("[endpoint.{endpoint}]");
        let instead = match free {
            Some(free) => format!("write {free}, which is free"),
            None => "give it another".to_owned(),
        };
        Diagnostic {
            message: format!("endpoint {endpoint} cannot have the address {address}: endpoint {holder} has it"),
            places: place(
                files,
                &table,
                "address",
                &address.to_string(),
                &format!("chosen for {holder} when it was made"),
            )
            .into_iter()
            .collect(),
            help: Some(format!("{instead}, or leave `address` out; to move {holder}, write an address for it, too")),
        }
    };
    let errors: Vec<_> = addresses_taken(policy, living).into_iter().map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(Diagnostics(errors)) }
}

fn provider(site: &Site) -> String {
    match &site.provider {
        Provider::Docker { subnet } => subnet.to_string(),
        Provider::Aws { region } => region.clone(),
    }
}

/// The line of a table that sets the key to this value: an environment's if it overrides it.
fn place(files: &SiteFiles, table: &str, key: &str, value: &str, label: &str) -> Option<Place> {
    find(files, table, key, |right| right.contains(value), label)
}

/// The line of a table that sets the key to whatever: an environment's if it overrides it.
fn key_place(files: &SiteFiles, table: &str, key: &str, label: &str) -> Option<Place> {
    find(files, table, key, |_| true, label)
}

fn find(files: &SiteFiles, table: &str, key: &str, fits: impl Fn(&str) -> bool, label: &str) -> Option<Place> {
    let environments = files.texts.iter().filter(|(path, _)| path.starts_with("environments/"));
    let all = environments.chain(files.texts.iter().filter(|(path, _)| *path == "muster.toml"));
    for (file, text) in all {
        let mut inside = false;
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.starts_with('[') {
                inside = trimmed == table;
            }
            let Some((left, right)) = trimmed.split_once('=') else { continue };
            if inside && left.trim() == key && fits(right) {
                let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
                return Some(Place {
                    file: file.clone(),
                    line: u32::try_from(index + 1).unwrap_or(u32::MAX),
                    column: u32::try_from(column).unwrap_or(1),
                    width: u32::try_from(trimmed.chars().count()).unwrap_or(1),
                    text: line.to_owned(),
                    cut: 0,
                    label: label.to_owned(),
                });
            }
        }
    }
    None
}
