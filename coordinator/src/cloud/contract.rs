//! The contract suite: every adapter of the cloud port passes the same tests.
//!
//! The fake runs well behaved, with zones, and with all of its faults under a caller who asks again, as the executor does;
//! Docker runs for real and is ignored unless asked for, because it needs the daemon and the images.

use std::{sync::Arc, time::Duration};

use muster_ids::{DiskName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan, NodeState},
    steps::configuration,
};

use super::{
    Answer, Bootstrap, Cloud, CloudError, Proof,
    docker::{DockerCloud, DockerConfig, Engine, Scope, bounding_capabilities},
    fake::{FakeCloud, Faults},
    patient::Patient,
};

/// An adapter and what a test must be able to do behind its back.
struct Bench {
    cloud: Arc<dyn Cloud>,
    /// Stops an instance.
    stop: Box<dyn Fn(NodeName, String) -> Answer<'static, ()> + Send + Sync>,
    image: String,
    subnet: String,
}

impl Bench {
    fn network(&self) -> NetworkPlan {
        NetworkPlan { subnet: format!("{}.0.0/16", self.subnet).parse().unwrap() }
    }

    fn address(&self, last: &str) -> std::net::IpAddr {
        format!("{}.{last}", self.subnet).parse().unwrap()
    }

    fn node(&self, number: u32, token: &str, disks: &[&str]) -> NodePlan {
        NodePlan {
            pool: "workers".parse().unwrap(),
            member: muster_catalog::kinds::cluster_member::MemberRole::Worker,
            address: self.address(&format!("1.{number}")),
            pods: format!("10.244.{number}.0/24").parse().unwrap(),
            incarnation: 1,
            token: token.to_owned(),
            state: NodeState::InService,
            disks: disks.iter().map(|disk| disk.parse().unwrap()).collect(),
            init: false,
            image: self.image.clone(),
            cpus: None,
            memory: None,
        }
    }

    async fn ensure(&self, name: &str, plan: &NodePlan) -> Result<String, CloudError> {
        let boot = Bootstrap { user_data: "#!/bin/sh\ntrue\n".to_owned() };
        self.cloud.ensure_instance(&node(name), plan, &boot, &Proof { token: "proof".to_owned() }).await
    }

