//! From nothing to a cluster that is as written.

use muster_catalog::{Spec, kinds::cluster_member::Start};
use muster_coordinator::status::{NodeLife, Status};
use muster_ids::{Generation, NodeName};
use muster_proto::v1::{self, push};

use crate::lab::{Behaviour, Lab, converged, node, site};

fn start_of(catalog: &muster_catalog::Catalog) -> Start {
    let member = catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::ClusterMember(member) => Some(member.start),
        _ => None,
    });
    member.expect("every node is a member")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_makes_nodes_that_enrol_pull_and_report() {
    let lab = Lab::new().await;
    assert!(!lab.status().await.written(), "nothing is applied, so nothing is as written");
    let plan = lab.plan(&site("hello")).await.unwrap();
    let instances = plan.cloud.iter().filter(|row| row.what.starts_with("instance ")).count();
    assert_eq!((instances, plan.nodes.len()), (5, 5));
    assert!(lab.cloud.fake.world().instances.is_empty(), "a plan makes nothing");
    let reply = lab.apply(&plan.id, "").await.unwrap();
    let first: Generation = reply.generation.unwrap().into();

    let agents = lab.agents().await;
    let mut starts = Vec::new();
    for agent in &agents {
        let (catalog, etag) = agent.pull("").await.unwrap().unwrap();
        assert_eq!(catalog.generation, first);
        assert!(agent.pull(&etag).await.unwrap().is_none(), "the etag is still right");
        starts.push(start_of(&catalog));
    }
    assert_eq!(starts.iter().filter(|start| **start == Start::Init).count(), 1, "one starts the cluster");
    assert_eq!(starts[0], Start::Init);

    // Its birth is a change of the blueprint: everyone is told of a newer generation, and nobody starts any more.
    let mut pushes = agents[0].watch().await;
    let told = pushes.message().await.unwrap().unwrap();
    assert_eq!(told.push, Some(push::Push::Generation(first.into())), "at once");
    agents[0].report(first, &converged()).await;
    let newer = loop {
        if let Some(push::Push::Generation(generation)) = pushes.message().await.unwrap().unwrap().push {
            break Generation::from(generation);
        }
    };
    assert!(newer > first);
    let (catalog, _) = agents[0].pull("").await.unwrap().unwrap();
    assert_eq!((start_of(&catalog), catalog.generation), (Start::Join, newer));

    for agent in &agents {
        agent.clone().run(Behaviour::default());
    }
    let status = lab.until("everything as written", Status::written).await;
    assert!(status.born);
    assert!(status.nodes.iter().all(|node| node.state == NodeLife::Written && node.ready));
    assert_eq!(lab.cloud.fake.world().instances.len(), 5, "nothing was made twice");
    assert_eq!(status.api.as_deref(), Some("https://10.89.0.10:6443"));
}

