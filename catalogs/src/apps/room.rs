//! Whether the pods of a component find room on the nodes that they may run on, as far as the written sizes tell.

use muster_ids::PoolName;

use super::{ComponentTable, Told};
use crate::{
    formats,
    kinds::cluster_member::MemberRole,
    site::{Pool, Site},
    tree::Node,
};

/// What is asked for, and what of it a node has; none where the site does not say.
struct Size<'a> {
    key: &'a str,
    asked: u64,
    has: fn(&Pool) -> Option<u64>,
    text: fn(u64) -> String,
}

/// A pod must fit on a node, and all of them on all nodes. A pool whose nodes have no written size has room for anything.
pub(super) fn check(name: &str, spec: &ComponentTable, node: &Node, site: &Site, error: &mut Told<'_>) {
    let memory = spec.memory.as_deref().and_then(formats::size);
    let cpu = spec.cpu.map(|cpus| (cpus * 1000.0).round() as u64);
    let sizes = [
        memory.map(|asked| Size {
            key: "memory",
            asked,
            has: |pool| pool.memory,
            text: |size| format!("memory = \"{}Mi\"", size >> 20),
        }),
        cpu.map(|asked| Size {
            key: "cpu",
            asked,
            has: |pool| pool.cpus.map(u64::from),
            text: |size| format!("cpus = {}", size as f64 / 1000.0),
        }),
    ];
    let pools = pools(spec, site);
    let names = pools.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    for Size { key, asked, has, text } in sizes.into_iter().flatten().filter(|size| size.asked > 0) {
        let each: Option<Vec<(u64, u64)>> =
            pools.iter().map(|(_, pool)| Some((has(pool)?, u64::from(pool.max)))).collect();
        let Some(each) = each.filter(|each| !each.is_empty()) else { continue };
        let largest = each.iter().map(|(has, _)| *has).max().unwrap_or_default();
        let fit: u64 = each.iter().map(|(has, nodes)| has / asked * nodes).sum();
        let (message, label) = if asked > largest {
            (format!("no node of the pool {names} has room for {name}"), "more than a whole node".to_owned())
        } else if fit < u64::from(spec.replicas) {
            let message = format!("the pool {names} has room for {fit} of the {} pods of {name}", spec.replicas);
            (message, "for each of them".to_owned())
        } else {
            continue;
        };
        let help = format!("the largest nodes of {names} have {}: ask for less, or give the pool more", text(largest));
        error(message, node.at(&[name, key]), label, Some(help));
    }
}

/// The pools that it may run on: its own, or all of workers without taints.
fn pools<'a>(spec: &ComponentTable, site: &'a Site) -> Vec<(&'a PoolName, &'a Pool)> {
    let workers = site.pools.iter().filter(|(_, pool)| pool.member == MemberRole::Worker);
    workers.filter(|(name, pool)| spec.pool.as_ref().map_or(pool.taints.is_empty(), |own| own == *name)).collect()
}
