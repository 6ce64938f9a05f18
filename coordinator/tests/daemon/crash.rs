//! The coordinator dies, at every stage, and goes on where it was: nothing is made twice, nothing is forgotten.

use std::time::Duration;

use muster_coordinator::{cloud::fake::Crash, cloud::fake::Faults, status::Status};

use crate::lab::{Behaviour, Lab, site};

/// Kills the coordinator at call `at` to the provider and starts it again.
async fn killed_at(at: u64, done: bool) {
    let mut lab = Lab::new().await;
    let plan = lab.plan(&site("hello")).await.unwrap();
    lab.cloud.fake.set_crash(Some(Crash { at, done }));
    lab.apply(&plan.id, "").await.unwrap();
    for _ in 0..100 {
        if lab.cloud.fake.crashed() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.kill().await;
    lab.cloud.fake.set_crash(None);
    lab.start().await;
    for name in ["control-plane-1", "control-plane-2", "control-plane-3", "workers-1", "workers-2"] {
        lab.agent(name).await.run(Behaviour::default());
    }
    lab.until("everything as written", Status::written).await;
    let world = lab.cloud.fake.world();
    assert_eq!(world.instances.len(), 5, "killed at call {at} ({done}): {world:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_any_two_calls_it_makes_every_instance_once() {
    // Network, two load balancers, five instances.
    for at in 0..8 {
        for done in [false, true] {
            killed_at(at, done).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_plan_and_apply_the_plan_still_stands() {
    let mut lab = Lab::new().await;
    let plan = lab.plan(&site("hello")).await.unwrap();
    lab.kill().await;
    lab.start().await;
    assert!(lab.apply(&plan.id, "").await.unwrap().stale.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_nodes_converge_it_goes_on() {
    let mut lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agents = lab.agents().await;
    agents[0].clone().run(Behaviour::default());
    lab.until("born", |status| status.born).await;
    lab.kill().await;
    lab.start().await;
    for agent in &agents[1..] {
        agent.clone().run(Behaviour::default());
    }
    let status = lab.until("everything as written", Status::written).await;
    assert!(status.born);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_a_try_it_goes_on_trying() {
    let mut lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let plan = lab.plan(&site("one")).await.unwrap();
    lab.apply(&plan.id, "workers-1").await.unwrap();
    lab.kill().await;
    lab.start().await;
    let status =
        lab.until("everyone follows", |status| status.written() && status.catalog.as_ref() == Some(&plan.site.short()));
    status.await;
    drop(agents);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_loses_answers_and_lags_gets_every_instance_once() {
    let faults = Faults { lag: 2, lost: 20, throttled: 20, ..Faults::default() };
    let lab = Lab::with(faults).await;
    lab.publish(&site("hello")).await;
    for name in ["control-plane-1", "control-plane-2", "control-plane-3", "workers-1", "workers-2"] {
        lab.agent(name).await.run(Behaviour::default());
    }
    lab.until("everything as written", Status::written).await;
    assert_eq!(lab.cloud.fake.world().instances.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_takes_nothing_from_the_cluster_that_is_there() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    lab.until("five instances", |_| lab.cloud.fake.world().instances.len() == 5).await;
    let before = lab.cloud.fake.world();
    let cloud = lab.cloud.clone();
    drop(lab);
    let folder = tempfile::tempdir().unwrap();
    let empty = Lab::over(folder.path().to_owned(), folder, cloud).await;
    let refused = empty.plan(&site("hello")).await.unwrap_err();
    assert!(refused.contains("the state was lost") && refused.contains("workers-2"), "{refused}");
    let way_out = "docker volume rm muster-easypay-local-state; muster coordinator restore -e local --key KEY BACKUP";
    assert!(refused.contains(way_out), "{refused}");
    assert!(refused.contains("muster coordinator restore"), "{refused}");
    let ids = |world: &muster_coordinator::cloud::fake::World| -> Vec<String> {
        world.instances.iter().map(|one| one.id.clone()).collect()
    };
    assert_eq!(ids(&empty.cloud.fake.world()), ids(&before));
}
