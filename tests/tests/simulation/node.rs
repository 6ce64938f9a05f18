//! The agent on a machine: keeper, link, loop and engine are the product's; the machine is in memory, and kubeadm's part
//! is played.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use muster_agent::{
    Context, Scope, StepError,
    converge::{Engine, Options},
    daemon::{Converge, Daemon, Meter, Notifier, Rights, Signed, Work},
    ledger::{self, LedgerFile},
    link::{
        AgentConfig, CatalogCache, CoordinatorSecrets, CoordinatorTickets, CoordinatorTurns, CredentialStore, Instance,
        Jitter, Keeper, Link,
    },
    ports::{Health as _, HeldTurn, JoinTicket, Taken, Tickets as _, Turn, Turns},
};
use muster_catalog::{
    Catalog, Facts, Spec,
    kinds::cluster_member::{ClusterMemberSpec, Start},
};
use muster_ids::{Digest, Generation, NodeName, ResourceId};
use muster_plan::{Outcome, Report, Row, Skip, StepReport};
use muster_proto::{
    tls::{Trust, client},
    v1::{self, enrolment_client::EnrolmentClient},
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{sync::watch, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Minted,
    machine::{Kubelet, Machine, SlowUnits},
    network::dial,
    plants::{Plant, PlantedTurns},
    stage::Stage,
};

/// Where the coordinator is.
pub const COORDINATOR: &str = "10.89.0.2";
pub const PORT: u16 = 7443;

/// The agent, from its start to the crash of its host.
pub async fn agent(machine: Arc<Machine>, pin: Digest) -> turmoil::Result {
    let stage = machine.stage.clone();
    stage.tell(format!("{} starts", machine.node));
    let realm = Stage::realm();
    let config = AgentConfig {
        coordinator: format!("{COORDINATOR}:{PORT}"),
        ca_pin: pin,
        cluster: realm.cluster.clone(),
        environment: realm.environment.clone(),
        converge_every: 120,
    };
    if stage.plant == Plant::NoMark {
        let _ = std::fs::remove_file(machine.folder.join("generation.json"));
    }
    let clock = Arc::new(stage.clock.clone());
    let jitter = Jitter::seeded(machine.random());
    let store = CredentialStore::new(&machine.folder);
    let instance = machine.folder.join("instance.json");
    let keeper = Keeper::new(&config, store, instance, dial(), clock.clone(), jitter.clone())?;
    let (link, enrolled) = (keeper.link(), keeper.enrolled().cloned());
    let turns: Arc<dyn Turns> =
        Arc::new(PlantedTurns::new(Arc::new(CoordinatorTurns::new(link.clone())), machine.clone()));
    let scope = Scope {
        cluster: realm.cluster,
        environment: realm.environment,
        node: machine.node.clone(),
        generation: Generation::default(),
        owned: Default::default(),
        keys: Default::default(),
        groups: Default::default(),
        objects: Vec::new(),
    };
    let ctx = Context {
        units: Arc::new(SlowUnits(machine.clone())),
        clock: clock.clone(),
        turns: turns.clone(),
        secrets: Arc::new(CoordinatorSecrets::new(link.clone(), &machine.folder)),
        ..machine.fake.context(scope)
    };
    let ledger = LedgerFile::open(ctx.files.clone(), ledger::PATH)?;
    let engine = Engine::new(ctx, ledger, Arc::new(Kubelet(machine.clone())));
    let tickets = CoordinatorTickets::new(link.clone());
    let daemon = Daemon {
        link,
        cache: CatalogCache::new(&machine.folder),
        work: Arc::new(Node { machine: machine.clone(), engine, tickets, turns }),
        clock,
        jitter,
        notifier: Notifier::none(),
        meter: Meter::none(),
        state: machine.folder.clone(),
        every: Duration::from_secs(config.converge_every),
    };
    tokio::spawn(keeper.run());
    tokio::spawn(leader(machine.clone(), daemon.link.clone()));
    tokio::spawn(thief(machine.clone(), pin));
    daemon.run(enrolled.as_ref(), CancellationToken::new()).await;
    Ok(())
}

/// What the control plane that leads tells of the cluster: here the first that votes.
async fn leader(machine: Arc<Machine>, link: Link) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let report = {
            let cluster = machine.stage.cluster.lock().unwrap();
            let leads = machine.control_plane() && cluster.etcd.first() == Some(&machine.node);
            leads.then(|| cluster.report(machine.stage.clock.elapsed()))
        };
        if let Some(report) = report.filter(|_| machine.member()) {
            let json = serde_json::to_string(&report).expect("a report is plain data");
            let _ = link.report_cluster(&json).await;
        }
    }
}

