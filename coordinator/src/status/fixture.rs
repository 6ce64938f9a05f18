//! A small environment where all is as written, for tests to spoil.

use muster_ids::Generation;

use super::{AppStatus, EndpointStatus, NodeLife, NodeStatus, PoolStatus, Status};
use super::{ControlPlaneStatus, Dns, Member, MemberState};
use crate::state::Usage;

pub fn node(name: &str, state: NodeLife) -> NodeStatus {
    let wanted = Generation { epoch: 1, counter: 41 };
    let written = state == NodeLife::Written;
    NodeStatus {
        name: name.parse().unwrap(),
        pool: name.rsplit_once('-').unwrap().0.parse().unwrap(),
        address: "10.89.1.1".to_owned(),
        state,
        ready: written,
        unready: None,
        cordoned: false,
        converged: written,
        connected: state != NodeLife::Silent,
        wanted,
        generation: Some(wanted),
        last_seen: Some(9_000),
        last_converge: Some(9_400),
        already_right: 61,
        changed: 2,
        usage: Some(Usage { cpu_used_milli: 250, cpu_total_milli: 1000, memory_used: 3 << 30, memory_total: 8 << 30 }),
        problems: vec![],
        drift: vec![],
        paused: None,
        locked_out: None,
    }
}

pub fn status() -> Status {
    Status {
        cluster: "easypay".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        time: 10_000,
        kubernetes: Some("1.34.4".to_owned()),
        catalog: Some("9c02de".to_owned()),
        generation: Some(Generation { epoch: 1, counter: 41 }),
        applied_by: None,
        as_written: true,
        born: true,
        pools: vec![
            PoolStatus { name: "control-plane".parse().unwrap(), wanted: 1, ready: 1, takes_pods: 1 },
            PoolStatus { name: "workers".parse().unwrap(), wanted: 2, ready: 2, takes_pods: 2 },
        ],
        nodes: vec![
            node("control-plane-1", NodeLife::Written),
            node("workers-1", NodeLife::Written),
            node("workers-2", NodeLife::Written),
        ],
        endpoints: vec![EndpointStatus {
            name: "web".parse().unwrap(),
            url: "http://10.89.0.11/".to_owned(),
            ok: true,
            ready: 2,
            targets: 2,
            trouble: None,
        }],
        apps: vec![AppStatus {
            name: "easypay".parse().unwrap(),
            url: Some("http://10.89.0.11/".to_owned()),
            path: "/ready".to_owned(),
        }],
        api: Some("https://10.89.0.10:6443".to_owned()),
        control_plane: Some(ControlPlaneStatus {
            leader: "control-plane-1".parse().unwrap(),
            members: Some(vec![Member { node: "control-plane-1".to_owned(), state: MemberState::Voter }]),
            missing: vec![],
            dns: Some(Dns { wanted: 3, ready: 3 }),
        }),
        waits: vec![],
        workloads: vec![],
        failing: vec![],
        settled: true,
        rollout: None,
        turns: vec![],
    }
}
