//! The status in words.

use muster_ids::Generation;

use super::{AppStatus, EndpointStatus, NodeLife, NodeStatus, PoolStatus, Problem, Status};
use crate::state::{Pause, Usage};

fn node(name: &str, state: NodeLife) -> NodeStatus {
    let wanted = Generation { epoch: 1, counter: 41 };
    let written = state == NodeLife::Written;
    NodeStatus {
        name: name.parse().unwrap(),
        pool: name.rsplit_once('-').unwrap().0.parse().unwrap(),
        address: "10.89.1.1".to_owned(),
        state,
        ready: written,
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
    }
}

fn status() -> Status {
    Status {
        cluster: "easypay".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        time: 10_000,
        kubernetes: Some("1.34.4".to_owned()),
        catalog: Some("9c02de".to_owned()),
        generation: Some(Generation { epoch: 1, counter: 41 }),
        born: true,
        pools: vec![
            PoolStatus { name: "control-plane".parse().unwrap(), wanted: 1, ready: 1 },
            PoolStatus { name: "workers".parse().unwrap(), wanted: 2, ready: 2 },
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
        }],
        apps: vec![AppStatus {
            name: "easypay".parse().unwrap(),
            url: Some("http://10.89.0.11/".to_owned()),
            path: "/ready".to_owned(),
        }],
        api: Some("https://10.89.0.10:6443".to_owned()),
        waits: vec![],
        failing: vec![],
        settled: true,
        rollout: None,
        turns: vec![],
    }
}

#[test]
fn everything_as_written() {
    assert!(status().written());
    insta::assert_snapshot!(status().text());
}

#[test]
fn trouble_is_named_with_its_help() {
    let mut status = status();
    status.nodes[0] =
        NodeStatus { drift: vec!["file./etc/motd".to_owned()], ..node("control-plane-1", NodeLife::Written) };
    status.nodes[1] = NodeStatus {
        problems: vec![
            Problem {
                what: "package.kubelet".to_owned(),
                text: "apt cannot reach http://10.89.0.3/debian".to_owned(),
                help: Some("start the artefacts: muster up".to_owned()),
                fails: true,
            },
            Problem {
                what: "service.kubelet".to_owned(),
                text: "waits for package.kubelet".to_owned(),
                help: None,
                fails: false,
            },
        ],
        generation: Some(Generation { epoch: 1, counter: 40 }),
        paused: Some(Pause { until: 13_600, reason: "disk".to_owned(), by: "dana".to_owned() }),
        ..node("workers-1", NodeLife::Failing)
    };
    status.nodes[2] = node("workers-2", NodeLife::Silent);
    status.pools[1].ready = 0;
    assert!(!status.written());
    let cells: Vec<_> = status.nodes.iter().map(|node| node.cells()[..6].join(" | ")).collect();
    insta::assert_snapshot!(format!("{}\n{}\n\n{}", status.text(), cells.join("\n"), status.progress()));
}
