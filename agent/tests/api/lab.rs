//! One API server for all tests of this program, and a control plane in memory that leads on it.

use std::{
    io::Write as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Request};
use kube::{Client, Config, client::Body};
use muster_agent::{
    Context, Scope, StepError,
    adapters::{
        clock::SystemClock,
        fake::{FakeMachine, NoMember},
    },
    cluster::api,
    converge::{Engine, Options},
    ledger::LedgerFile,
    ports::{Files, Kube},
};
use muster_catalog::{
    Catalog, Resource, Spec,
    kinds::manifest::{ManifestSpec, Prune},
};
use muster_ids::{Generation, ResourceId};
use muster_plan::{Outcome, Report, Row};
use serde_json::{Value, json};

const TOKEN: &str = "lab";

/// The processes, and where the API server listens. They end with this program.
struct Server {
    port: u16,
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// A program that `cargo xtask` built. Panics where it is not there: a test that cannot run must say so.
fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} names a program: run `cargo xtask test`")).into()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port is free").port()
}

/// Started by a thread that never ends: the kernel kills a child with the thread that made it.
fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            tell.send(Server::start()).expect("the first test waits");
            loop {
                std::thread::park();
            }
        });
        told.recv().expect("the API server starts")
    })
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (etcd, peers, port) = (free_port(), free_port(), free_port());
        let etcd_url = format!("http://127.0.0.1:{etcd}");
        let peer_url = format!("http://127.0.0.1:{peers}");
        let key = rcgen::KeyPair::generate().expect("a key");
        std::fs::write(at("key.pem"), key.serialize_pem()).expect("the key is written");
        std::fs::write(at("key.pub"), key.public_key_pem()).expect("the public key is written");
        std::fs::write(at("tokens.csv"), format!("{TOKEN},lab,1,system:masters\n")).expect("the token is written");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "lab", "user": {"token": TOKEN}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        });
        std::fs::write(at("kubeconfig"), kubeconfig.to_string()).expect("the kubeconfig is written");
        let mut processes = vec![spawn(
            folder.path(),
            &program("ETCD_BIN"),
            &[
                format!("--data-dir={}", at("etcd")),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        )];
        processes.push(spawn(
            folder.path(),
            &program("KUBE_APISERVER_BIN"),
            &[
                format!("--etcd-servers={etcd_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                "--external-hostname=127.0.0.1".to_owned(),
                format!("--secure-port={port}"),
                format!("--cert-dir={}", at("certs")),
                format!("--token-auth-file={}", at("tokens.csv")),
                format!("--service-account-key-file={}", at("key.pub")),
                format!("--service-account-signing-key-file={}", at("key.pem")),
                "--service-account-issuer=https://lab.invalid".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
        ));
        let mut server = Self { port, folder, processes };
        server.wait();
        server.with_controllers()
    }

    /// What deletes the contents of a namespace, dependents, and claims that no pod uses any more.
    fn with_controllers(mut self) -> Self {
        let kubeconfig = self.folder.path().join("kubeconfig");
        let controllers =
            "namespace-controller,garbage-collector-controller,persistentvolumeclaim-protection-controller";
        self.processes.push(spawn(
            self.folder.path(),
            &program("KUBE_CONTROLLER_MANAGER_BIN"),
            &[
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--controllers={controllers}"),
                "--leader-elect=false".to_owned(),
                format!("--secure-port={}", free_port()),
                format!("--cert-dir={}", self.folder.path().join("controllers").display()),
                "--bind-address=127.0.0.1".to_owned(),
            ],
        ));
        self
    }

    fn wait(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = self.client();
            let began = Instant::now();
            while !(api::is_ready(&client).await
                && api::get(&client, "/api/v1/namespaces/kube-system").await.is_ok()
                && api::get(&client, "/api/v1/namespaces/default").await.is_ok())
            {
                let ended = self.processes.iter_mut().any(|process| process.try_wait().is_ok_and(|end| end.is_some()));
                let late = began.elapsed() > Duration::from_secs(300);
                assert!(!ended && !late, "the API server is not ready: {}", self.log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    fn client(&self) -> Client {
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse().expect("an address"));
        config.accept_invalid_certs = true;
        config.default_retry = false;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        Client::try_from(config).expect("a client")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap_or_default()
    }
}

/// Starts a program that the kernel kills with us, whatever ends us.
fn spawn(folder: &Path, program: &Path, arguments: &[String]) -> Child {
    let name = program.file_name().expect("a program").to_string_lossy().into_owned();
    let mut log = std::fs::File::create(folder.join(format!("{name}.log"))).expect("a log");
    writeln!(log, "{arguments:?}").expect("the log is written");
    let other = log.try_clone().expect("the log again");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(log).stderr(other).process_group(0);
    command.spawn().unwrap_or_else(|error| panic!("{name} with setpriv: {error}"))
}

/// A control plane in memory that leads on the real API server.
pub struct Node {
    pub machine: FakeMachine,
    pub client: Client,
    /// What was asked of the API server: verb and path.
    asked: Arc<Mutex<Vec<String>>>,
    /// The question at which everything stops; beyond all: none.
    stop_at: Arc<AtomicUsize>,
}

/// Counts questions, and stops at one of them.
struct Through(Client);

#[async_trait::async_trait]
impl Kube for Through {
    async fn client(&self) -> Result<Client, StepError> {
        Ok(self.0.clone())
    }
}

static GENERATION: AtomicI64 = AtomicI64::new(1);

/// One set of a site.
pub struct Set(pub ManifestSpec);

pub fn set(name: &str, content: &str) -> Set {
    Set(ManifestSpec::set(name, content.to_owned()))
}

impl Set {
    pub fn replace(mut self, kinds: &[&str]) -> Self {
        self.0.replace = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        self
    }
}

/// The catalog of a control plane with these sets, as it is compiled: what left any comes after all. Each is newer than
/// all before it.
pub fn site(sets: Vec<Set>, gone: &[&str]) -> Arc<Catalog> {
    let mut resource: Vec<Resource> = Vec::new();
    let after: Vec<ResourceId> = sets.iter().map(|set| ResourceId::new("manifest", &set.0.name)).collect();
    let gone = gone.iter().map(|name| (*name).to_owned()).collect();
    let prune = ManifestSpec::pruning(Prune::of(sets.iter().map(|set| &set.0), gone));
    for spec in sets.into_iter().map(|set| set.0) {
        resource.push(Resource { after: vec![], notify: vec![], spec: Spec::Manifest(spec) });
    }
    resource.push(Resource { after, notify: vec![], spec: Spec::Manifest(prune) });
    let counter = u64::try_from(GENERATION.fetch_add(1, Ordering::Relaxed)).expect("positive");
    Arc::new(Catalog {
        cluster: "c".parse().expect("a name"),
        environment: "e".parse().expect("a name"),
        node: "n-1".parse().expect("a name"),
        generation: Generation { epoch: 1, counter },
        draft: false,
        resource,
    })
}

impl Node {
    pub fn new() -> Self {
        let client = server().client();
        Self {
            machine: FakeMachine::new(),
            client,
            asked: Arc::default(),
            stop_at: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    /// A new process of the agent on this node.
    fn engine(&self, catalog: &Catalog) -> Engine {
        let (inner, asked, stop_at) = (self.client.clone(), Arc::clone(&self.asked), Arc::clone(&self.stop_at));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (inner, stop_at) = (inner.clone(), Arc::clone(&stop_at));
            let number = {
                let mut asked = asked.lock().expect("nothing panics with it");
                asked.push(format!("{} {}", request.method(), request.uri()));
                asked.len()
            };
            async move {
                // Before it is asked: what was asked last is done.
                if number > stop_at.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                inner.send(request).await
            }
        });
        let kube: Arc<dyn Kube> = Arc::new(Through(Client::new(service, "default")));
        let clock = Arc::new(SystemClock);
        let ctx = Context { kube, clock, ..self.machine.context(Scope::of(catalog)) };
        let files: Arc<dyn Files> = Arc::clone(&self.machine.files) as _;
        let ledger = LedgerFile::open(files, "/ledger.json").expect("a ledger");
        Engine::new(ctx, ledger, Arc::new(NoMember))
    }

    pub async fn converge(&self, catalog: &Arc<Catalog>) -> Report {
        self.engine(catalog).converge(catalog, &Options::default()).await.expect("it begins")
    }

    pub async fn plan(&self, catalog: &Arc<Catalog>) -> Vec<Row> {
        self.engine(catalog).plan(catalog).await.expect("it is planned")
    }

    /// Converges, and the second time nothing is left to do.
    pub async fn settle(&self, catalog: &Arc<Catalog>) -> Report {
        let report = self.converge(catalog).await;
        assert!(report.converged, "{report:#?}");
        let again = self.converge(catalog).await;
        assert!(again.converged && again.steps.is_empty(), "not as written at once: {again:#?}");
        report
    }

    /// The agent is killed after this many questions; true where it came so far.
    pub async fn killed_after(&self, catalog: &Arc<Catalog>, questions: usize) -> bool {
        self.asked();
        self.stop_at.store(questions, Ordering::Relaxed);
        let engine = self.engine(catalog);
        let options = Options::default();
        let converge = engine.converge(catalog, &options);
        let stuck = async {
            while self.asked.lock().expect("nothing panics with it").len() <= questions {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let killed = tokio::select! {
            _ended = converge => false,
            () = stuck => true,
        };
        self.stop_at.store(usize::MAX, Ordering::Relaxed);
        killed
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("nothing panics with it"))
    }

    pub async fn find(&self, path: &str) -> Option<Value> {
        api::find(&self.client, path).await.expect("it answers")
    }

    pub async fn get(&self, path: &str) -> Value {
        self.find(path).await.unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// Waits until the controllers have taken it away.
    pub async fn gone(&self, path: &str) {
        let began = Instant::now();
        while let Some(live) = self.find(path).await {
            assert!(began.elapsed() < Duration::from_secs(120), "{path} is still there: {live:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A change by somebody else: YAML by server-side apply as this manager.
    pub async fn apply_as(&self, manager: &str, path: &str, object: &Value) {
        let url = format!("{path}?fieldManager={manager}&force=true");
        self.send(Method::PATCH, &url, "application/apply-patch+yaml", object).await;
    }

    /// A change by somebody else: a merge patch, as `kubectl annotate` and `kubectl edit` send it.
    pub async fn patch(&self, manager: &str, path: &str, patch: &Value) {
        self.send(Method::PATCH, &format!("{path}?fieldManager={manager}"), "application/merge-patch+json", patch)
            .await;
    }

    /// Somebody else makes an object, as `kubectl create` does.
    pub async fn create(&self, collection: &str, object: &Value) {
        self.send(Method::POST, &format!("{collection}?fieldManager=kubectl-create"), "application/json", object).await;
    }

    async fn send(&self, method: Method, url: &str, media: &str, body: &Value) {
        let request = Request::builder().method(method).uri(url).header("content-type", media);
        let request = request.body(body.to_string().into_bytes()).expect("a request");
        self.client.request::<Value>(request).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}

/// How a set's step ended; as written where it is not in the report.
pub fn outcome<'a>(report: &'a Report, set: &str) -> &'a Outcome {
    let id = ResourceId::new("manifest", set);
    report.steps.iter().find(|step| step.resource == id).map_or(&Outcome::AlreadyRight, |step| &step.outcome)
}

/// The lines of a set's step.
pub fn detail(report: &Report, set: &str) -> Vec<String> {
    let id = ResourceId::new("manifest", set);
    report.steps.iter().find(|step| step.resource == id).map(|step| step.detail.clone()).unwrap_or_default()
}

/// What a step failed with, and the way out.
pub fn failure(report: &Report, set: &str) -> (String, String, bool) {
    match outcome(report, set) {
        Outcome::Failed { error, help, retry } => (error.clone(), help.clone().unwrap_or_default(), *retry),
        other => panic!("{set} did not fail but ended {other:?}: {report:#?}"),
    }
}

/// The rows of a plan, by set: its lines.
pub fn rows(plan: &[Row], set: &str) -> Vec<String> {
    let id = ResourceId::new("manifest", set);
    plan.iter().filter(|row| row.resource == id).flat_map(|row| row.detail.clone()).collect()
}