    /// A complete reading.
    async fn read(&self) -> Inventory {
        let reading = self.cloud.observe().await.unwrap();
        assert!(reading.complete);
        reading
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn is_final(result: Result<impl std::fmt::Debug, CloudError>, word: &str) {
    match result {
        Err(CloudError::Final { what, hint }) => assert!(what.contains(word) && !hint.is_empty(), "{what} / {hint}"),
        other => panic!("{other:?}"),
    }
}

/// All of the contract, in the order of an environment's life: making a container world for each test is dear.
async fn keeps_to_the_contract(bench: &Bench) {
    let cloud = &bench.cloud;
    let empty = bench.read().await;
    assert!(empty.network.is_none() && empty.instances.is_empty() && empty.disks.is_empty());

    for _ in 0..2 {
        cloud.ensure_network(&bench.network()).await.unwrap();
    }
    assert!(bench.read().await.network.is_some());
    let other = NetworkPlan { subnet: "10.77.0.0/16".parse().unwrap() };
    is_final(cloud.ensure_network(&other).await, "subnet");

    disks_and_instances(bench).await;
    names_and_addresses(bench).await;
    load_balancers(bench).await;
}

async fn disks_and_instances(bench: &Bench) {
    let cloud = &bench.cloud;
    let disk: DiskName = "data".parse().unwrap();
    let plan = bench.node(1, "token-one", &["data"]);
    is_final(bench.ensure("workers-1", &plan).await, "data");
    let size = DiskPlan { size: 1 << 30, node: node("workers-1") };
    let made = cloud.ensure_disk(&disk, &size).await.unwrap();
    assert_eq!(cloud.ensure_disk(&disk, &size).await.unwrap(), made, "a disk is made once");
    assert_eq!(bench.read().await.disks[&disk].size, 1 << 30);

    // Twice at once, and once more: one instance.
    let (one, two) = futures::join!(bench.ensure("workers-1", &plan), bench.ensure("workers-1", &plan));
    let id = one.or(two).unwrap();
    assert_eq!(bench.ensure("workers-1", &plan).await.unwrap(), id);
    let reading = bench.read().await;
    assert_eq!(reading.instances.len(), 1);
    let seen = &reading.instances[&node("workers-1")];
    assert_eq!((&seen.id, seen.token.as_str(), seen.incarnation, seen.running), (&id, "token-one", 1, true));
    assert_eq!((seen.address, seen.pods), (Some(plan.address), Some(plan.pods)));
    assert_eq!((&seen.image, &seen.disks), (&plan.image, &plan.disks));

    // Vouching is for this instance, at this address, while it runs.
    assert!(cloud.vouch(&node("workers-1"), &id, plan.address).await.unwrap());
    assert!(!cloud.vouch(&node("workers-1"), "another", plan.address).await.unwrap());
    assert!(!cloud.vouch(&node("workers-2"), &id, plan.address).await.unwrap());
    assert!(!cloud.vouch(&node("workers-1"), &id, bench.address("1.99")).await.unwrap());

    // Stopped: the same one is started again.
    (bench.stop)(node("workers-1"), id.clone()).await.unwrap();
    assert!(!bench.read().await.instances[&node("workers-1")].running);
    assert!(!cloud.vouch(&node("workers-1"), &id, plan.address).await.unwrap());
    is_final(cloud.start_instance(&node("workers-2"), &id).await, "workers-2");
    for _ in 0..2 {
        cloud.start_instance(&node("workers-1"), &id).await.unwrap();
    }
    assert!(bench.read().await.instances[&node("workers-1")].running);
    assert_eq!(bench.ensure("workers-1", &plan).await.unwrap(), id);

    // Removal is of what was meant, and the disk outlives it.
    is_final(cloud.remove_instance(&node("workers-2"), &id).await, "workers-2");
    cloud.remove_instance(&node("workers-1"), "no-such-id").await.unwrap();
    assert!(bench.read().await.instances.contains_key(&node("workers-1")));
    for _ in 0..2 {
        cloud.remove_instance(&node("workers-1"), &id).await.unwrap();
    }
    let reading = bench.read().await;
    assert!(reading.instances.is_empty());
    assert_eq!(reading.disks[&disk].id, made);
    assert!(!cloud.vouch(&node("workers-1"), &id, plan.address).await.unwrap());
    let start = cloud.start_instance(&node("workers-1"), &id).await;
    assert!(matches!(start, Err(CloudError::Passing(_))), "a start makes nothing: {start:?}");

    let again = NodePlan { incarnation: 2, token: "token-one-again".to_owned(), ..plan };
    assert_ne!(bench.ensure("workers-1", &again).await.unwrap(), id, "a new incarnation is another instance");
}

async fn names_and_addresses(bench: &Bench) {
    let other_token = bench.node(2, "token-two", &[]);
    is_final(bench.ensure("workers-1", &other_token).await, "workers-1");
    let mut same_address = bench.node(3, "token-three", &[]);
    same_address.address = bench.address("1.1");
    is_final(bench.ensure("workers-3", &same_address).await, "1.1");
    let mut moved = bench.node(9, "token-one-again", &["data"]);
    moved.incarnation = 2;
    is_final(bench.ensure("workers-1", &moved).await, "other parameters");
    let mut no_image = bench.node(4, "token-four", &[]);
    no_image.image = "muster-node:never-built".to_owned();
    if bench.image != "image" {
        is_final(bench.ensure("workers-4", &no_image).await, "muster-node:never-built");
    }
}

async fn load_balancers(bench: &Bench) {
    let cloud = &bench.cloud;
    let name = "web".parse().unwrap();
    let target = |number: u32| {
        let address = bench.address(&format!("1.{number}"));
        (node(&format!("workers-{number}")), std::net::SocketAddr::new(address, 30080))
    };
    let mut plan = LoadBalancerPlan {
        address: bench.address("0.11"),
        listen: 80,
        targets: [target(1)].into(),
        tls: false,
        check: "/ready".to_owned(),
    };
    for _ in 0..2 {
        cloud.ensure_load_balancer(&name, &plan).await.unwrap();
    }
    let first = bench.read().await.load_balancers[&name].clone();
    assert!(first.running);
    assert_eq!((first.address, &first.configuration), (Some(plan.address), &configuration(&plan)));

    plan.targets.extend([target(2)]);
    cloud.ensure_load_balancer(&name, &plan).await.unwrap();
    let second = bench.read().await.load_balancers[&name].clone();
    assert_eq!((&second.configuration, &second.id), (&configuration(&plan), &first.id), "changed in place");

    plan.address = bench.address("0.12");
    cloud.ensure_load_balancer(&name, &plan).await.unwrap();
    let third = bench.read().await.load_balancers[&name].clone();
    assert_ne!(third.id, first.id, "an address is fixed at creation");
    assert_eq!(third.address, Some(plan.address));

    is_final(cloud.remove_load_balancer(&"api".parse().unwrap(), &third.id).await, "api");
    for _ in 0..2 {
        cloud.remove_load_balancer(&name, &third.id).await.unwrap();
    }
    assert!(bench.read().await.load_balancers.is_empty());
}

fn fake(faults: Faults) -> Bench {
    let cloud = FakeCloud::new(7, faults);
    over(cloud.clone(), Arc::new(cloud))
}

/// A fake, and the way to it.
fn over(behind: FakeCloud, cloud: Arc<dyn Cloud>) -> Bench {
    Bench {
        cloud,
        stop: Box::new(move |name, _| {
            behind.stop(&name);
            Box::pin(async { Ok(()) })
        }),
        image: "image".to_owned(),
        subnet: "10.89".to_owned(),
    }
}

#[tokio::test]
async fn the_fake_keeps_to_the_contract() {
    keeps_to_the_contract(&fake(Faults::default())).await;
    let zones = vec!["a".to_owned(), "b".to_owned()];
    keeps_to_the_contract(&fake(Faults { zones, ..Faults::default() })).await;
}

#[tokio::test]
async fn a_caller_who_asks_again_never_sees_the_fakes_faults() {
    for seed in 0..50 {
        let zones = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let faults = Faults { lag: seed % 4, lost: 20, throttled: 20, partial: 20, full: 30, zones };
        let cloud = FakeCloud::new(seed, faults);
        let patient = Patient { cloud: cloud.clone(), lag: seed % 4 };
        keeps_to_the_contract(&over(cloud, Arc::new(patient))).await;
    }
}

/// What the fake is for: each of its faults shows.
#[tokio::test]
async fn the_fake_behaves_badly_when_told() {
    let bench = fake(Faults { lag: 2, ..Faults::default() });
    bench.cloud.ensure_network(&bench.network()).await.unwrap();
    bench.ensure("workers-1", &bench.node(1, "one", &[])).await.unwrap();
    let counts = [bench.read().await, bench.read().await, bench.read().await].map(|reading| reading.instances.len());
    assert_eq!(counts, [0, 0, 1], "seen late");

    let bench = fake(Faults { lost: 100, ..Faults::default() });
    assert!(matches!(bench.cloud.ensure_network(&bench.network()).await, Err(CloudError::Passing(_))));
    assert!(bench.read().await.network.is_some(), "done, and the answer was lost");

    let bench = fake(Faults { throttled: 100, ..Faults::default() });
    assert!(matches!(bench.cloud.ensure_network(&bench.network()).await, Err(CloudError::Passing(_))));
    assert!(bench.read().await.network.is_none(), "refused");

    let bench = fake(Faults { partial: 100, ..Faults::default() });
    assert!(!bench.cloud.observe().await.unwrap().complete);
}

/// The real thing, in an environment of its own that is removed whatever happens.
#[tokio::test]
#[ignore = "live: needs Docker and the images muster-node and muster-services"]
async fn docker_keeps_to_the_contract() {
    let engine = Engine::connect(&super::docker::own_socket().unwrap()).await.unwrap();
    let scope = Scope { cluster: "contract".parse().unwrap(), environment: "try".parse().unwrap() };
    let image = |name: &str| {
        let images = engine.clone();
        let name = name.to_owned();
        async move {
            let newest = images.newest_image(&name).await.unwrap();
            newest.unwrap_or_else(|| panic!("no image {name}: run `cargo xtask artefacts`"))
        }
    };
    let (node_image, services_image) = (image("muster-node").await, image("muster-services").await);
    let config = DockerConfig {
        scope: scope.clone(),
        services_image,
        capabilities: bounding_capabilities(),
        now: || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64),
    };
    engine.remove_all(&scope).await.unwrap();
    let stopper = engine.clone();
    let bench = Bench {
        cloud: Arc::new(DockerCloud::new(engine.clone(), config)),
        stop: Box::new(move |_, id| {
            let engine = stopper.clone();
            Box::pin(async move { engine.stop(&id).await.map_err(CloudError::from) })
        }),
        image: node_image,
        subnet: "10.86".to_owned(),
    };
    let outcome =
        tokio::spawn(
            async move { tokio::time::timeout(Duration::from_secs(180), keeps_to_the_contract(&bench)).await },
        )
        .await;
    let removed = engine.remove_all(&scope).await.unwrap();
    outcome.unwrap().unwrap();
    assert!(removed.networks == 1 && removed.volumes >= 1 && removed.containers >= 1, "{removed:?}");
    assert_eq!(engine.remove_all(&scope).await.unwrap(), super::docker::Removed::default(), "nothing is left");
}
