//! From a blueprint to what the language needs to know of each node.

use std::collections::BTreeMap;

use muster_catalog::{
    Facts, NodeInput,
    kinds::{
        cluster_member::{Gone, Start},
        pod_network::Peer,
    },
};
use muster_ids::NodeName;
use muster_planner::{
    Blueprint,
    blueprint::{NodePlan, NodeState},
};

/// One node's input; absent for a node that the blueprint does not know or has retired.
pub fn node_inputs(blueprint: &Blueprint, name: &NodeName, facts: Facts) -> Option<NodeInput> {
    let node = blueprint.nodes.get(name).filter(|node| lives(node))?;
    let peers = blueprint.nodes.iter().filter(|(other, plan)| *other != name && lives(plan));
    Some(NodeInput {
        name: name.clone(),
        pool: node.pool.clone(),
        address: node.address,
        node_pods: node.pods,
        peers: peers
            .map(|(other, plan)| Peer {
                name: other.to_string(),
                address: plan.address.to_string(),
                pods: plan.pods.to_string(),
            })
            .collect(),
        start: match node.state {
            NodeState::Draining => Start::Leave,
            NodeState::InService if node.init && !blueprint.born => Start::Init,
            NodeState::InService | NodeState::Lost | NodeState::Revoked | NodeState::Retired => Start::Join,
        },
        gone: blueprint.nodes.iter().filter_map(gone).collect(),
        refused: blueprint.refused.clone(),
        endpoints: blueprint.load_balancers.iter().map(|(name, plan)| (name.clone(), plan.address)).collect(),
        left_sets: blueprint.left_sets.clone(),
        disks: node.disks.clone(),
        facts,
    })
}

fn gone((name, plan): (&NodeName, &NodePlan)) -> Option<Gone> {
    let revoked = match plan.state {
        NodeState::Lost => false,
        NodeState::Revoked => true,
        NodeState::InService | NodeState::Draining | NodeState::Retired => return None,
    };
    Some(Gone { name: name.to_string(), address: plan.address.to_string(), revoked })
}

fn lives(node: &NodePlan) -> bool {
    match node.state {
        NodeState::InService | NodeState::Draining => true,
        NodeState::Lost | NodeState::Revoked | NodeState::Retired => false,
    }
}

/// What a node that never spoke will probably say: another node of its pool, or of any, is the best guess; before the
/// first one, this machine (Docker's nodes run on the coordinator's).
pub fn assumed_facts(blueprint: &Blueprint, name: &NodeName, known: &BTreeMap<NodeName, Facts>) -> Facts {
    let plan = blueprint.nodes.get(name);
    let pool = plan.map(|node| &node.pool);
    let mate = known.iter().find(|(other, _)| blueprint.nodes.get(*other).map(|node| &node.pool) == pool);
    let mut facts = mate.or_else(|| known.iter().next()).map_or_else(this_machine, |(_, facts)| facts.clone());
    facts.hostname = name.to_string();
    if let Some(node) = plan {
        facts.address = node.address.to_string();
    }
    facts
}

fn this_machine() -> Facts {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let arch = match text(system.machine()).as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    };
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    Facts {
        os: "debian".to_owned(),
        os_version: "12".to_owned(),
        arch,
        kernel: text(system.release()),
        virtualization: "container".to_owned(),
        cgroup: if unified { 2 } else { 1 },
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1)),
        interface: "eth0".to_owned(),
        ..Facts::default()
    }
}