/// A machine may be off for days before it is first heard of: the one that was made becomes a node all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_enrols_days_later_still_becomes_a_node() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let ctx = lab.running.as_ref().unwrap().ctx.clone();
    let (late, enrolled) = (node("workers-1"), node("workers-2"));
    lab.agent("workers-2").await;
    let shown = |_: &Status| {
        let seen = ctx.seen().unwrap();
        seen.latest.instances.contains_key(&late) && seen.made.contains_key(&late)
    };
    lab.until("the reading that shows it", shown).await;
    let days = 3 * 24 * 3600;
    ctx.state.change(|root| root.identities.tokens.values_mut().for_each(|token| token.made -= days)).unwrap();
    let age = |node: &NodeName| {
        let root = ctx.state.snapshot();
        let token = root.identities.tokens.values().find(|token| token.node == *node).unwrap();
        ctx.now() - token.made
    };
    assert!(age(&enrolled) >= days);
    ctx.wake.notify_one();
    lab.until("a token that is good again", |_: &Status| age(&late) < 3600).await;
    lab.agent("workers-1").await;
    assert!(age(&enrolled) >= days, "a used one stays used");
    let told = |node: &NodeName| {
        let events = ctx.local.events(0, 1000).unwrap();
        events.iter().filter(|event| event.what == "enrolment" && event.node.as_ref() == Some(node)).count()
    };
    lab.until("the event", |_: &Status| told(&late) == 1).await;
    assert_eq!(told(&enrolled), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_change_a_catalog_give_it_a_generation_of_its_own() {
    let lab = Lab::new().await;
    let first = lab.publish(&site("hello")).await;
    let mut agent = lab.agent("workers-1").await;
    let (before, _) = agent.pull("").await.unwrap().unwrap();
    assert_eq!(before.generation, first);
    agent.kernel = "6.19".to_owned();
    let (after, _) = agent.pull("").await.unwrap().unwrap();
    assert!(after.generation > first, "one generation never has two contents");
    assert_ne!(before.content_digest(), after.content_digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_and_fewer_workers() {
    let lab = Lab::new().await;
    let files = site("hello");
    lab.up(&files).await;
    let mut more = files.clone();
    let text = crate::lab::SITE.replace("role = \"worker\"\ncount = 2", "role = \"worker\"\ncount = 3");
    more.texts.insert("muster.toml".to_owned(), text);
    let plan = lab.plan(&more).await.unwrap();
    let rows: Vec<_> = plan.cloud.iter().map(ToString::to_string).collect();
    assert!(rows.iter().any(|row| row.starts_with("+ instance workers-3")), "{rows:?}");
    lab.apply(&plan.id, "").await.unwrap();
    lab.agent("workers-3").await.run(Behaviour::default());
    lab.until("six nodes", |status| status.nodes.len() == 6 && status.written()).await;

    // Back again: one is drained, leaves, and its instance goes; its name is never used again.
    lab.publish(&files).await;
    let gone = |status: &Status| status.nodes.len() == 5 && status.written();
    let status = lab.until("five nodes", gone).await;
    let named = |name: &str| status.nodes.iter().any(|other| other.name.as_str() == name);
    let left = ["workers-1", "workers-2", "workers-3"].into_iter().find(|name| !named(name)).unwrap();
    let world = lab.cloud.fake.world().instances;
    assert!(world.iter().filter(|made| made.node.as_str() == left).all(|made| made.gone.is_some()));
    assert!(lab.running.as_ref().unwrap().ctx.state.snapshot().identities.revocations.nodes.contains(&node(left)));
}

/// It cannot leave any more: the control planes are told whom to remove from the cluster, and only their word ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_while_it_leaves() {
    let lab = Lab::new().await;
    let files = site("hello");
    lab.publish(&files).await;
    let mut control_planes = Vec::new();
    for agent in lab.agents().await {
        if agent.name.starts_with("control-plane") {
            let slow = Behaviour { fails_on: Some("cluster_member.gone]]".to_owned()), ..Behaviour::default() };
            control_planes.push((agent.clone(), agent.run(slow)));
        } else {
            agent.run(Behaviour { dies: true, ..Behaviour::default() });
        }
    }
    lab.until("everything as written", Status::written).await;
    let mut fewer = files.clone();
    let text = crate::lab::SITE.replace("role = \"worker\"\ncount = 2", "role = \"worker\"\ncount = 1");
    fewer.texts.insert("muster.toml".to_owned(), text);
    lab.publish(&fewer).await;
    let leaves = |status: &Status| status.nodes.iter().any(|node| node.state == NodeLife::Draining);
    let status = lab.until("a node that leaves", leaves).await;
    let leaver = status.nodes.iter().find(|node| node.state == NodeLife::Draining).unwrap().name.clone();
    lab.cloud.fake.lose(&leaver);
    let waits = |status: &Status| status.waits.iter().any(|waits| waits.contains("removes it from the cluster"));
    lab.until("a node that is lost", waits).await;
    let (catalog, _) = control_planes[0].0.pull("").await.unwrap().unwrap();
    assert!(catalog.to_toml().contains(&format!("name = \"{leaver}\"")), "{}", catalog.to_toml());

    for (agent, running) in control_planes {
        running.abort();
        agent.run(Behaviour::default());
    }
    let gone = |status: &Status| status.nodes.len() == 4 && status.written();
    lab.until("four nodes", gone).await;
    assert_eq!(lab.cloud.fake.world().instances.len(), 5, "nothing was made in its place");
    assert!(lab.running.as_ref().unwrap().ctx.state.snapshot().identities.revocations.nodes.contains(&leaver));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_instance_is_replaced_and_its_old_certificate_is_refused() {
    let lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let old = &agents[4];
    lab.cloud.fake.lose(&node("workers-2"));
    // Two complete readings must agree, and they are whole seconds apart.
    let again = lab.agent("workers-2").await;
    assert!(again.pull("").await.is_ok());
    assert!(old.pull("").await.is_err(), "what the lost machine held is worth nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_cut_off() {
    let lab = Lab::new().await;
    let (agents, runs) = lab.running(&site("hello")).await;
    runs[4].abort();
    let mut pushes = agents[4].watch().await;
    pushes.message().await.unwrap();
    lab.operator().revoke_node(v1::RevokeRequest { node: "workers-2".to_owned() }).await.unwrap();
    let cut = async { while let Ok(Some(_)) = pushes.message().await {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), cut).await.expect("its stream ends");
    assert!(agents[4].pull("").await.is_err());
}
