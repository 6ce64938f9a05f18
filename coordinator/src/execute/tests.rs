//! Exactly once, whatever happens: the executor dies at every single call, answers get lost, the provider lags. Then it
//! runs again until nothing is left to do, and the world holds each thing once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{Digest, DiskName, NodeName};
use muster_planner::{
    Blueprint, Input, Policy, Seen,
    inventory::Made,
    plan,
    policy::{DiskPolicy, EndpointPolicy, PoolPolicy},
    steps,
};
use proptest::prelude::*;

use super::{IntentError, Intents, Outcome, execute};
use crate::cloud::{
    Bootstrap, Cloud, Proof,
    fake::{Crash, FakeCloud, Fate, Faults, World},
};

/// The state of a coordinator that survives its crashes. Each write is a call at which it can die.
struct Memory {
    cloud: FakeCloud,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    made: BTreeMap<NodeName, Made>,
    disks: BTreeSet<DiskName>,
    proofs: BTreeMap<String, String>,
    last_step: i64,
    begun: u64,
}

impl Memory {
    fn write<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> Result<T, IntentError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match self.cloud.tick() {
            Fate::Done => Ok(change(&mut kept)),
            Fate::Unheard => {
                change(&mut kept);
                Err(IntentError("the process died".into()))
            }
            Fate::Refused => Err(IntentError("the process is dead".into())),
        }
    }
}

impl Intents for Memory {
    fn begin(&self, _node: &NodeName, token: &str) -> Result<Proof, IntentError> {
        self.write(|kept| {
            kept.begun += 1;
            let proof = format!("proof-{}", kept.begun);
            kept.proofs.insert(token.to_owned(), proof.clone());
            Proof { token: proof }
        })
    }

    fn made(&self, node: &NodeName, token: &str, id: &str) -> Result<(), IntentError> {
        let made = Made { token: token.to_owned(), id: id.to_owned() };
        self.write(|kept| drop(kept.made.insert(node.clone(), made)))
    }

    fn disk_made(&self, disk: &DiskName, _id: &str) -> Result<(), IntentError> {
        self.write(|kept| {
            kept.disks.insert(disk.clone());
        })
    }

    fn removed(&self, node: &NodeName, _id: &str) -> Result<(), IntentError> {
        self.write(|kept| drop(kept.made.remove(node)))
    }

    fn stepped(&self) -> Result<(), IntentError> {
        let now = self.cloud.now();
        self.write(|kept| kept.last_step = now)
    }
}

fn policy(settle: i64) -> Policy {
    let pool = |member, count| PoolPolicy { member, count, disrupt: 1, cpus: None, memory: None };
    let endpoint = |to: &str, port| EndpointPolicy {
        to: to.parse().unwrap(),
        listen: port,
        port,
        check: "/".to_owned(),
        address: None,
    };
    Policy {
        cluster: "easypay".parse().unwrap(),
        environment: "local".parse().unwrap(),
        site: Digest::of("site"),
        subnet: "10.89.0.0/16".parse().unwrap(),
        pods: "10.244.0.0/16".parse().unwrap(),
        pools: [
            ("control-plane".parse().unwrap(), pool(MemberRole::ControlPlane, 3)),
            ("workers".parse().unwrap(), pool(MemberRole::Worker, 2)),
        ]
        .into(),
        endpoints: [
            ("api".parse().unwrap(), endpoint("control-plane", 6443)),
            ("web".parse().unwrap(), endpoint("workers", 80)),
        ]
        .into(),
        disks: [("data".parse().unwrap(), DiskPolicy { pool: "workers".parse().unwrap(), size: 1 << 30 })].into(),
        sets: [].into(),
        node_image: "image".to_owned(),
        settle,
    }
}

struct Coordinator {
    cloud: FakeCloud,
    memory: Memory,
    policy: Policy,
    blueprint: Option<Blueprint>,
    seen: Seen,
}

