//! A coordinator on loopback with a fake provider, and agents that are nothing but gRPC clients with real certificates.

mod agent;
mod cloud;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use muster_catalog::SiteFiles;
use muster_coordinator::{
    app::{Parts, Running, start},
    backup,
    ca::Authority,
    cloud::{Bootstrap, fake::FakeCloud, fake::Faults},
    plan::SavedPlan,
    secrets::MasterKey,
    state::Local,
    status::Status,
    store::Sqlite,
};
use muster_ids::{Generation, NodeName};
use muster_proto::{
    OperatorRole, Realm, SystemClock,
    signed::CatalogKey,
    tls::{self, Credentials, Trust, client},
    v1::{
        self, agent_client::AgentClient, enrolment_client::EnrolmentClient, operator_client::OperatorClient, plan_event,
    },
};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tonic::{Status as GrpcStatus, transport::Channel};

pub use self::{
    agent::{Agent, Behaviour, converged, failed},
    cloud::TestCloud,
};

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
        let issued = self.authority.issue_operator(OperatorRole::Admin, "dana", &csr).unwrap();
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
