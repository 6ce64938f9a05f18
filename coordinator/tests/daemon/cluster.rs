//! What the control plane that leads tells of the cluster: status says it at once, and nothing told is nothing known.

use muster_coordinator::status::{NodeLife, NodeStatus, Status};
use muster_plan::cluster::{ClusterReport, Dns, MemberState, NodeCondition};
use tonic::Code;

use crate::lab::{Behaviour, Lab, node, site};

fn of<'a>(status: &'a Status, name: &str) -> &'a NodeStatus {
    status.nodes.iter().find(|seen| seen.name == node(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_leader_sees_is_in_status_at_once() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agents = lab.agents().await;
    for agent in &agents {
        agent.clone().run(Behaviour { quiet: true, ..Behaviour::default() });
    }
    let all = |status: &Status| status.born && status.nodes.iter().all(|node| node.state == NodeLife::Written);
    let status = lab.until("all nodes as written by their own word", all).await;
    assert!(!status.written(), "nobody says how the cluster is");
    assert!(status.text().contains("no control plane tells how the cluster is"), "{}", status.text());

    let leader = agents.iter().find(|agent| agent.name == "control-plane-2").unwrap();
    let (catalog, _) = leader.pull("").await.unwrap().unwrap();
    let well = leader.cluster(&catalog);
    assert_eq!((well.nodes.len(), well.members.as_ref().unwrap().len()), (5, 3));
    let tell = async |change: fn(&mut ClusterReport)| {
        let mut report = well.clone();
        change(&mut report);
        leader.report_cluster(&report).await.unwrap();
        lab.status().await
    };
    let status = tell(|_| {}).await;
    assert!(status.written(), "{}", status.text());
    assert_eq!(status.control_plane.as_ref().unwrap().leader, node("control-plane-2"));

    // A Node object is gone.
    let status = tell(|report| drop(report.nodes.remove("workers-1"))).await;
    let gone = of(&status, "workers-1");
    assert_eq!((gone.state, gone.ready), (NodeLife::Unready, false));
    assert!(gone.unready.as_ref().unwrap().contains("has no Node of it"), "{gone:?}");
    assert!(!status.written() && status.text().contains("workers-1: not ready: "), "{}", status.text());
    assert!(gone.why().contains("\n  not ready   the cluster has no Node of it"), "{}", gone.why());

    // Kubernetes says no, and why.
    let status = tell(|report| {
        let why = Some("NodeStatusUnknown: Kubelet stopped posting node status.".to_owned());
        report.nodes.insert("workers-2".to_owned(), NodeCondition { ready: false, why, cordoned: true });
    })
    .await;
    let silent = of(&status, "workers-2");
    assert!(silent.unready.as_ref().unwrap().contains("Kubelet stopped posting"), "{silent:?}");
    assert!(silent.cordoned && status.text().contains("takes no new pods"), "{}", status.text());

    // etcd: one that does not answer, one that is none, one that never started.
    let status = tell(|report| {
        let members = report.members.as_mut().unwrap();
        members[0].state = MemberState::Silent;
        members.retain(|member| member.node != "control-plane-3");
    })
    .await;
    assert!(!status.written());
    for name in ["control-plane-1", "control-plane-3"] {
        assert_eq!(of(&status, name).state, NodeLife::Unready, "{}", status.text());
        assert!(of(&status, name).unready.as_ref().unwrap().starts_with("etcd: "), "{}", status.text());
    }
    let status = tell(|report| report.members = None).await;
    assert!(!status.written() && status.text().contains("no quorum"), "{}", status.text());

    let status = tell(|report| report.dns = Some(Dns { wanted: 5, ready: 4 })).await;
    assert!(!status.written() && status.text().contains("cluster DNS: 4 of 5"), "{}", status.text());
    let status = tell(|report| report.dns = None).await;
    assert!(
        !status.written() && status.text().contains("cluster DNS: the API server does not say"),
        "{}",
        status.text()
    );
    assert!(tell(|_| {}).await.written(), "all is mended");

    let events = lab.running.as_ref().unwrap().ctx.local.events(0, 100).unwrap();
    for text in ["has no Node of it any more", "Kubelet stopped posting", "does not answer as a member of etcd"] {
        assert!(events.iter().any(|event| event.text.contains(text)), "{text}: {events:?}");
    }

    // A worker does not speak for the cluster, and nobody at any length.
    let worker = agents.iter().find(|agent| agent.name == "workers-1").unwrap();
    assert_eq!(worker.report_cluster(&well).await.unwrap_err().code(), Code::PermissionDenied);
    let mut long = well.clone();
    long.nodes.insert("x".repeat(2 << 20), NodeCondition { ready: true, why: None, cordoned: false });
    assert_eq!(leader.report_cluster(&long).await.unwrap_err().code(), Code::InvalidArgument);
}