impl Coordinator {
    fn new(cloud: FakeCloud, settle: i64) -> Self {
        let memory = Memory { cloud: cloud.clone(), kept: Mutex::default() };
        Self { cloud, memory, policy: policy(settle), blueprint: None, seen: Seen::default() }
    }

    /// A new process over the same state: what was read is forgotten, and a step may have ended unrecorded just now.
    fn restart(&mut self) {
        self.cloud.set_crash(None);
        self.memory.kept.lock().unwrap().last_step = self.cloud.now();
        self.seen.latest = Default::default();
        self.seen.earlier = None;
    }

    /// Reads, plans, takes the steps; whether anything was left to do.
    async fn round(&mut self) -> bool {
        self.cloud.advance(1);
        let Ok(reading) = self.cloud.observe().await else { return true };
        self.seen.earlier = Some(std::mem::replace(&mut self.seen.latest, reading));
        {
            let kept = self.memory.kept.lock().unwrap();
            self.seen.made = kept.made.clone();
            self.seen.disks = kept.disks.clone();
            self.seen.last_step = kept.last_step;
        }
        let before = self.blueprint.clone();
        let input = Input {
            policy: &self.policy,
            seen: &self.seen,
            parent: before.as_ref(),
            revoked: &BTreeSet::new(),
            seed: 1,
        };
        let (next, report) = plan(input);
        self.blueprint = Some(next.clone());
        let boot = |_: &NodeName, _: &_| Bootstrap { user_data: String::new() };
        let left = !steps(&next, &self.seen).is_empty();
        execute(&next, &self.seen, &self.cloud, &self.memory, &boot).await;
        left || before != self.blueprint || report.waits().next().is_some()
    }

