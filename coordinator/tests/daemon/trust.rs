//! What operators decide on a node's trust.

use muster_catalog::Spec;
use muster_coordinator::status::{NodeLife, Status};
use muster_proto::v1;

use crate::lab::{Behaviour, Lab, node, site};

async fn revoke(lab: &Lab, name: &str) -> Result<bool, String> {
    let request = v1::RevokeRequest { node: name.to_owned() };
    let reply = lab.operator().revoke_node(request).await;
    reply.map(|reply| reply.into_inner().control_plane).map_err(|status| status.message().to_owned())
}

async fn readmit(lab: &Lab, name: &str) -> Result<String, String> {
    let request = v1::ReadmitRequest { node: name.to_owned() };
    let reply = lab.operator().readmit_node(request).await;
    reply.map(|reply| reply.into_inner().instance).map_err(|status| status.message().to_owned())
}

fn lives(status: &Status, name: &str) -> Option<NodeLife> {
    status.nodes.iter().find(|known| known.name.as_str() == name).map(|node| node.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_worker_goes_and_its_name_is_refused_for_good() {
    let lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    assert_eq!(revoke(&lab, "workers-2").await, Ok(false));
    lab.agent("workers-3").await.run(Behaviour::default());
    let gone = |status: &Status| lives(status, "workers-2").is_none() && status.written();
    let status = lab.until("another in its place", gone).await;
    assert_eq!(lives(&status, "workers-3"), Some(NodeLife::Written));
    let instances = lab.cloud.fake.world().instances;
    assert!(instances.iter().all(|made| made.node != node("workers-2") || made.gone.is_some()), "its machine runs");

    let (catalog, _) = agents[0].pull("").await.unwrap().unwrap();
    let member = catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::ClusterMember(member) => Some(member),
        _ => None,
    });
    let member = member.unwrap();
    assert_eq!(
        (member.refused.as_slice(), member.gone.as_slice()),
        (["workers-2".to_owned()].as_slice(), [].as_slice())
    );
    let (worker, _) = agents[3].pull("").await.unwrap().unwrap();
    assert!(!worker.to_toml().contains("workers-2"), "{}", worker.to_toml());
    assert!(revoke(&lab, "workers-2").await.unwrap_err().contains("there is no node workers-2"));
    assert!(readmit(&lab, "workers-2").await.unwrap_err().contains("there is no node workers-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_control_plane_keeps_its_machine_until_its_vote_is_gone() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agents = lab.agents().await;
    let mut runs = Vec::new();
    for agent in &agents {
        runs.push(agent.clone().run(Behaviour::default()));
    }
    lab.until("everything as written", Status::written).await;
    // Nobody says that its vote is gone.
    runs[1].abort();
    runs[2].abort();
    let lacking = |status: &Status| {
        status.nodes.iter().filter(|node| node.name.as_str().starts_with("control-plane") && node.ready).count() == 1
    };
    lab.until("one control plane is ready", lacking).await;
    let refusal = revoke(&lab, "control-plane-1").await.unwrap_err();
    assert!(
        refusal.contains("0 control planes would be ready, and etcd needs 2") && refusal.contains("help: "),
        "{refusal}"
    );
    let status = lab.status().await;
    assert_ne!(lives(&status, "control-plane-1"), Some(NodeLife::Revoked), "nothing is half done");
    assert!(agents[0].pull("").await.is_ok());

    for run in [1, 2] {
        runs[run] = agents[run].clone().run(Behaviour::default());
    }
    lab.until("all are back", Status::written).await;
    assert_eq!(revoke(&lab, "control-plane-1").await, Ok(true));
    lab.agent("control-plane-4").await.run(Behaviour::default());
    lab.until("three again", |status| lives(status, "control-plane-1").is_none() && status.written()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_machine_that_the_provider_shows_is_readmitted() {
    let lab = Lab::new().await;
    let (_agents, runs) = lab.running(&site("hello")).await;
    assert!(readmit(&lab, "workers-9").await.unwrap_err().contains("there is no node workers-9"));
    assert!(readmit(&lab, "workers-2").await.unwrap_err().contains("is connected"));
    runs[4].abort();
    lab.until("it is not connected", |status| status.nodes.iter().any(|node| !node.connected)).await;
    let id = readmit(&lab, "workers-2").await.unwrap();
    let made = lab.cloud.fake.world().instances.into_iter().find(|made| made.node == node("workers-2")).unwrap();
    assert_eq!(id, made.id);
    let root = lab.running.as_ref().unwrap().ctx.state.snapshot();
    assert!(root.identities.revocations.readmitted.contains_key(&node("workers-2")));
    lab.cloud.fake.lose(&node("workers-2"));
    let refusal = readmit(&lab, "workers-2").await.unwrap_err();
    assert!(refusal.contains("the provider has no machine of workers-2"), "{refusal}");
}
