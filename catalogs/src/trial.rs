//! Compiles made-up nodes of each pool: what only shows on a node (unknown variables, two owners of one file, circles, an
//! expression that fails on who holds no disk) is then an error of the site and not of the first node that meets it.
//!
//! A pool's first node is tried in a container and as a machine, and with all the disks of its pool. All its members are
//! tried, with the disks that each gets at first, where templates say things that differ between them. Of very large
//! pools with very many resources some are left out, so that the whole stays linear.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use muster_ids::{DiskName, NodeName, PoolName};
use serde_json::json;

use crate::{
    catalog::Resource,
    compile::{self, Facts, NodeInput},
    diagnostic::Diagnostic,
    kinds::{cluster_member::Start, pod_network::Peer},
    role::{self, Role},
    shape::is_template,
    site::{Provider, Site, nth},
    tree::{Node, Sources, Value},
};

/// So many resources of one pool are compiled for members that are not the first.
const MOST_RESOURCES: usize = 50_000;
/// And so many members of it, whatever they have.
const MOST_MEMBERS: usize = 256;
/// So many other nodes a node is told of.
const MOST_PEERS: usize = 16;
/// What differs between the members of a pool, as templates name it.
const DIFFERS: [&str; 3] = ["facts", "node", "peers"];

/// Appends what is wrong.
pub(crate) fn run(site: &mut Site, errors: &mut Vec<Diagnostic>) {
    // As the coordinator of a local environment will provide it.
    let provides = matches!(site.provider, Provider::Docker { .. });
    if provides {
        site.provide("local", json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----" }));
    }
    try_all(site, errors);
    if provides {
        site.provided.remove("local");
    }
}

fn try_all(site: &Site, errors: &mut Vec<Diagnostic>) {
    let mut known: BTreeSet<_> = errors.iter().map(place_and_message).collect();
    let peers = peers(site);
    for name in site.pools.keys() {
        for node in members(site, name, &peers) {
            let mut found = Vec::new();
            let resources = compile::resources(site, &node, true, &mut compile::Decoded::new(), &mut found);
            if found.is_empty() {
                found.extend(never_joins(site, name, &resources));
            }
            errors.extend(found.into_iter().filter(|error| known.insert(place_and_message(error))));
        }
    }
}

/// What makes two errors one, whichever node they are of.
fn place_and_message(error: &Diagnostic) -> (String, Vec<(String, u32, u32)>) {
    let places = error.places.iter().map(|place| (place.file.clone(), place.line, place.column));
    (error.message.clone(), places.collect())
}

/// The nodes of a pool that are tried.
fn members(site: &Site, name: &PoolName, peers: &[Peer]) -> Vec<NodeInput> {
    let Some(pool) = site.pools.get(name) else { return Vec::new() };
    let disks: Vec<&DiskName> =
        site.disks.iter().filter(|(_, disk)| disk.pool == *name).map(|(name, _)| name).collect();
    let node =
        |number: u32, virtualization, disks: Vec<DiskName>| made_up(site, name, number, virtualization, disks, peers);
    let all = || disks.iter().map(|disk| (*disk).clone()).collect::<Vec<_>>();
    let mut nodes = vec![node(1, "container", all()), node(1, "vm", all())];
    let roles = role::with_included(&site.roles, &pool.role);
    if !differ(&roles, &site.variable_tree, &site.sources) {
        return nodes;
    }
    let resources: usize = roles.iter().map(|role| role.resources.len()).sum();
    let most = u32::try_from((MOST_RESOURCES / resources.max(1)).clamp(2, MOST_MEMBERS)).unwrap_or(2);
    let virtualization = if matches!(site.provider, Provider::Docker { .. }) { "container" } else { "vm" };
    let count = pool.max.max(1);
    let left_out = |number: &u32| *number < most || *number == count;
    for number in (1..=count).filter(left_out) {
        // Disks are spread evenly over a new pool.
        let held = disks.iter().skip(number as usize - 1).step_by(count as usize);
        let held: Vec<DiskName> = held.map(|disk| (*disk).clone()).collect();
        if number > 1 || held.len() < disks.len() {
            nodes.push(node(number, virtualization, held));
        }
    }
    nodes
}

/// Whether templates of these roles may say different things on nodes of one pool.
fn differ(roles: &[&Role], variables: &Node, sources: &Sources) -> bool {
    let names = |text: &str| DIFFERS.iter().any(|name| text.contains(name));
    let written = roles.iter().copied().flat_map(|role| role.resources.iter().map(move |written| (role, written)));
    let mut resources =
        written.filter(|(_, written)| written.kind != "cluster_member" && written.kind != "pod_network");
    let file = |role: &Role, written: &role::Written| {
        let named = written.node.get(&["template"]).and_then(Node::str)?;
        let folder = role.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        // One whose name is a template may be any.
        sources.text(&compile::join(folder, named)).map(str::to_owned).or_else(|| Some(DIFFERS.concat()))
    };
    any_template(variables, &names)
        || resources.any(|(role, written)| {
            let when = written.node.get(&["when"]).and_then(Node::str).is_some_and(names);
            when || any_template(&written.node, &names) || file(role, written).is_some_and(|text| names(&text))
        })
}

fn any_template(node: &Node, names: &dyn Fn(&str) -> bool) -> bool {
    match &node.value {
        Value::String(text) => is_template(text) && names(text),
        Value::Array(all) => all.iter().any(|node| any_template(node, names)),
        Value::Table(table) => table.values().any(|entry| any_template(&entry.node, names)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => false,
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

/// The first nodes of the cluster; no more than a node is told of, and one for itself.
fn peers(site: &Site) -> Vec<Peer> {
    let nodes = site.pools.iter().flat_map(|(name, pool)| (1..=pool.min.max(1)).map(move |number| (name, number)));
    let peer = |(index, (name, number)): (usize, (&PoolName, u32))| {
        let index = u32::try_from(index).unwrap_or(0);
        Peer {
            name: NodeName::of(name, number).to_string(),
            address: nth(subnet(site), 257 + index).to_string(),
            pods: pods(site, index).to_string(),
        }
    };
    nodes.take(MOST_PEERS + 1).enumerate().map(peer).collect()
}

fn subnet(site: &Site) -> IpNet {
    match &site.provider {
        Provider::Docker { subnet } => *subnet,
        Provider::Aws { .. } => IpNet::new_assert(IpAddr::from([10, 0, 0, 0]), 16),
    }
}

fn pods(site: &Site, number: u32) -> IpNet {
    IpNet::new(nth(site.pods, number * 256), 24).unwrap_or(site.pods)
}

fn made_up(
    site: &Site,
    pool: &PoolName,
    number: u32,
    virtualization: &str,
    disks: Vec<DiskName>,
    peers: &[Peer],
) -> NodeInput {
    let name = NodeName::of(pool, number);
    let own = peers.iter().position(|peer| peer.name == name.as_str());
    let index = u32::try_from(own.unwrap_or(peers.len())).unwrap_or(0);
    let address = nth(subnet(site), 257 + index);
    let others = peers.iter().filter(|peer| peer.name != name.as_str());
    NodeInput {
        pool: pool.clone(),
        address,
        node_pods: pods(site, index),
        peers: others.take(MOST_PEERS).cloned().collect(),
        start: Start::Join,
        gone: Vec::new(),
        refused: BTreeSet::new(),
        endpoints: site
            .endpoints
            .keys()
            .enumerate()
            .map(|(i, name)| (name.clone(), nth(subnet(site), 10 + u32::try_from(i).unwrap_or(0))))
            .collect(),
        left_sets: [].into(),
        disks,
        facts: Facts {
            hostname: name.to_string(),
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
        name,
    }
}