/// Somebody on the machine who reads the token, and wants a certificate for a key of his own.
async fn thief(machine: Arc<Machine>, pin: Digest) {
    loop {
        machine.thief.notified().await;
        let stage = &machine.stage;
        // Before the node itself has enrolled the token is as good as new, whoever has it.
        if !machine.folder.join("identity/identity.json").exists() || *stage.restored.lock().unwrap() > 0 {
            continue;
        }
        let tried = async {
            let instance = Instance::load(&machine.folder.join("instance.json"))?;
            let csr_pem = CertificateParams::default().serialize_request(&KeyPair::generate()?)?.pem()?;
            let config = client::config(None, Trust::Pin(pin), &Stage::realm(), Arc::new(stage.clock.clone()))?;
            let channel = client::channel(&format!("{COORDINATOR}:{PORT}"), watch::channel(config).1, dial())?;
            let request = v1::EnrolRequest { token: instance.token, instance: instance.instance, csr_pem };
            anyhow::Ok(EnrolmentClient::new(channel).enrol(request).await.is_ok())
        };
        let tried = timeout(Duration::from_secs(20), tried).await;
        stage.tell(format!("{}: a thief tries the token", machine.node));
        if matches!(tried, Ok(Ok(true))) && *stage.restored.lock().unwrap() == 0 {
            stage.breaks("an enrolment token is used once", format!("a thief got a certificate of {}", machine.node));
        }
    }
}

/// The engine, and a kubeadm that is played.
struct Node {
    machine: Arc<Machine>,
    engine: Engine,
    tickets: CoordinatorTickets,
    turns: Arc<dyn Turns>,
}

/// The catalog without its membership, which is played here, and the pods' network, which is nobody's business here.
fn split(catalog: &Catalog) -> (Arc<Catalog>, Option<ClusterMemberSpec>) {
    let mut rest = catalog.clone();
    let mut member = None;
    rest.resource.retain(|resource| match &resource.spec {
        Spec::ClusterMember(spec) => {
            member = Some(spec.clone());
            false
        }
        Spec::PodNetwork(_) => false,
        _other => true,
    });
    (Arc::new(rest), member)
}

impl Node {
    fn stage(&self) -> &Stage {
        &self.machine.stage
    }

    /// The end of the pause that this agent was told and keeps on disk.
    fn pause(&self) -> Option<i64> {
        let until = std::fs::read_to_string(self.machine.folder.join("pause")).ok()?;
        until.trim().parse().ok().filter(|until| *until > self.stage().clock.seconds())
    }

    /// Whether this node is in the cluster, or out of it, as written; then there is nothing to do.
    fn placed(&self, spec: &ClusterMemberSpec) -> bool {
        self.machine.member() == (spec.start != Start::Leave) && self.remains(spec).is_empty()
    }

    /// Nodes that are to be taken out of the cluster and are in it.
    fn remains(&self, spec: &ClusterMemberSpec) -> Vec<NodeName> {
        let cluster = self.stage().cluster.lock().unwrap();
        let gone = spec.gone.iter().map(|gone| gone.name.parse::<NodeName>().expect("a node's name"));
        gone.filter(|gone| cluster.members.contains_key(gone) || cluster.etcd.contains(gone)).collect()
    }

    async fn member(&self, spec: &ClusterMemberSpec) -> Result<(), StepError> {
        match spec.start {
            Start::Init | Start::Join if self.machine.member() => self.bury(spec).await?,
            Start::Init => self.init().await,
            Start::Join => self.join().await?,
            Start::Leave => self.leave().await?,
        }
        Ok(())
    }

