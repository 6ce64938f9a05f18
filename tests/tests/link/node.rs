//! A node: the real keeper, link and loop, and an engine that writes down what it was asked to do.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::stream::BoxStream;
use muster_agent::{
    daemon::{Converge, Daemon, Meter, Notifier, Rights, Signed, Work},
    link::{AgentConfig, CatalogCache, CredentialStore, Jitter, Keeper, Link},
    ports::JoinTicket,
};
use muster_catalog::{Catalog, compile::Facts};
use muster_ids::{Generation, NodeName, ResourceId};
use muster_plan::{Outcome, Report, Row, Skip, StepReport};
use muster_proto::tls;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::coordinator::{Coordinator, realm};

/// What the engine was asked to converge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converged {
    pub generation: Generation,
    pub woken_by: &'static str,
    pub only: Option<Vec<String>>,
    pub paused: bool,
    /// It was told to stop before it was done.
    pub stopped: bool,
}

#[derive(Default)]
pub struct Engine {
    pub begun: AtomicU32,
    pub converged: Mutex<Vec<Converged>>,
    pub planned: Mutex<Vec<Generation>>,
    /// How long a converge takes.
    pub takes: Mutex<Duration>,
    /// How many converges end with something that waits.
    pub waits: Mutex<u32>,
    /// `file./etc/x` fails at each converge.
    pub fails: AtomicBool,
    /// A plan waits for the end of a converge that does not come.
    pub busy: AtomicBool,
    drift: Mutex<Option<mpsc::UnboundedSender<ResourceId>>>,
}

impl Engine {
    pub fn changed_by_hand(&self, path: &str) {
        let drift = self.drift.lock().unwrap();
        drift.as_ref().unwrap().send(ResourceId::new("file", path)).unwrap();
    }

    pub fn generations(&self) -> Vec<u64> {
        self.converged.lock().unwrap().iter().map(|converged| converged.generation.counter).collect()
    }
}

#[async_trait::async_trait]
impl Work for Engine {
    async fn converge(&self, converge: Converge) -> Result<Report, String> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let takes = *self.takes.lock().unwrap();
        let stopped = tokio::time::timeout(takes, converge.stop.cancelled()).await.is_ok();
        self.converged.lock().unwrap().push(Converged {
            generation: converge.catalog.generation,
            woken_by: converge.woken_by,
            only: converge.only.map(|only| only.iter().map(|id| id.name().to_owned()).collect()),
            paused: converge.paused_until.is_some(),
            stopped,
        });
        let mut report = Report { woken_by: converge.woken_by.to_owned(), converged: true, ..Report::default() };
        if self.fails.load(Ordering::SeqCst) {
            report.converged = false;
            report.steps.push(StepReport {
                resource: ResourceId::new("file", "/etc/x"),
                outcome: Outcome::Failed { error: "no".to_owned(), help: None, retry: true },
                detail: vec![],
                notes: vec![],
                took: 0,
            });
        }
        let mut waits = self.waits.lock().unwrap();
        if *waits > 0 {
            *waits -= 1;
            report.converged = false;
            report.steps.push(StepReport {
                resource: ResourceId::new("cluster_member", "this"),
                outcome: Outcome::Skipped { why: Skip::Waits { what: "the API server".to_owned() } },
                detail: vec![],
                notes: vec![],
                took: 0,
            });
        }
        Ok(report)
    }

    async fn plan(&self, draft: Arc<Catalog>) -> Result<Vec<Row>, String> {
        self.planned.lock().unwrap().push(draft.generation);
        if self.busy.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(vec![])
    }

    fn drift(&self, _: Arc<Catalog>) -> BoxStream<'static, ResourceId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.drift.lock().unwrap() = Some(sender);
        Box::pin(UnboundedReceiverStream::new(receiver))
    }

    async fn facts(&self) -> Facts {
        Facts::default()
    }

    async fn mint(&self, node: &NodeName, control_plane: bool) -> Result<JoinTicket, String> {
        if control_plane {
            return Err("not now".to_owned());
        }
        Ok(JoinTicket { token: format!("for-{node}"), ca_hash: String::new(), certificate_key: None, expires: 1 })
    }

    async fn sign(&self, csr_pem: &str, user: &str, rights: Rights) -> Result<Signed, String> {
        Ok(Signed { certificate_pem: format!("{csr_pem} of {user}: {rights:?}"), ca_pem: "ca".to_owned() })
    }
}

/// What a machine has before it is a node.
pub fn machine(folder: &Path, coordinator: &Coordinator, node: &str) -> AgentConfig {
    let token = format!("token of {node}");
    coordinator.grant(&token, node);
    let instance = serde_json::json!({ "token": token, "instance": node, "node": node });
    std::fs::write(folder.join("instance.json"), instance.to_string()).unwrap();
    AgentConfig {
        coordinator: coordinator.address.to_string(),
        ca_pin: coordinator.authority.pin(),
        cluster: realm().cluster,
        environment: realm().environment,
        converge_every: 300,
    }
}

pub fn keeper(folder: &Path, config: &AgentConfig, coordinator: &Coordinator) -> Keeper {
    Keeper::new(
        config,
        CredentialStore::new(folder),
        folder.join("instance.json"),
        tls::io::tcp(),
        Arc::new(coordinator.clock.clone()),
        Jitter::seeded(1),
    )
    .unwrap()
}

/// A running agent. Dropped, it stops as by a kill.
pub struct Node {
    pub engine: Arc<Engine>,
    pub link: Link,
    pub stop: CancellationToken,
    pub daemon: Option<JoinHandle<()>>,
    keeper: JoinHandle<()>,
}

impl Node {
    pub fn start(folder: &Path, config: &AgentConfig, coordinator: &Coordinator) -> Self {
        Self::with(folder, config, coordinator, Engine::default())
    }

    pub fn with(folder: &Path, config: &AgentConfig, coordinator: &Coordinator, engine: Engine) -> Self {
        let engine = Arc::new(engine);
        let keeper = keeper(folder, config, coordinator);
        let (link, enrolled) = (keeper.link(), keeper.enrolled().cloned());
        let daemon = Daemon {
            link: link.clone(),
            cache: CatalogCache::new(folder),
            work: engine.clone(),
            clock: Arc::new(coordinator.clock.clone()),
            jitter: Jitter::seeded(2),
            notifier: Notifier::none(),
            meter: Meter::new(false),
            state: folder.to_owned(),
            every: Duration::from_secs(config.converge_every),
        };
        let keeper = tokio::spawn(keeper.run());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let daemon = tokio::spawn(async move { daemon.run(enrolled.as_ref(), stopped).await });
        Self { engine, link, stop, daemon: Some(daemon), keeper }
    }

    pub async fn stopped(mut self) {
        self.stop.cancel();
        self.daemon.take().unwrap().await.unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Some(daemon) = &self.daemon {
            daemon.abort();
        }
    }
}

/// Waits until it is so, ten seconds at most.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came: {what}");
}
