//! The status in words.

use std::collections::BTreeSet;

use muster_ids::Generation;
use muster_plan::Workload;

use super::{
    NodeLife, NodeStatus, Outlook, Problem,
    fixture::{node, status},
};
use crate::state::Pause;

#[test]
fn everything_as_written() {
    assert!(status().written());
    insta::assert_snapshot!(status().text());
}

#[test]
fn an_application_that_does_not_start_is_not_as_written() {
    let mut status = status();
    status.workloads = vec![Workload {
        name: "easypay/web".to_owned(),
        open: "1 of 2 pods are available".to_owned(),
        why: Some("web-1: ImagePullBackOff".to_owned()),
        lasting: true,
    }];
    assert_eq!(status.outlook(&BTreeSet::new()), Outlook::Moving { lasting: true });
    let told = "rolls out        easypay/web: 1 of 2 pods are available\n                   web-1: ImagePullBackOff\n";
    assert!(status.text().contains(told), "{}", status.text());
    assert!(status.progress().ends_with("easypay/web: 1 of 2 pods are available"), "{}", status.progress());
    // Another node may be what it waits for.
    status.nodes[2] = node("workers-2", NodeLife::Converging);
    assert_eq!(status.outlook(&BTreeSet::new()), Outlook::Moving { lasting: false });
    // Without a node there may be no place for all of them.
    status.nodes[2] = node("workers-2", NodeLife::Silent);
    let aside = [status.nodes[2].name.clone()].into();
    assert!(matches!(status.outlook(&aside), Outlook::Written { .. }));
}

#[test]
fn an_endpoint_is_what_its_clients_see_and_a_pool_says_how_many_take_pods() {
    let mut status = status();
    status.endpoints[0].ok = false;
    status.endpoints[0].trouble = Some("http://10.89.0.11:80/ready answers 503".to_owned());
    assert!(!status.written());
    let told = "endpoint         web http://10.89.0.11/ not ready (2 of 2): http://10.89.0.11:80/ready answers 503\n";
    assert!(status.text().contains(told), "{}", status.text());
    assert!(status.progress().ends_with("endpoint web: http://10.89.0.11:80/ready answers 503"));
    status.endpoints[0].trouble = None;
    assert!(status.written(), "nothing is to answer there yet");
    status.nodes[2].cordoned = true;
    status.pools[1].takes_pods = 1;
    assert!(status.text().contains("workers          2 of 2 ready, 1 takes new pods"), "{}", status.text());
    assert!(status.text().contains("workers-2: takes no new pods (cordoned)"));
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
                lasting: false,
            },
            Problem {
                what: "service.kubelet".to_owned(),
                text: "waits for package.kubelet".to_owned(),
                help: None,
                fails: false,
                lasting: false,
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