    async fn init(&self) {
        let (machine, stage) = (&self.machine, self.stage());
        tokio::time::sleep(machine.between(1000, 5000)).await;
        let mut cluster = stage.cluster.lock().unwrap();
        if cluster.born {
            drop(cluster);
            stage.breaks("a cluster is born once", format!("{} starts another one", machine.node));
            return;
        }
        cluster.born = true;
        cluster.members.insert(machine.node.clone(), machine.instance.clone());
        cluster.etcd.insert(machine.node.clone());
        drop(cluster);
        machine.unready_for(machine.between(500, 3000));
        stage.tell(format!("{} starts the cluster", machine.node));
    }

    async fn join(&self) -> Result<(), StepError> {
        let (machine, stage) = (&self.machine, self.stage());
        let control_plane = machine.control_plane();
        let ticket = self.tickets.join(control_plane).await?;
        let minted = stage.cluster.lock().unwrap().tickets.get(&ticket.token).cloned();
        match minted {
            Some(minted) if minted.node == machine.node && minted.control_plane == control_plane => {
                if minted.expires < stage.clock.seconds() {
                    return Err(StepError::failed("the ticket has expired").retry());
                }
            }
            Some(_) | None => {
                stage.breaks("a ticket is its node's alone", format!("{} got {}", machine.node, ticket.token));
            }
        }
        tokio::time::sleep(machine.between(500, 4000)).await;
        if control_plane {
            let turn = self.etcd_turn("joins etcd").await?;
            self.change_etcd(true).await;
            turn.give().await;
            tokio::time::sleep(machine.between(200, 2000)).await;
        }
        stage.cluster.lock().unwrap().members.insert(machine.node.clone(), machine.instance.clone());
        machine.unready_for(machine.between(500, 3000));
        stage.tell(format!("{} joins the cluster", machine.node));
        Ok(())
    }

    async fn leave(&self) -> Result<(), StepError> {
        let (machine, stage) = (&self.machine, self.stage());
        tokio::time::sleep(machine.between(500, 4000)).await;
        if machine.control_plane() {
            let turn = self.etcd_turn("leaves etcd").await?;
            self.change_etcd(false).await;
            turn.give().await;
        }
        stage.cluster.lock().unwrap().members.remove(&machine.node);
        stage.tell(format!("{} leaves the cluster", machine.node));
        Ok(())
    }

    /// Takes nodes out of the cluster that cannot, or are not to be asked to.
    async fn bury(&self, spec: &ClusterMemberSpec) -> Result<(), StepError> {
        for gone in self.remains(spec) {
            let turn = self.etcd_turn("removes a member from etcd").await?;
            tokio::time::sleep(self.machine.between(200, 2000)).await;
            {
                let mut cluster = self.stage().cluster.lock().unwrap();
                cluster.members.remove(&gone);
                cluster.etcd.remove(&gone);
            }
            self.stage().tell(format!("{} takes {gone} out of the cluster", self.machine.node));
            turn.give().await;
        }
        Ok(())
    }

    /// As the real step takes it: asked for again and again.
    async fn etcd_turn(&self, reason: &str) -> Result<Box<dyn HeldTurn>, StepError> {
        for _ in 0..1500 {
            if let Taken::Granted(turn) = self.turns.take(Turn::Etcd, reason).await? {
                return Ok(turn);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(StepError::waits("the turn to change etcd"))
    }

    async fn change_etcd(&self, joins: bool) {
        let (machine, stage) = (&self.machine, self.stage());
        let before = stage.cluster.lock().unwrap().changing.replace(machine.node.clone());
        if let Some(other) = before.filter(|other| *other != machine.node) {
            let text = format!("{} while {other} does", machine.node);
            stage.breaks("etcd's members change one by one", text);
        }
        let _change = Change(machine);
        tokio::time::sleep(machine.between(300, 6000)).await;
        let mut cluster = stage.cluster.lock().unwrap();
        if joins {
            cluster.etcd.insert(machine.node.clone());
        } else {
            cluster.etcd.remove(&machine.node);
        }
    }
}

/// A change of etcd's members under way.
struct Change<'a>(&'a Machine);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut cluster = self.0.stage.cluster.lock().unwrap();
        if cluster.changing.as_ref() == Some(&self.0.node) {
            cluster.changing = None;
        }
    }
}

