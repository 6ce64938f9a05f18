//! A coordinator whose CA, gate and enrolment are the real ones, and whose agent service says what a test tells it to; its turns are the
//! real one's too.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _};
use muster_catalog::Catalog;
use muster_coordinator::{
    authz::{self, ControlPlanes, Gate},
    ca::{Authority, Rotation},
    cloud::Answer,
    enrol::{Enrolment, IdentityStore as _, MemoryIdentities, Vouch},
    turns::{self, Turns},
};
use muster_ids::{Digest, Generation, NodeName};
use muster_proto::{
    Clock, ManualClock, Realm, Revocations,
    tls::server::ServerTls,
    v1::{
        ClusterSeen, DraftAnswer, Empty, JoinOffer, JoinRequest, JoinTicket, PullReply, PullRequest, Push, ReportReply,
        ReportRequest, Secret, SecretRequest, SignedCatalog, SignedOffer, TurnReply, TurnRequest, WatchRequest,
        agent_server::{Agent, AgentServer},
        enrolment_server::EnrolmentServer,
        push,
    },
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

pub const NOW: i64 = 1_800_000_000;
pub const HOUR: i64 = 3600;

pub fn realm() -> Realm {
    Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() }
}

/// What the agents said.
#[derive(Default)]
pub struct Heard {
    pub pulls: u32,
    pub reports: Vec<ReportRequest>,
    pub metrics: u32,
    pub drafts: Vec<DraftAnswer>,
    pub offers: Vec<JoinOffer>,
    pub signed: Vec<SignedOffer>,
    pub clusters: Vec<String>,
    pub turns: Turns,
}

fn node_of<T>(request: &Request<T>) -> Result<NodeName, Status> {
    authz::peer(request)?.name.parse().map_err(|_| Status::permission_denied("this call is an agent's"))
}

struct Scripted {
    catalog: watch::Receiver<Option<SignedCatalog>>,
    ticket: watch::Receiver<Option<JoinTicket>>,
    pushes: broadcast::Sender<Push>,
    heard: Arc<Mutex<Heard>>,
}

type Pushes = Pin<Box<dyn Stream<Item = Result<Push, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Scripted {
    type WatchStream = Pushes;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullReply>, Status> {
        self.heard.lock().unwrap().pulls += 1;
        let Some(catalog) = self.catalog.borrow().clone() else {
            return Err(Status::failed_precondition("not compiled yet"));
        };
        let same = catalog.etag == request.get_ref().etag;
        Ok(Response::new(PullReply { catalog: (!same).then_some(catalog) }))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Pushes>, Status> {
        let pushes = BroadcastStream::new(self.pushes.subscribe());
        let pushes = pushes.map(|push| push.map_err(|_| Status::data_loss("too slow")));
        Ok(Response::new(Box::pin(pushes)))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let mut heard = self.heard.lock().unwrap();
        heard.metrics += u32::from(request.get_ref().metrics.is_some());
        if !request.get_ref().report_json.is_empty() {
            heard.reports.push(request.into_inner());
        }
        Ok(Response::new(ReportReply {}))
    }

    async fn answer_draft(&self, request: Request<DraftAnswer>) -> Result<Response<Empty>, Status> {
        self.heard.lock().unwrap().drafts.push(request.into_inner());
        Ok(Response::new(Empty {}))
    }

    async fn take_turn(&self, request: Request<TurnRequest>) -> Result<Response<TurnReply>, Status> {
        let node = node_of(&request)?;
        let TurnRequest { turn, reason, seconds } = request.into_inner();
        let turn = turn.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let (now, lasts) = (Instant::now().into_std(), turns::lease(seconds));
        let taken = self.heard.lock().unwrap().turns.take(turn, &node, &reason, lasts, now, turns::alone);
        Ok(Response::new(TurnReply { granted: taken.is_ok(), held_by: taken.err().unwrap_or_default() }))
    }

    async fn give_turn(&self, request: Request<TurnRequest>) -> Result<Response<Empty>, Status> {
        let node = node_of(&request)?;
        let turn = request.get_ref().turn.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        self.heard.lock().unwrap().turns.give(turn, &node);
        Ok(Response::new(Empty {}))
    }

    async fn request_join(&self, request: Request<JoinRequest>) -> Result<Response<JoinTicket>, Status> {
        let Some(mut ticket) = self.ticket.borrow().clone() else {
            return Err(Status::unavailable("no control plane minted one in time"));
        };
        if !request.get_ref().control_plane {
            ticket.certificate_key.clear();
        }
        Ok(Response::new(ticket))
    }

    async fn offer_join(&self, request: Request<JoinOffer>) -> Result<Response<Empty>, Status> {
        self.heard.lock().unwrap().offers.push(request.into_inner());
        Ok(Response::new(Empty {}))
    }

    async fn get_secret(&self, request: Request<SecretRequest>) -> Result<Response<Secret>, Status> {
        match request.get_ref().name.as_str() {
            "DATABASE_PASSWORD" => Ok(Response::new(Secret { value: b"sesame".to_vec() })),
            other => Err(Status::not_found(format!("there is no secret {other}"))),
        }
    }

    async fn offer_signed(&self, request: Request<SignedOffer>) -> Result<Response<Empty>, Status> {
        self.heard.lock().unwrap().signed.push(request.into_inner());
        Ok(Response::new(Empty {}))
    }

    async fn report_cluster(&self, request: Request<ClusterSeen>) -> Result<Response<Empty>, Status> {
        self.heard.lock().unwrap().clusters.push(request.into_inner().report_json);
        Ok(Response::new(Empty {}))
    }
}

/// A provider whose instances are all at 127.0.0.1 and called as their node.
struct Loopback;

impl Vouch for Loopback {
    fn vouch<'a>(&'a self, node: &'a NodeName, instance: &'a str, address: IpAddr) -> Answer<'a, bool> {
        Box::pin(async move { Ok(instance == node.as_str() && address.is_loopback()) })
    }
}