    /// Rounds until three in a row have nothing to do.
    async fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..200 {
            quiet = if self.round().await { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
        let input = Input {
            policy: &self.policy,
            seen: &self.seen,
            parent: self.blueprint.as_ref(),
            revoked: &BTreeSet::new(),
            seed: 1,
        };
        let (next, report) = plan(input);
        panic!("no fixed point: {report:?}\n{:?}", steps(&next, &self.seen));
    }

    /// Each thing once, as planned, and remembered.
    fn holds_each_thing_once(&self) {
        let (world, blueprint) = (self.cloud.world(), self.blueprint.as_ref().unwrap());
        let living: Vec<_> = world.living().collect();
        assert_eq!(living.len(), blueprint.nodes.len(), "{living:#?}");
        for instance in &living {
            let node = &blueprint.nodes[&instance.node];
            assert_eq!((&instance.token, instance.address), (&node.token, node.address));
            let kept = self.memory.kept.lock().unwrap();
            assert_eq!(kept.made[&instance.node].id, instance.id);
            // It was made with the newest proof that was given out for it, or with one that a re-run replaced.
            assert!(kept.proofs.contains_key(&instance.token));
        }
        assert_eq!(world.disks.len(), 1);
        no_token_twice(&world);
    }
}

fn no_token_twice(world: &World) {
    let mut tokens = BTreeSet::new();
    for instance in &world.instances {
        assert!(tokens.insert(&instance.token), "one token made two instances: {:#?}", world.instances);
    }
}

#[tokio::test]
async fn a_perfect_run_takes_every_step_once() {
    let mut coordinator = Coordinator::new(FakeCloud::new(1, Faults::default()), 0);
    coordinator.settle().await;
    coordinator.holds_each_thing_once();
    assert_eq!(coordinator.cloud.world().instances.len(), 5);
    assert_eq!(coordinator.memory.kept.lock().unwrap().begun, 5, "each instance was asked for once");
}

/// The process dies at call number 0, 1, 2 … before or after the call took effect, is started again, and ends up as if
/// nothing had been.
#[tokio::test]
async fn a_crash_at_any_call_repeats_nothing() {
    let mut points = 0;
    for at in 0.. {
        let mut reached = false;
        for done in [false, true] {
            let mut coordinator = Coordinator::new(FakeCloud::new(at, Faults::default()), 0);
            coordinator.cloud.set_crash(Some(Crash { at, done }));
            for _ in 0..4 {
                coordinator.round().await;
            }
            reached |= coordinator.cloud.crashed();
            coordinator.restart();
            coordinator.settle().await;
            coordinator.holds_each_thing_once();
            assert_eq!(coordinator.cloud.world().instances.len(), 5, "crash at call {at}, done: {done}");
        }
        if !reached {
            break;
        }
        points += 1;
    }
    assert!(points > 20, "only {points} calls were made: the test tests nothing");
}

#[tokio::test]
async fn a_failed_step_holds_up_only_what_waits_for_it() {
    let cloud = FakeCloud::new(1, Faults::default());
    let mut coordinator = Coordinator::new(cloud.clone(), 0);
    coordinator.settle().await;
    // The disk is lost with its node: the node cannot come back, everything else can.
    cloud.lose(&"workers-1".parse().unwrap());
    cloud.lose_disk(&"data".parse().unwrap());
    cloud.stop(&"workers-2".parse().unwrap());
    for _ in 0..4 {
        coordinator.round().await;
    }
    let boot = |_: &NodeName, _: &_| Bootstrap { user_data: String::new() };
    let blueprint = coordinator.blueprint.clone().unwrap();
    let reports = execute(&blueprint, &coordinator.seen, &cloud, &coordinator.memory, &boot).await;
    let [report] = &reports[..] else { panic!("{reports:#?}") };
    let Outcome::Failed { error, hint: Some(_), retry: false } = &report.outcome else { panic!("{report:#?}") };
    assert!(error.contains("data is gone"), "{error}");
    let world = cloud.world();
    assert!(world.living().any(|instance| instance.node.as_str() == "workers-2" && instance.running));
}

/// What comes after a step that failed is blocked by it, and says so.
#[tokio::test]
async fn without_a_network_all_else_is_blocked() {
    let cloud = FakeCloud::new(1, Faults { throttled: 100, ..Faults::default() });
    let mut coordinator = Coordinator::new(cloud.clone(), 0);
    coordinator.round().await;
    let boot = |_: &NodeName, _: &_| Bootstrap { user_data: String::new() };
    let blueprint = coordinator.blueprint.clone().unwrap();
    let reports = execute(&blueprint, &coordinator.seen, &cloud, &coordinator.memory, &boot).await;
    assert_eq!(reports.len(), 1 + 1 + 2 + 5);
    for report in reports {
        match (&report.step, &report.outcome) {
            (muster_planner::Step::Network, Outcome::Failed { retry: true, .. }) => {}
            (_, Outcome::Blocked { by }) => assert!(by.contains("network") || by.contains("disk"), "{by}"),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lag, lost answers, throttling, full zones, partial readings and crashes together.
    #[test]
    fn nothing_is_made_twice(
        seed in any::<u64>(),
        lag in 0u64..4,
        lost in 0u32..30,
        throttled in 0u32..30,
        partial in 0u32..30,
        full in 0u32..30,
        crashes in prop::collection::vec((0u64..40, any::<bool>()), 0..5),
        losses in prop::collection::vec(0usize..5, 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let zones = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
            let faults = Faults { lag, lost, throttled, partial, full, zones };
            let cloud = FakeCloud::new(seed, faults);
            // A reading is believed when all that was done has had the time to show.
            let mut coordinator = Coordinator::new(cloud.clone(), 2 * lag as i64);
            for (at, done) in crashes {
                cloud.set_crash(Some(Crash { at, done }));
                for _ in 0..6 {
                    coordinator.round().await;
                }
                no_token_twice(&cloud.world());
                coordinator.restart();
            }
            for index in losses {
                let node = cloud.world().living().nth(index).map(|instance| instance.node.clone());
                if let Some(node) = node {
                    cloud.lose(&node);
                }
                for _ in 0..6 {
                    coordinator.round().await;
                }
                no_token_twice(&cloud.world());
            }
            cloud.set_faults(Faults { lag, ..Faults::default() });
            coordinator.settle().await;
            coordinator.holds_each_thing_once();
        });
    }
}
