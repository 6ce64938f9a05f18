//! A coordinator on loopback with a fake provider, and agents that are nothing but gRPC clients with real certificates.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use muster_catalog::{Catalog, Facts, SiteFiles, Spec, kinds::cluster_member::Start};
use muster_coordinator::{
    app::{Parts, Running, start},
    backup,
    ca::Authority,
    cloud::{Answer, Bootstrap, Cloud, Proof, fake::FakeCloud, fake::Faults},
    plan::SavedPlan,
    secrets::MasterKey,
    state::Local,
    status::Status,
    store::Sqlite,
};
use muster_ids::{DiskName, EndpointName, Generation, NodeName};
use muster_plan::{Outcome, Report, Row, StepReport};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
};
use muster_proto::{
    Clock as _, Realm, Role, SystemClock,
    signed::CatalogKey,
    tls::{self, Credentials, Trust, client},
    v1::{
        self, agent_client::AgentClient, enrolment_client::EnrolmentClient, operator_client::OperatorClient,
        plan_event, push,
    },
};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tonic::{Status as GrpcStatus, Streaming, transport::Channel};

pub const SITE: &str = r#"
[cluster]
name = "easypay"
kubernetes = "1.34.4"
pods = "10.244.0.0/16"
services = "10.96.0.0/12"

[pool.control-plane]
role = "control-plane"
count = 3

[pool.workers]
role = "worker"
count = 2

[endpoint.api]
to = "control-plane"

[endpoint.web]
to = "workers"
listen = 80
port = 30080
check = "/ready"

[secret.database]
generate = true

[secret.unused]
generate = true
"#;

const LOCAL: &str = r#"
[provider.docker]
subnet = "10.89.0.0/16"

[endpoint.web]
address = "10.89.0.11"
"#;

pub fn site(motd: &str) -> SiteFiles {
    let files = [
        ("muster.toml", SITE.to_owned()),
        ("environments/local.toml", LOCAL.to_owned()),
        ("roles/control-plane.toml", "member = \"control-plane\"\ninclude = [\"base\"]\n".to_owned()),
        (
            "roles/worker.toml",
            "member = \"worker\"\ninclude = [\"base\"]\n\
             [[file]]\npath = \"/etc/database.key\"\nsecret = \"database\"\nmode = \"0600\"\n"
                .to_owned(),
        ),
        (
            "roles/base.toml",
            format!(
                "[[file]]\npath = \"/etc/motd\"\ncontent = \"{motd} {{{{ facts.kernel }}}}\\n\"\n\
                 [[pod_network]]\n[[cluster_member]]\nimage_repository = \"registry.example\"\n"
            ),
        ),
    ];
    files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect::<BTreeMap<_, _>>().into()
}

pub fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub fn realm() -> Realm {
    Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() }
}

/// The fake with the real time on its readings: certificates of the same test are judged by it.
#[derive(Clone)]
pub struct TestCloud {
    pub fake: FakeCloud,
}

impl Cloud for TestCloud {
    fn observe(&self) -> Answer<'_, Inventory> {
        Box::pin(async {
            let mut inventory = self.fake.observe().await?;
            inventory.taken = SystemClock.now();
            Ok(inventory)
        })
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()> {
        self.fake.ensure_network(plan)
    }

    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String> {
        self.fake.ensure_disk(name, plan)
    }

    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String> {
        self.fake.ensure_instance(name, plan, boot, proof)
    }

    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.fake.start_instance(name, id)
    }

    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()> {
        self.fake.remove_instance(name, id)
    }

    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()> {
        self.fake.ensure_load_balancer(name, plan)
    }

    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()> {
        self.fake.remove_load_balancer(name, id)
    }

    /// All agents of a test are on loopback: the address says nothing, the instance does.
    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, _: IpAddr) -> Answer<'a, bool> {
        Box::pin(async move {
            let inventory = self.fake.observe().await?;
            Ok(inventory.instances.get(name).is_some_and(|instance| instance.id == id && instance.running))
        })
    }
}

/// A coordinator that can be killed and started again over the same folder.
pub struct Lab {
    pub folder: PathBuf,
    _folder: tempfile::TempDir,
    pub cloud: TestCloud,
    pub address: SocketAddr,
    pub running: Option<Running>,
    authority: Arc<Authority>,
}

impl Lab {
    pub async fn new() -> Self {
        Self::with(Faults::default()).await
    }