struct NamedControlPlanes;

impl ControlPlanes for NamedControlPlanes {
    fn is_control_plane(&self, node: &NodeName) -> bool {
        node.as_str().starts_with("control-plane-")
    }
}

/// The coordinator: its state outlives stops.
pub struct Coordinator {
    _folder: tempfile::TempDir,
    pub clock: ManualClock,
    pub authority: Arc<Authority>,
    pub identities: Arc<MemoryIdentities>,
    pub revoke: watch::Sender<Arc<Revocations>>,
    pub catalog: watch::Sender<Option<SignedCatalog>>,
    /// What a control plane minted.
    pub ticket: watch::Sender<Option<JoinTicket>>,
    pub pushes: broadcast::Sender<Push>,
    pub heard: Arc<Mutex<Heard>>,
    pub address: SocketAddr,
    serving: Option<Serving>,
}

struct Serving {
    cut: CancellationToken,
    server: JoinHandle<()>,
    rotation: JoinHandle<()>,
}

impl Coordinator {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW);
        let authority = Authority::open_or_create(folder.path(), realm(), Arc::new(clock.clone())).unwrap();
        let mut coordinator = Self {
            _folder: folder,
            clock,
            authority: Arc::new(authority),
            identities: Arc::default(),
            revoke: watch::Sender::new(Arc::default()),
            catalog: watch::Sender::new(None),
            ticket: watch::Sender::new(None),
            pushes: broadcast::Sender::new(64),
            heard: Arc::default(),
            address: "127.0.0.1:0".parse().unwrap(),
            serving: None,
        };
        coordinator.serve().await;
        coordinator
    }

    /// Serves, at the address that it had before.
    pub async fn serve(&mut self) {
        let clock: Arc<ManualClock> = Arc::new(self.clock.clone());
        let revocations = self.revoke.subscribe();
        let (rotation, identity) = Rotation::start(self.authority.clone(), revocations.clone(), clock.clone()).unwrap();
        let cut = CancellationToken::new();
        let tls = ServerTls {
            realm: realm(),
            identity,
            revocations: revocations.clone(),
            clock: clock.clone(),
            cut: cut.clone(),
        };
        let gate = Gate::new(Arc::new(NamedControlPlanes), revocations, clock.clone());
        let enrolment = Enrolment::new(self.authority.clone(), self.identities.clone(), Arc::new(Loopback), clock);
        let agents = Scripted {
            catalog: self.catalog.subscribe(),
            ticket: self.ticket.subscribe(),
            pushes: self.pushes.clone(),
            heard: self.heard.clone(),
        };
        let routes = Routes::new(EnrolmentServer::new(enrolment)).add_service(AgentServer::new(agents));
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let stop = cut.clone();
        let server = tokio::spawn(async move {
            authz::serve(listener, tls, gate, routes, async move { stop.cancelled().await }).await.unwrap();
        });
        self.serving = Some(Serving { cut, server, rotation: tokio::spawn(rotation.run()) });
    }

    /// As by a kill: every connection is cut.
    pub async fn stop(&mut self) {
        if let Some(Serving { cut, server, rotation }) = self.serving.take() {
            cut.cancel();
            rotation.abort();
            server.await.unwrap();
        }
    }

    pub fn grant(&self, token: &str, node: &str) {
        let now = self.clock.now();
        self.identities
            .change(&mut |identities| {
                identities.grant(Digest::of(token), node.parse().unwrap(), now);
                true
            })
            .unwrap();
    }

    pub fn readmit(&self, node: &str) {
        let now = self.clock.now();
        self.identities
            .change(&mut |identities| {
                identities.readmit(node.parse().unwrap(), now);
                true
            })
            .unwrap();
        self.revoke.send_replace(Arc::new(self.identities.read().unwrap().revocations));
    }

    pub fn revoke(&self, node: &str) {
        self.identities
            .change(&mut |identities| {
                identities.revoke_node(&node.parse().unwrap());
                true
            })
            .unwrap();
        self.revoke.send_replace(Arc::new(self.identities.read().unwrap().revocations));
    }

    pub fn catalog_for(&self, node: &str, counter: u64) -> Catalog {
        Catalog {
            cluster: realm().cluster,
            environment: realm().environment,
            node: node.parse().unwrap(),
            generation: Generation { epoch: 1, counter },
            draft: false,
            resource: vec![],
        }
    }

    /// Offers a catalog, and says so.
    pub fn publish(&self, catalog: &Catalog) {
        let signed = self.authority.sign_catalog(catalog.to_toml()).unwrap();
        self.offer(signed, catalog.generation);
    }

    pub fn offer(&self, signed: SignedCatalog, generation: Generation) {
        self.catalog.send_replace(Some(signed));
        self.push(push::Push::Generation(generation.into()));
    }

    pub fn push(&self, push: push::Push) {
        // Without a receiver nobody is connected, which is what some tests want.
        let _ = self.pushes.send(Push { push: Some(push) });
    }
}
