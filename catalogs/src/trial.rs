//! Compiles one made-up node of each pool, in a container and as a machine: what only shows on a node (unknown
//! variables, two owners of one file, circles) is then an error of the site and not of the first node that meets it.

use std::net::IpAddr;

use ipnet::IpNet;
use muster_ids::{NodeName, PoolName};
use serde_json::json;

use crate::{
    catalog::Resource,
    compile::{self, Facts, NodeInput},
    diagnostic::Diagnostic,
    kinds::{cluster_member::Start, pod_network::Peer},
    site::{Provider, Site, nth},
};

/// Appends what is wrong.
pub(crate) fn run(site: &Site, errors: &mut Vec<Diagnostic>) {
    let mut site = site.clone();
    // As the coordinator of a local environment will provide it.
    if matches!(site.provider, Provider::Docker { .. }) {
        site.provide("local", json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----" }));
    }
    for pool in site.pools.keys() {
        for virtualization in ["container", "vm"] {
            let node = made_up(&site, pool, virtualization);
            let mut found = Vec::new();
            let resources = compile::resources(&site, &node, true, &mut found);
            if found.is_empty() {
                found.extend(never_joins(&site, pool, &resources));
            }
            for error in found {
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
        }
    }
}

/// A node without a membership would be waited for in vain.
fn never_joins(site: &Site, pool: &PoolName, resources: &[Resource]) -> Option<Diagnostic> {
    let role = site.roles.get(&site.pools.get(pool)?.role)?;
    let at = site.sources.file(&role.file)?;
    for (kind, message) in [
        ("cluster_member", format!("nodes of pool {pool} never join the cluster")),
        ("pod_network", format!("nodes of pool {pool} have no network for pods")),
    ] {
        if !resources.iter().any(|r| r.spec.kind() == kind) {
            let label = format!("neither this role nor what it includes has [[{kind}]]");
            return Some(Diagnostic::new(message).at(site.sources.place(at, label)).help(format!("add [[{kind}]]")));
        }
    }
    None
}

fn made_up(site: &Site, pool: &PoolName, virtualization: &str) -> NodeInput {
    let subnet = match &site.provider {
        Provider::Docker { subnet } => *subnet,
        Provider::Aws { .. } => IpNet::new_assert(IpAddr::from([10, 0, 0, 0]), 16),
    };
    let address = nth(subnet, 257);
    let pods = |n: u32| IpNet::new(nth(site.pods, n * 256), 24).unwrap_or(site.pods);
    NodeInput {
        name: NodeName::of(pool, 1),
        pool: pool.clone(),
        address,
        node_pods: pods(0),
        peers: vec![Peer {
            name: "other-1".to_owned(),
            address: nth(subnet, 258).to_string(),
            pods: pods(1).to_string(),
        }],
        start: Start::Join,
        gone: Vec::new(),
        endpoints: site
            .endpoints
            .keys()
            .enumerate()
            .map(|(i, name)| (name.clone(), nth(subnet, 10 + u32::try_from(i).unwrap_or(0))))
            .collect(),
        left_sets: [].into(),
        disks: site.disks.iter().filter(|(_, d)| d.pool == *pool).map(|(name, _)| name.clone()).collect(),
        facts: Facts {
            hostname: format!("{pool}-1"),
            os: "debian".to_owned(),
            os_version: "12".to_owned(),
            arch: "amd64".to_owned(),
            kernel: "6.1.0".to_owned(),
            virtualization: virtualization.to_owned(),
            cgroup: 2,
            cpus: 2,
            memory: 4 << 30,
            machine_cpus: 2,
            machine_memory: 4 << 30,
            address: address.to_string(),
            interface: "eth0".to_owned(),
        },
    }
}