fn step(outcome: Outcome) -> StepReport {
    StepReport { resource: ResourceId::new("cluster_member", "this"), outcome, detail: vec![], notes: vec![], took: 0 }
}

fn open(report: &Report) -> String {
    let open = report.steps.iter().filter(|step| !matches!(step.outcome, Outcome::Done | Outcome::AlreadyRight));
    open.map(|step| format!("{} {:?}", step.resource, step.outcome)).collect::<Vec<_>>().join("; ")
}

#[async_trait::async_trait]
impl Work for Node {
    async fn converge(&self, converge: Converge) -> Result<Report, String> {
        let Converge { catalog, woken_by, only, paused_until, stop } = converge;
        let (machine, stage) = (&self.machine, self.stage());
        machine.applies(&catalog);
        let (rest, member) = split(&catalog);
        let (told, before) = (paused_until, machine.changes());
        let kept = self.pause().filter(|until| machine.pause_known() == Some(*until));
        if told.is_none() && kept.is_some() {
            stage.breaks("a pause is kept", format!("{} was told before, and goes on", machine.node));
        }
        let paused_until = paused_until.filter(|_| stage.plant != Plant::NoPause);
        let whole = only.is_none();
        let options = Options { woken_by: woken_by.to_owned(), only, paused_until, stop: stop.clone(), progress: None };
        let mut report = self.engine.converge(&rest, &options).await.map_err(|error| error.to_string())?;
        machine.knows_pause(self.pause());
        if told.is_some_and(|until| until > stage.clock.seconds()) && machine.changes() != before {
            stage.breaks("a paused node does not converge", machine.node.as_str());
        }
        if let Some(spec) = member.filter(|_| whole) {
            let outcome = if self.placed(&spec) {
                report.already_right += 1;
                None
            } else if let Some(until) = paused_until {
                Some(Outcome::Skipped { why: Skip::Paused { until } })
            } else if stop.is_cancelled() {
                Some(Outcome::Skipped { why: Skip::Waits { what: "the agent to go on".to_owned() } })
            } else {
                Some(self.member(&spec).await.map_or_else(StepError::into_outcome, |()| Outcome::Done))
            };
            report.converged &= matches!(outcome, None | Some(Outcome::Done | Outcome::AlreadyRight));
            report.steps.extend(outcome.map(step));
            report.node_ready = Kubelet(machine.clone()).node_ready().await;
        }
        let (node, generation) = (&machine.node, catalog.generation);
        stage.tell(format!("{node} converged {generation} by {woken_by}: {} {}", report.converged, open(&report)));
        Ok(report)
    }

    async fn plan(&self, draft: Arc<Catalog>) -> Result<Vec<Row>, String> {
        if self.stage().plant == Plant::Drafts {
            let stop = CancellationToken::new();
            let catalog = draft.clone();
            self.converge(Converge { catalog, woken_by: "asked", only: None, paused_until: None, stop }).await?;
        }
        self.engine.plan(&split(&draft).0).await.map_err(|error| error.to_string())
    }

    fn drift(&self, _: Arc<Catalog>) -> BoxStream<'static, ResourceId> {
        UnboundedReceiverStream::new(self.machine.watch_drift()).boxed()
    }

    async fn facts(&self) -> Facts {
        self.machine.facts()
    }

    async fn mint(&self, node: &NodeName, control_plane: bool) -> Result<JoinTicket, String> {
        // One that is being born waits, as the real one does.
        for _ in 0..100 {
            if self.machine.member() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if !self.machine.member() {
            return Err("there is no cluster yet".to_owned());
        }
        let expires = self.stage().clock.seconds() + 900;
        let mut cluster = self.stage().cluster.lock().unwrap();
        let token = format!("ticket-{}", cluster.tickets.len());
        cluster.tickets.insert(token.clone(), Minted { node: node.clone(), control_plane, expires });
        let certificate_key = control_plane.then(|| "key".to_owned());
        Ok(JoinTicket { token, ca_hash: "sha256:00".to_owned(), certificate_key, expires })
    }

    async fn sign(&self, csr_pem: &str, user: &str, _: Rights) -> Result<Signed, String> {
        Ok(Signed { certificate_pem: format!("{csr_pem} of {user}"), ca_pem: "ca".to_owned() })
    }
}