    pub async fn with(faults: Faults) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let cloud = TestCloud { fake: FakeCloud::new(7, faults) };
        Self::over(temporary.path().to_owned(), temporary, cloud).await
    }

    pub async fn over(folder: PathBuf, temporary: tempfile::TempDir, cloud: TestCloud) -> Self {
        let authority = Authority::open_or_create(&folder, realm(), Arc::new(SystemClock)).unwrap();
        let mut lab = Self {
            folder,
            _folder: temporary,
            cloud,
            address: ([127, 0, 0, 1], 0).into(),
            running: None,
            authority: Arc::new(authority),
        };
        lab.start().await;
        lab
    }

    pub async fn start(&mut self) {
        let bind = async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    // The dropped tasks end at their next wait; until then the port is theirs.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let listener = timeout(Duration::from_secs(5), bind).await.expect("the port becomes free");
        self.address = listener.local_addr().unwrap();
        let authority = Authority::open_or_create(&self.folder, realm(), Arc::new(SystemClock)).unwrap();
        let parts = Parts {
            realm: realm(),
            store: Arc::new(Sqlite::open(&self.folder.join(backup::STORE)).unwrap()),
            local: Arc::new(Local::open(&self.folder.join(backup::LOCAL)).unwrap()),
            authority: Arc::new(authority),
            master: MasterKey::open_or_create(&self.folder).unwrap(),
            cloud: Arc::new(self.cloud.clone()),
            clock: Arc::new(SystemClock),
            node_image: "muster-node:1".to_owned(),
            provided: BTreeMap::new(),
            state_dir: self.folder.clone(),
            seed: 7,
            boot: Arc::new(|_, _| Bootstrap { user_data: "#!/bin/sh\n".to_owned() }),
            agent: None,
        };
        self.running = Some(start(parts, listener, None).unwrap());
    }

    /// As by `kill -9`: nothing is finished, nothing is said.
    pub async fn kill(&mut self) {
        drop(self.running.take());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn channel(&self, credentials: Option<Credentials>) -> Channel {
        let trust = Trust::Ca(tls::certificate_from_pem(self.authority.ca_pem()).unwrap());
        let config = client::config(credentials, trust, &realm(), Arc::new(SystemClock)).unwrap();
        client::channel(&self.address.to_string(), watch::channel(config).1, tls::io::tcp()).unwrap()
    }

    pub fn operator(&self) -> OperatorClient<Channel> {
        let (key, csr) = request();
        let issued = self.authority.issue(Role::Operator, "dana", &csr).unwrap();
        let credentials =
            Credentials::from_pem(&issued.chain_pem, &key.serialize_pem(), self.authority.ca_pem()).unwrap();
        OperatorClient::new(self.channel(Some(credentials)))
    }

    pub fn operator_with(&self, chain: &str, key: &rcgen::KeyPair) -> OperatorClient<Channel> {
        let credentials = Credentials::from_pem(chain, &key.serialize_pem(), self.authority.ca_pem()).unwrap();
        OperatorClient::new(self.channel(Some(credentials)))
    }

    pub async fn plan(&self, files: &SiteFiles) -> Result<SavedPlan, String> {
        plan(&mut self.operator(), files).await
    }

    pub async fn apply(&self, plan: &str, only: &str) -> Result<v1::ApplyReply, GrpcStatus> {
        let request = v1::ApplyRequest { plan: plan.to_owned(), only: only.to_owned() };
        Ok(self.operator().apply(request).await?.into_inner())
    }

    /// Plans and applies; the generation.
    pub async fn publish(&self, files: &SiteFiles) -> Generation {
        let plan = self.plan(files).await.unwrap();
        let reply = self.apply(&plan.id, "").await.unwrap();
        assert!(reply.stale.is_empty(), "{:?}", reply.stale);
        reply.generation.unwrap().into()
    }

    pub async fn status(&self) -> Status {
        let reply = self.operator().status(v1::StatusRequest {}).await.unwrap().into_inner();
        serde_json::from_str(&reply.status_json).unwrap()
    }

    /// Waits until the status is good.
    pub async fn until(&self, what: &str, good: impl Fn(&Status) -> bool) -> Status {
        let until = async {
            loop {
                let status = self.status().await;
                if good(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(Duration::from_secs(20), until).await {
            Ok(status) => status,
            Err(_) => panic!("never came: {what}\n{}", self.status().await.text()),
        }
    }

    /// The agent of an instance that the provider made: enrolled with the proof that the instance got.
    pub async fn agent(&self, name: &str) -> Agent {
        let wait = async {
            loop {
                let mut world = self.cloud.fake.world().instances.into_iter();
                if let Some(made) = world.find(|made| made.node == node(name) && made.gone.is_none()) {
                    return (made.id, made.proof);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (instance, token) =
            timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("{name} was never made"));
        let (key, csr_pem) = request();
        let mut enrolment = EnrolmentClient::new(self.channel(None));
        // A provider that lags does not vouch at once; a machine asks again.
        let certificate = loop {
            let request =
                v1::EnrolRequest { token: token.clone(), instance: instance.clone(), csr_pem: csr_pem.clone() };
            match enrolment.enrol(request).await {
                Ok(certificate) => break certificate.into_inner(),
                Err(error) if error.message().contains("provider") => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{name}: {error}"),
            }
        };
        assert_eq!(certificate.node, name);
        let catalog_key = CatalogKey::from_pem(&certificate.catalog_key_pem).unwrap();
        let credentials =
            Credentials::from_pem(&certificate.chain_pem, &key.serialize_pem(), &certificate.ca_pem).unwrap();
        let client = AgentClient::new(self.channel(Some(credentials.clone())));
        Agent { name: name.to_owned(), client, catalog_key, credentials, kernel: "6.18".to_owned() }
    }

    /// The same agent to a coordinator that was started again elsewhere.
    pub fn reconnect(&self, agent: &Agent) -> Agent {
        let client = AgentClient::new(self.channel(Some(agent.credentials.clone())));
        Agent { client, ..agent.clone() }
    }

    pub async fn agents(&self) -> Vec<Agent> {
        let mut agents = Vec::new();
        for name in ["control-plane-1", "control-plane-2", "control-plane-3", "workers-1", "workers-2"] {
            agents.push(self.agent(name).await);
        }
        agents
    }

    /// All five nodes enrolled, converged and ready, the cluster born.
    pub async fn up(&self, files: &SiteFiles) -> Vec<Agent> {
        self.running(files).await.0
    }

    /// As [`Lab::up`], and what runs each of them. A node has one stream: whoever watches for a node ends its run before.
    pub async fn running(&self, files: &SiteFiles) -> (Vec<Agent>, Vec<tokio::task::JoinHandle<()>>) {
        self.publish(files).await;
        let agents = self.agents().await;
        let runs = agents.iter().map(|agent| agent.clone().run(Behaviour::default())).collect();
        self.until("everything as written", Status::written).await;
        (agents, runs)
    }
}

pub async fn plan(operator: &mut OperatorClient<Channel>, files: &SiteFiles) -> Result<SavedPlan, String> {
    let request = v1::PlanRequest { site: Some(muster_coordinator::wire::files(files)), wait: 10 };
    let mut events = operator.plan(request).await.map_err(|error| error.to_string())?.into_inner();
    while let Some(event) = events.message().await.map_err(|error| error.to_string())? {
        match event.event.unwrap() {
            plan_event::Event::Progress(_) => {}
            plan_event::Event::PlanJson(json) => return Ok(serde_json::from_str(&json).unwrap()),
            plan_event::Event::DiagnosticsJson(json) => return Err(json),
        }
    }
    Err("the stream ended".to_owned())
}

pub fn request() -> (rcgen::KeyPair, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

/// A client that plays an agent.
#[derive(Clone)]
pub struct Agent {
    pub name: String,
    pub client: AgentClient<Channel>,
    pub catalog_key: CatalogKey,
    pub credentials: Credentials,
    pub kernel: String,
}

/// How an agent that runs by itself answers.
#[derive(Clone, Default)]
pub struct Behaviour {
    /// Its catalogs fail from this generation's content on.
    pub fails_on: Option<String>,
    /// It plans nothing: drafts stay unanswered.
    pub mute: bool,
    /// Asked to leave the cluster it falls silent for good.
    pub dies: bool,
}

impl Agent {
    pub fn facts(&self) -> Facts {
        Facts {
            hostname: self.name.clone(),
            os: "debian".to_owned(),
            os_version: "12".to_owned(),
            arch: "amd64".to_owned(),
            kernel: self.kernel.clone(),
            virtualization: "container".to_owned(),
            cgroup: 1,
            cpus: 2,
            ..Facts::default()
        }
    }

    /// Pulls; absent where the etag is still right. The signature, the node and `draft` are checked.
    pub async fn pull(&self, etag: &str) -> Result<Option<(Catalog, String)>, GrpcStatus> {
        let facts_json = serde_json::to_string(&self.facts()).unwrap();
        let request = v1::PullRequest { facts_json, etag: etag.to_owned() };
        let reply = self.client.clone().pull(request).await?.into_inner();
        Ok(reply.catalog.map(|signed| {
            let catalog = Catalog::from_toml(self.catalog_key.verify(&signed).unwrap()).unwrap();
            assert_eq!(catalog.node, node(&self.name));
            assert!(!catalog.draft, "a draft must never be given to be applied");
            (catalog, signed.etag)
        }))
    }

    pub async fn report(&self, generation: Generation, report: &Report) {
        self.try_report(generation, report).await.unwrap();
    }

    async fn try_report(&self, generation: Generation, report: &Report) -> Result<(), GrpcStatus> {
        let request = v1::ReportRequest {
            generation: Some(generation.into()),
            report_json: serde_json::to_string(report).unwrap(),
            ..v1::ReportRequest::default()
        };
        self.client.clone().report(request).await.map(drop)
    }

    pub async fn watch(&self) -> Streaming<v1::Push> {
        self.client.clone().watch(v1::WatchRequest { session: "1".to_owned() }).await.unwrap().into_inner()
    }

    /// Runs by itself, as a real agent would: pulls what is pushed, reports, answers drafts; dials again when cut off.
    pub fn run(self, behaviour: Behaviour) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let mut client = self.client.clone();
                if let Ok(stream) = client.watch(v1::WatchRequest { session: "1".to_owned() }).await {
                    self.follow(stream.into_inner(), &behaviour).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    async fn follow(&self, mut stream: Streaming<v1::Push>, behaviour: &Behaviour) {
        while let Ok(Some(v1::Push { push: Some(push) })) = stream.message().await {
            match push {
                push::Push::Generation(_) | push::Push::Converge(_) => {
                    let Ok(Some((catalog, _))) = self.pull("").await else { continue };
                    let fails = behaviour.fails_on.as_ref().is_some_and(|text| catalog.to_toml().contains(text));
                    let leaves = catalog.resource.iter().any(|resource| {
                        matches!(&resource.spec, Spec::ClusterMember(member) if member.start == Start::Leave)
                    });
                    let mut report = if fails { failed() } else { converged() };
                    if leaves && behaviour.dies {
                        std::future::pending::<()>().await;
                    }
                    if leaves {
                        // It has left: its kubelet knows of no cluster any more.
                        report.node_ready = None;
                    }
                    if self.try_report(catalog.generation, &report).await.is_err() {
                        return;
                    }
                }
                push::Push::Draft(draft) if !behaviour.mute => {
                    let signed = draft.catalog.unwrap();
                    let catalog = Catalog::from_toml(self.catalog_key.verify(&signed).unwrap()).unwrap();
                    assert!(catalog.draft, "what is to be planned alone says so");
                    let rows = self.planned(&catalog).await;
                    let rows_json = serde_json::to_string(&rows).unwrap();
                    let answer = v1::DraftAnswer { id: draft.id, rows_json, error: String::new() };
                    let _ = self.client.clone().answer_draft(answer).await;
                }
                push::Push::Mint(mint) => {
                    let ticket = v1::JoinTicket {
                        token: format!("token-for-{}", mint.node),
                        ca_hash: "sha256:00".to_owned(),
                        certificate_key: if mint.control_plane { "key".to_owned() } else { String::new() },
                        expires: SystemClock.now() + 600,
                    };
                    let offer = v1::JoinOffer { id: mint.id, ticket: Some(ticket), error: String::new() };
                    let _ = self.client.clone().offer_join(offer).await;
                }
                push::Push::Sign(sign) => {
                    let offer = v1::SignedOffer {
                        id: sign.id,
                        certificate_pem: format!("certificate of {}", sign.user),
                        ca_pem: "ca".to_owned(),
                        error: String::new(),
                    };
                    let _ = self.client.clone().offer_signed(offer).await;
                }
                push::Push::Draft(_) | push::Push::Alive(_) | push::Push::PauseUntil(_) => {}
            }
        }
    }

    /// A row for each file whose content differs from the catalog that the node would get now.
    async fn planned(&self, draft: &Catalog) -> Vec<Row> {
        let Ok(Some((now, _))) = self.pull("").await else { return vec![] };
        let differs = draft.resource.iter().filter(|resource| !now.resource.contains(resource));
        differs
            .map(|resource| Row {
                resource: resource.id(),
                action: muster_plan::row::Action::Change,
                certainty: muster_plan::Certainty::Certain,
                detail: vec![format!("{:?}", muster_ids::Digest::of(format!("{resource:?}")))],
                reason: "the catalog changed".to_owned(),
                disrupts: Default::default(),
            })
            .collect()
    }
}

/// All is right, and the node serves.
pub fn converged() -> Report {
    Report { converged: true, already_right: 3, node_ready: Some(true), ..Report::default() }
}

/// A failure that will not pass.
pub fn failed() -> Report {
    let outcome = Outcome::Failed { error: "no such user".to_owned(), help: None, retry: false };
    let step =
        StepReport { resource: "file./etc/motd".parse().unwrap(), outcome, detail: vec![], notes: vec![], took: 1 };
    Report { steps: vec![step], node_ready: Some(true), ..Report::default() }
}
