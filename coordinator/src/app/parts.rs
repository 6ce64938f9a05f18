//! A coordinator from its parts: store, provider, clock and listeners are handed in, so that a simulation runs the same
//! code as a container.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::NodeName;
use muster_proto::{
    Clock, Realm,
    tls::{io::Accept, server::ServerTls},
    v1::{agent_server::AgentServer, enrolment_server::EnrolmentServer, operator_server::OperatorServer},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;

use super::AppError;
use crate::{
    api::{AgentApi, HttpState, Hub, LARGEST_MESSAGE, OperatorApi, Visitors, router},
    authz::{self, ControlPlanes, Gate},
    ca::{Authority, Rotation},
    cloud::Cloud,
    context::{Context, Progress},
    enrol::Enrolment,
    events::Events,
    library::Library,
    secrets::MasterKey,
    state::{Local, Root, State},
    store::Store,
    tasks::{Boot, publish_revocations, reconcile, watch_endpoints},
    turns::{Turns, USUAL},
};

/// What a coordinator is made of.
pub struct Parts {
    pub realm: Realm,
    pub store: Arc<dyn Store>,
    pub local: Arc<Local>,
    pub authority: Arc<Authority>,
    pub master: MasterKey,
    pub cloud: Arc<dyn Cloud>,
    pub clock: Arc<dyn Clock>,
    pub node_image: String,
    /// Values for templates that stand in no file of the site.
    pub provided: BTreeMap<String, serde_json::Value>,
    /// Where backups are taken from.
    pub state_dir: PathBuf,
    /// The planner's, for an environment that has none yet; not 0, which is none.
    pub seed: u64,
    pub boot: Boot,
    /// The agent's program and its digest.
    pub agent: Option<(muster_ids::Digest, PathBuf)>,
}

/// A coordinator that runs. Dropped, everything of it stops at once, as by a kill.
pub struct Running {
    pub ctx: Arc<Context>,
    tasks: JoinSet<Result<(), AppError>>,
    stop: CancellationToken,
    /// Connections are served by tasks of their own: they are cut with the rest.
    _cut: DropGuard,
}

impl Running {
    /// Stops taking calls, and ends when the last has ended or was cut.
    pub async fn stop(self) -> Result<(), AppError> {
        self.stop.cancel();
        self.ended().await
    }

    /// Until it stops by itself, or was asked to by [`Running::stopper`].
    pub async fn ended(mut self) -> Result<(), AppError> {
        let mut ended = Ok(());
        let stop = self.stop.clone();
        // Once asked to stop, whoever still downloads or watches is cut.
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::pin!(late);
        loop {
            let task = tokio::select! {
                task = self.tasks.join_next() => task,
                () = &mut late => break,
            };
            let Some(task) = task else { break };
            match task {
                Ok(Ok(())) => {}
                Ok(Err(error)) => ended = Err(error),
                // A panic is a bug: end, and be started again.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
            // Whichever ends first ends the others: a coordinator without its server or its loop is none.
            self.stop.cancel();
        }
        ended
    }

    /// Cancel it to stop the coordinator.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// A stop may take as long; longer than the server's own grace.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which nodes are control planes, by the newest blueprint.
struct Blueprinted(Arc<Context>);

impl ControlPlanes for Blueprinted {
    fn is_control_plane(&self, node: &NodeName) -> bool {
        let plan = self.0.current().ok().and_then(|published| published.blueprint.nodes.get(node).cloned());
        plan.is_some_and(|plan| plan.member == MemberRole::ControlPlane)
    }
}

/// Starts a coordinator on these listeners.
pub fn start<L: Accept>(parts: Parts, grpc: L, http: Option<TcpListener>) -> Result<Running, AppError> {
    let Parts {
        realm,
        store,
        local,
        authority,
        master,
        cloud,
        clock,
        node_image,
        provided,
        state_dir,
        seed,
        boot,
        agent,
    } = parts;
    let state = State::open(store.clone(), realm.environment.clone())?;
    state.change(|root| {
        if root.seed == 0 {
            root.seed = seed;
        }
    })?;
    let ctx = Arc::new(Context {
        library: Library::new(store, realm.environment.clone(), provided),
        realm: realm.clone(),
        events: Events::new(local.clone()),
        authority: authority.clone(),
        master,
        cloud: cloud.clone(),
        hub: Hub::default(),
        cluster: Default::default(),
        turns: std::sync::Mutex::new(remembered(&local, &state.snapshot(), clock.now())?),
        tickets: Default::default(),
        mints: Default::default(),
        signatures: Default::default(),
        drafts: Default::default(),
        wake: Notify::new(),
        publishing: Default::default(),
        readings: Default::default(),
        served: Default::default(),
        progress: watch::channel(Progress::default()).0,
        node_image,
        started: clock.now(),
        clock: clock.clone(),
        local,
        state: state.clone(),
    });
    let (publish, revocations) = watch::channel(Arc::new(state.snapshot().identities.revocations.clone()));
    let (rotation, identity) = Rotation::start(authority.clone(), revocations.clone(), clock.clone())?;
    let stop = CancellationToken::new();
    let cut = CancellationToken::new();
    let tls = ServerTls { realm, identity, revocations: revocations.clone(), clock: clock.clone(), cut: cut.clone() };
    let gate = Gate::new(Arc::new(Blueprinted(ctx.clone())), revocations, clock.clone());
    let enrolment = Enrolment::new(authority, Arc::new(state.clone()), Arc::new(cloud), clock);
    let operator = OperatorServer::new(OperatorApi::new(ctx.clone(), state_dir));
    let routes = Routes::new(EnrolmentServer::new(enrolment))
        .add_service(AgentServer::new(AgentApi::new(ctx.clone())).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(operator.max_decoding_message_size(LARGEST_MESSAGE));

    let mut tasks = JoinSet::new();
    let until = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = stop.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
            Ok(())
        }
    };
    tasks.spawn(until(Box::pin(rotation.run())));
    tasks.spawn(until(Box::pin(publish_revocations(state, publish))));
    tasks.spawn(until(Box::pin(reconcile(ctx.clone(), boot))));
    tasks.spawn(until(Box::pin(watch_endpoints(ctx.clone()))));
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn(async move { Ok(authz::serve(grpc, tls, gate, routes, stopped).await?) });
    if let Some(listener) = http {
        let routes = router(HttpState { ctx: ctx.clone(), agent });
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            let serve = axum::serve(Visitors::new(listener), routes).with_graceful_shutdown(stopped);
            if let Err(error) = serve.await {
                tracing::error!(%error, "the HTTP server ended");
            }
            Ok(())
        });
    }
    Ok(Running { ctx, tasks, stop, _cut: cut.drop_guard() })
}

/// Leases that were known before a restart count from now on again; those that a backup does not know are waited for.
fn remembered(local: &Local, root: &Root, wall: i64) -> Result<Turns, AppError> {
    let mut turns = Turns::default();
    let now = tokio::time::Instant::now().into_std();
    let left = root.restored().map_or(0, |restored| restored - wall + USUAL.as_secs().cast_signed());
    // A clock that was put back would keep it closed for long.
    let closed = now + Duration::from_secs(u64::try_from(left).unwrap_or(0)).min(2 * USUAL);
    for (turn, node, seconds, reason) in local.turns()? {
        if let (Ok(turn), Ok(node)) = (turn.parse(), node.parse::<NodeName>()) {
            // Whoever had it has it: there is nothing to judge.
            let _ = turns.take(turn, &node, &reason, Duration::from_secs(seconds), now, |_| Ok(()));
        }
    }
    turns.close(closed);
    Ok(turns)
}
