//! One machine: its disk and system in memory, which outlive the agent's crash, and units that take time to restart.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::stream::BoxStream;
use muster_agent::{
    adapters::fake::{FakeMachine, FakeUnits},
    ports::{Health, UnitError, UnitEvent, UnitState, Units},
};
use muster_catalog::{Catalog, Facts};
use muster_ids::{Digest, Generation, NodeName, ResourceId};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::{Notify, mpsc};

use crate::{cluster::Disrupted, stage::Stage};

/// The unit whose restart disrupts.
pub const UNIT: &str = "engine.service";

/// A machine. It is one instance of the provider's; another instance is another machine.
pub struct Machine {
    pub stage: Arc<Stage>,
    pub node: NodeName,
    pub instance: String,
    pub address: IpAddr,
    /// The agent's folder.
    pub folder: PathBuf,
    pub fake: FakeMachine,
    /// Wakes somebody on this machine who has read the token and tries it with a key of his own.
    pub thief: Notify,
    state: Mutex<State>,
    random: Mutex<StdRng>,
}

#[derive(Default)]
struct State {
    /// Before this it does not serve.
    unready_until: Duration,
    kernel: u32,
    drift: Option<mpsc::UnboundedSender<ResourceId>>,
    /// The newest that was converged, and its content.
    applied: Option<(Generation, Digest)>,
    pause: Option<i64>,
    /// When it asked for the turn to disrupt that it had last.
    asked: Duration,
}

impl Machine {
    pub fn new(stage: Arc<Stage>, node: NodeName, instance: String, address: IpAddr) -> Arc<Self> {
        let fake = FakeMachine::new();
        fake.units.add(UNIT);
        let mut random = StdRng::seed_from_u64(stage.seed);
        for byte in format!("{node} {instance}").bytes() {
            random = StdRng::seed_from_u64(random.random::<u64>() ^ u64::from(byte));
        }
        let folder = stage.folder.join(format!("{node}-{instance}"));
        std::fs::create_dir_all(&folder).unwrap();
        Arc::new(Self {
            stage,
            node,
            instance,
            address,
            folder,
            fake,
            thief: Notify::new(),
            state: Mutex::default(),
            random: random.into(),
        })
    }

    pub fn pool(&self) -> &str {
        self.node.as_str().rsplit_once('-').map_or("", |(pool, _)| pool)
    }

    pub fn control_plane(&self) -> bool {
        self.pool() == "control-plane"
    }

    /// Somewhere between the two, in milliseconds.
    pub fn between(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.lock().unwrap().random_range(from..to))
    }

    pub fn random(&self) -> u64 {
        self.random.lock().unwrap().random()
    }

    pub fn facts(&self) -> Facts {
        Facts {
            hostname: self.node.to_string(),
            os: "debian".to_owned(),
            os_version: "12".to_owned(),
            arch: "amd64".to_owned(),
            kernel: format!("6.{}", self.state.lock().unwrap().kernel),
            virtualization: "container".to_owned(),
            cgroup: 1,
            cpus: 2,
            address: self.address.to_string(),
            interface: "eth0".to_owned(),
            ..Facts::default()
        }
    }

    /// The machine starts anew, perhaps with another kernel: units start, kubelet takes a moment.
    pub fn boots(&self, new_kernel: bool) {
        self.unready_for(self.between(1000, 5000));
        self.state.lock().unwrap().kernel += u32::from(new_kernel);
    }

    pub fn unready_for(&self, time: Duration) {
        let until = self.stage.clock.elapsed() + time;
        let mut state = self.state.lock().unwrap();
        state.unready_until = state.unready_until.max(until);
        let mut cluster = self.stage.cluster.lock().unwrap();
        cluster.unready.insert(self.node.clone(), state.unready_until);
    }

    pub fn member(&self) -> bool {
        self.stage.cluster.lock().unwrap().members.get(&self.node) == Some(&self.instance)
    }

    /// Somebody changes a file past the agent.
    pub fn changed_by_hand(&self, path: &str) {
        self.fake.files.put(path, "by hand\n");
        if let Some(drift) = &self.state.lock().unwrap().drift {
            let _ = drift.send(ResourceId::new("file", path));
        }
    }

    pub fn stopped_by_hand(&self) {
        self.fake.units.stop_by_hand(UNIT);
        if let Some(drift) = &self.state.lock().unwrap().drift {
            let _ = drift.send(ResourceId::new("service", "engine"));
        }
    }

    pub fn watch_drift(&self) -> mpsc::UnboundedReceiver<ResourceId> {
        let (send, receive) = mpsc::unbounded_channel();
        self.state.lock().unwrap().drift = Some(send);
        receive
    }

    /// A catalog is about to be converged: it is this node's, not a draft, and none that is older than one before.
    pub fn applies(&self, catalog: &Catalog) {
        let (stage, node) = (&self.stage, &self.node);
        let (generation, content) = (catalog.generation, catalog.content_digest());
        if catalog.node != *node {
            stage.breaks("a node applies its own catalogs alone", format!("{node} applies one of {}", catalog.node));
        }
        if catalog.draft {
            stage.breaks("a draft is never applied", node.as_str());
        }
        if catalog.to_toml().contains(FORGED) {
            stage.breaks("a catalog that was not signed is never applied", node.as_str());
        }
        let before = self.state.lock().unwrap().applied.replace((generation, content));
        let Some((newest, held)) = before else { return };
        if generation < newest {
            stage.breaks("a node's generation never falls", format!("{node} goes from {newest} to {generation}"));
        }
        if generation == newest && content != held {
            stage.breaks("one generation has one content", format!("{node} at {generation}"));
        }
    }

    /// The generation that was converged last.
    pub fn generation(&self) -> Option<Generation> {
        self.state.lock().unwrap().applied.map(|(generation, _)| generation)
    }

    /// The pause that was on disk when the last converge ended.
    pub fn pause_known(&self) -> Option<i64> {
        self.state.lock().unwrap().pause
    }

    pub fn knows_pause(&self, until: Option<i64>) {
        self.state.lock().unwrap().pause = until;
    }

    /// It has the turn to disrupt, and asked for it then.
    pub fn has_turn(&self, asked: Duration) {
        self.state.lock().unwrap().asked = asked;
    }

    /// What was changed on its disk so far, the agent's own notes apart.
    pub fn changes(&self) -> usize {
        self.fake.files.changes().iter().filter(|change| !change.contains("/var/lib/muster-agent/")).count()
            + self.fake.units.did().len()
    }

    /// Until the guard is dropped this node is disrupted on purpose.
    pub fn disrupt(self: &Arc<Self>) -> Guard {
        let stage = &self.stage;
        let mine = Disrupted { pool: self.pool().to_owned(), asked: self.state.lock().unwrap().asked };
        let mut cluster = stage.cluster.lock().unwrap();
        // Before there is a cluster everybody may; whoever asked since then was judged by who has a turn.
        let judged = |of: &Disrupted| cluster.known_born.is_some_and(|born| of.asked > born);
        let others: Vec<_> = cluster
            .disrupted
            .iter()
            .filter(|(node, other)| **node != self.node && other.pool == mine.pool)
            .filter(|(_, other)| judged(other) || judged(&mine))
            .map(|(node, _)| node.to_string())
            .collect();
        cluster.disrupted.insert(self.node.clone(), mine);
        cluster.disruptions += 1;
        drop(cluster);
        stage.tell(format!("{} is disrupted", self.node));
        if !others.is_empty() {
            let text = format!("{} and {} at once", self.node, others.join(", "));
            stage.breaks("one node of a pool is disrupted at a time", text);
        }
        Guard(Arc::clone(self))
    }
}

