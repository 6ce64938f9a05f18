//! The daemon put together: identity and link, engine, drift, the cluster's duties. Part of the composition root.
//!
//! A node that has no identity yet waits for it; one that has converges its last catalog at once, coordinator or not.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use muster_catalog::{Catalog, compile::Facts};
use muster_ids::{Generation, NodeName, ResourceId};
use muster_plan::{Report, Row};
use muster_proto::{Realm, SystemClock, tls::io};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    Context, Scope, app,
    cluster::{self, plane, sign::ClusterRole},
    converge::{Engine, Options},
    daemon::{Converge, Daemon, Meter, Notifier, Rights, Signed, Work, report_cluster},
    drift, dry, facts, ledger,
    link::{
        AgentConfig, CatalogCache, CoordinatorSecrets, CoordinatorTickets, CoordinatorTurns, CredentialStore, Jitter,
        Keeper, Link,
    },
    ports::JoinTicket,
};

/// The agent's folder.
const STATE: &str = "/var/lib/muster-agent";
/// Where user-data wrote which coordinator to follow.
const CONFIG: &str = "/etc/muster/agent.toml";
/// The provider's proof of what this instance is.
const INSTANCE: &str = "/var/lib/muster-agent/instance.json";

/// Runs until SIGTERM, and then to the end of the step under way.
pub async fn run() -> anyhow::Result<()> {
    let config = AgentConfig::load(Path::new(CONFIG))?;
    let state = PathBuf::from(STATE);
    let clock: Arc<dyn muster_proto::Clock> = Arc::new(SystemClock);
    let jitter = Jitter::random();
    let keeper =
        Keeper::new(&config, CredentialStore::new(&state), INSTANCE.into(), io::tcp(), clock.clone(), jitter.clone())
            .context("this node's identity cannot be read")?;
    let enrolled = keeper.enrolled().cloned();
    let link = keeper.link();
    let coordinator = app::Coordinator {
        turns: Arc::new(CoordinatorTurns::new(link.clone())),
        secrets: Arc::new(CoordinatorSecrets::new(link.clone(), &state)),
        tickets: Arc::new(CoordinatorTickets::new(link.clone())),
    };
    let realm = config.realm();
    // The catalog names the node; until there is one the scope is nobody's.
    let ctx = app::context(coordinator, scope(&realm, "this-node".parse()?));
    let engine = app::engine(ctx.clone(), ledger::PATH)?;
    let work = Arc::new(Node { engine, link: link.clone(), realm: realm.clone() });
    let daemon = Daemon {
        link: link.clone(),
        cache: CatalogCache::new(&state),
        work: work.clone(),
        clock,
        jitter,
        notifier: Notifier::from_environment(),
        meter: Meter::new(facts::collect().virtualization == "container"),
        state,
        every: Duration::from_secs(config.converge_every),
    };

    let stop = CancellationToken::new();
    let mut duties = tokio::task::JoinSet::new();
    duties.spawn(keeper.run());
    let (seen, told) = tokio::sync::watch::channel(None);
    duties.spawn(report_cluster(link.clone(), told));
    let known = enrolled.as_ref().map(|enrolled| enrolled.node.clone());
    duties.spawn(async move {
        let Some(node) = known.or(link.ready().await.map(|enrolled| enrolled.node)) else { return };
        plane::run(Context { scope: Arc::new(scope(&realm, node)), ..ctx }, seen).await;
    });
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    let stopping = stop.clone();
    duties.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    daemon.run(enrolled.as_ref(), stop).await;
    Ok(())
}

fn scope(realm: &Realm, node: NodeName) -> Scope {
    Scope {
        cluster: realm.cluster.clone(),
        environment: realm.environment.clone(),
        node,
        generation: Generation::default(),
        owned: Default::default(),
        keys: Default::default(),
        groups: Default::default(),
        objects: Vec::new(),
    }
}

/// The engine as the loop sees it.
struct Node {
    engine: Arc<Engine>,
    link: Link,
    realm: Realm,
}

impl Node {
    /// The engine's ports, as this node.
    fn context(&self) -> Result<Context, String> {
        let enrolled = self.link.enrolled().ok_or("this node is not enrolled")?;
        Ok(Context { scope: Arc::new(scope(&self.realm, enrolled.node)), ..self.engine.context().clone() })
    }
}

#[async_trait::async_trait]
impl Work for Node {
    async fn converge(&self, converge: Converge) -> Result<Report, String> {
        let Converge { catalog, woken_by, only, paused_until, stop } = converge;
        // Steps under way end by themselves: cut off, a dpkg or a kubeadm would die in the middle.
        let options = Options { woken_by: woken_by.to_owned(), only, paused_until, stop, progress: None };
        self.engine.converge(&catalog, &options).await.map_err(|error| lines(&error))
    }

    async fn plan(&self, draft: Arc<Catalog>) -> Result<Vec<Row>, String> {
        dry::plan(self.engine.clone(), draft).await.map_err(|error| lines(&error))
    }

    fn drift(&self, catalog: Arc<Catalog>) -> BoxStream<'static, ResourceId> {
        let ctx = Context { scope: Arc::new(Scope::of(&catalog)), ..self.engine.context().clone() };
        stream::select(drift::watch(ctx.clone(), Arc::clone(&catalog)), cluster::drift::watch(ctx, catalog)).boxed()
    }

    async fn facts(&self) -> Facts {
        facts::collect()
    }

    async fn mint(&self, node: &NodeName, control_plane: bool) -> Result<JoinTicket, String> {
        cluster::tickets::mint(&self.context()?, node, control_plane).await.map_err(|error| lines(&error))
    }

    async fn sign(&self, csr_pem: &str, user: &str, rights: Rights) -> Result<Signed, String> {
        let ctx = self.context()?;
        let role = match rights {
            Rights::Admin => ClusterRole::ADMIN,
            Rights::View => ClusterRole::VIEW,
        };
        let signed = cluster::sign::sign(&ctx, csr_pem, user, role).await.map_err(|error| lines(&error))?;
        Ok(Signed { certificate_pem: signed.certificate_pem, ca_pem: signed.ca_pem })
    }
}

/// An error with its causes on one line.
fn lines(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