/// Stands in catalogs that nobody signed.
pub const FORGED: &str = "forged";

/// A disruption under way.
pub struct Guard(Arc<Machine>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stage.cluster.lock().unwrap().disrupted.remove(&self.0.node);
    }
}

/// Units whose restart takes seconds and disrupts the node.
pub struct SlowUnits(pub Arc<Machine>);

impl SlowUnits {
    fn fake(&self) -> &FakeUnits {
        &self.0.fake.units
    }
}

#[async_trait::async_trait]
impl Units for SlowUnits {
    async fn state(&self, name: &str) -> Result<UnitState, UnitError> {
        self.fake().state(name).await
    }

    async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError> {
        self.fake().states(names).await
    }

    async fn run(&self, name: &str) -> Result<String, UnitError> {
        self.fake().run(name).await
    }

    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.fake().daemon_reload().await
    }

    async fn enable(&self, name: &str) -> Result<(), UnitError> {
        self.fake().enable(name).await
    }

    async fn disable(&self, name: &str) -> Result<(), UnitError> {
        self.fake().disable(name).await
    }

    async fn start(&self, name: &str) -> Result<(), UnitError> {
        tokio::time::sleep(self.0.between(100, 1500)).await;
        self.fake().start(name).await
    }

    async fn stop(&self, name: &str) -> Result<(), UnitError> {
        self.fake().stop(name).await
    }

    async fn restart(&self, name: &str) -> Result<(), UnitError> {
        let guard = self.0.disrupt();
        // Within the margin that a lease leaves to the step under way.
        tokio::time::sleep(self.0.between(500, 8000)).await;
        // Now and then it comes back too late for the turn to be given back.
        let unready = if self.0.random().is_multiple_of(50) {
            self.0.between(80_000, 110_000)
        } else {
            self.0.between(200, 3000)
        };
        self.0.unready_for(unready);
        drop(guard);
        self.fake().restart(name).await
    }

    async fn reload(&self, name: &str) -> Result<(), UnitError> {
        self.fake().reload(name).await
    }

    async fn unmask(&self, name: &str) -> Result<(), UnitError> {
        self.fake().unmask(name).await
    }

    async fn stands(&self, name: &str) -> Result<(), UnitError> {
        self.fake().stands(name).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, UnitEvent>, UnitError> {
        self.fake().changes().await
    }
}

/// Ready, as a kubelet would say.
pub struct Kubelet(pub Arc<Machine>);

#[async_trait::async_trait]
impl Health for Kubelet {
    async fn node_ready(&self) -> Option<bool> {
        let machine = &self.0;
        machine.member().then(|| machine.stage.clock.elapsed() >= machine.state.lock().unwrap().unready_until)
    }

    async fn ready_since(&self, _since: i64) -> Option<bool> {
        self.node_ready().await
    }

    async fn pods(&self) -> Option<BTreeMap<String, bool>> {
        None
    }

    async fn workloads(&self) -> Vec<muster_plan::Workload> {
        Vec::new()
    }
}
