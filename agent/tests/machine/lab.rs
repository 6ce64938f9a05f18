//! A node in a container, and what it installs from, for the tests that are asked for.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::thread::CapabilitySet;
use serde::Deserialize;

/// What `cargo xtask` built.
#[derive(Debug, Clone, Deserialize)]
pub struct Artefacts {
    pub node_image: String,
    pub services_image: String,
    pub apt_repository: String,
    pub apt_key: String,
    pub registry: String,
}

/// Panics where they are not there: a test that cannot run must say so.
pub fn artefacts() -> Artefacts {
    let path = std::env::var("MUSTER_ARTEFACTS")
        .expect("MUSTER_ARTEFACTS names the list of artefacts: run `cargo xtask test`");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Panics outside a container of ours: these tests change the machine.
pub fn inside() {
    assert!(std::env::var_os("MUSTER_INSIDE_A_NODE").is_some(), "this test changes the machine that it runs on");
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A node and its package server and registry, on a network of their own; all of it goes with this.
pub struct Lab {
    network: String,
    pub node: String,
    server: String,
    pub server_address: String,
    pub artefacts: Artefacts,
}

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("`docker` can be started: these tests need Docker")
}

fn must(arguments: &[&str]) -> String {
    let output = docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const SERVE: &str = "printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: /srv/registry}, maintenance: {readonly: {enabled: true}, uploadpurging: {enabled: false}}}\nhttp: {addr: \":5000\"}\n' > /registry.yml
printf 'daemon off; pid /run/nginx.pid; events {} http { access_log off; server { listen 80; location /debian/ { alias /srv/debian/; } location /broken/ { alias /srv/broken/; } } }' > /nginx.conf
docker-registry serve /registry.yml & exec nginx -c /nginx.conf";

impl Lab {
    pub fn start() -> Self {
        let artefacts = artefacts();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-agent-test-{}-{number}", std::process::id());
        let (network, node, server) = (format!("{name}-net"), format!("{name}-node"), format!("{name}-server"));
        must(&["network", "create", "--label", "muster-try=agent-tests", &network]);
        let mut lab = Self {
            network: network.clone(),
            node: node.clone(),
            server: server.clone(),
            server_address: String::new(),
            artefacts,
        };
        let repository = format!("{}:/srv/debian:ro", lab.artefacts.apt_repository);
        let registry = format!("{}:/srv/registry:ro", lab.artefacts.registry);
        let label = ["--label", "muster-try=agent-tests", "--network", &network];
        let mut run = vec!["run", "--detach", "--name", &server, "--volume", &repository, "--volume", &registry];
        // So that a catalog can name it before it is there.
        run.extend(["--network-alias", "server"]);
        run.extend(label);
        run.extend([lab.artefacts.services_image.as_str(), "sh", "-c", SERVE]);
        must(&run);
        let address =
            must(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &server]);
        lab.server_address = address;

        let mut run = vec!["run", "--detach", "--name", &node, "--hostname", "node-1"];
        run.extend(label);
        for capability in held_capabilities() {
            run.extend(["--cap-add", capability]);
        }
        run.extend([
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
            "--security-opt",
            "systempaths=unconfined",
            "--device-cgroup-rule",
            "a *:* rwm",
            "--cgroupns",
            "private",
            "--tmpfs",
            "/run:exec,mode=755",
            "--tmpfs",
            "/run/lock",
            "--tmpfs",
            "/tmp:exec,mode=1777",
            "--volume",
            "/var",
            "--stop-signal",
            "SIGRTMIN+3",
            "--env",
            "container=docker",
            &lab.artefacts.node_image,
            "/sbin/init",
        ]);
        must(&run);
        lab.booted();
        lab.served();
        let key = std::fs::read_to_string(&lab.artefacts.apt_key).expect("the repository's key");
        lab.put("/root/key.asc", &key);
        must(&["cp", env!("CARGO_BIN_EXE_muster-agent"), &format!("{node}:/usr/local/bin/muster-agent")]);
        lab
    }

    fn booted(&self) {
        self.wait("systemd runs", Duration::from_secs(60), || {
            let state = self.run(&["systemctl", "is-system-running"]);
            ["running", "degraded"].contains(&state.1.trim())
        });
    }

    /// Ends the node's processes and boots it again. What lies on a tmpfs is gone.
    pub fn reboot(&self) {
        must(&["restart", "--time", "20", &self.node]);
        self.booted();
    }

    /// Status and output of a program in the node.
    pub fn run(&self, argv: &[&str]) -> (i32, String, String) {
        let mut arguments = vec!["exec", "--env", "MUSTER_INSIDE_A_NODE=1", &self.node];
        arguments.extend(argv);
        let output = docker(&arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Status and output of a script in the node, however long.
    pub fn script(&self, script: &str) -> (i32, String, String) {
        let run = "cat > /run/lab-script; exec bash /run/lab-script < /dev/null";
        let mut child = Command::new("docker")
            .args(["exec", "--interactive", &self.node, "sh", "-c", run])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`docker` can be started: these tests need Docker");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(script.as_bytes()).expect("the node takes it");
        drop(input);
        let output = child.wait_with_output().expect("its output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    pub fn must(&self, argv: &[&str]) -> String {
        let (status, out, err) = self.run(argv);
        assert_eq!(status, 0, "{argv:?}\n{out}\n{err}");
        out
    }

    /// `apply` of a file, as its exit status and its report.
    pub fn apply(&self, toml: &str) -> (i32, muster_plan::Report) {
        self.put("/root/apply.toml", toml);
        let (status, out, err) = self.run(&["muster-agent", "apply", "/root/apply.toml", "--json"]);
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {status}\n{out}\n{err}"));
        (status, report)
    }

    /// `apply` of what is right after it, and nothing to do for the next one.
    pub fn applied(&self, toml: &str) -> muster_plan::Report {
        let (status, report) = self.apply(toml);
        assert!(status == 2 && report.converged, "{toml}\n{report:#?}");
        let (status, again) = self.apply(toml);
        assert!(status == 0 && again.steps.is_empty(), "{toml}\n{again:#?}");
        report
    }

    pub fn put(&self, path: &str, content: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x");
        std::fs::write(&file, content).expect("written");
        self.copy(&file, path);
    }

    pub fn copy(&self, from: &Path, to: &str) {
        must(&["cp", &from.to_string_lossy(), &format!("{}:{to}", self.node)]);
    }

    /// A script on the server. What lies in its `/srv/broken` is served beside the repository.
    pub fn at_server(&self, script: &str) {
        must(&["exec", &self.server, "sh", "-ec", script]);
    }

    pub fn stop_server(&self) {
        must(&["stop", "--time", "1", &self.server]);
    }

    pub fn start_server(&self) {
        must(&["start", &self.server]);
        self.served();
    }

    fn served(&self) {
        let ask = "curl -fsS -o /dev/null http://127.0.0.1/debian/dists/muster/InRelease http://127.0.0.1:5000/v2/";
        self.wait("packages and images are served", Duration::from_secs(60), || {
            docker(&["exec", &self.server, "sh", "-c", ask]).status.success()
        });
    }

    pub fn wait(&self, what: &str, most: Duration, mut until: impl FnMut() -> bool) {
        let began = Instant::now();
        while !until() {
            assert!(began.elapsed() < most, "{what}: not within {most:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The repository as an `[[apt_source]]`.
    pub fn source(&self) -> String {
        let key = std::fs::read_to_string(&self.artefacts.apt_key).expect("the repository's key");
        format!(
            "[[apt_source]]\nname = \"muster\"\nurl = \"http://{}/debian\"\nsuites = [\"muster\"]\ncomponents = [\"main\"]\nkey = \"\"\"\n{key}\"\"\"\n",
            self.server_address
        )
    }
}

/// Error and help of a resource that failed.
pub fn failed(report: &muster_plan::Report, resource: &str) -> (String, String) {
    let step = report.steps.iter().find(|step| step.resource.to_string() == resource);
    match step.map(|step| &step.outcome) {
        Some(muster_plan::Outcome::Failed { error, help, .. }) => (error.clone(), help.clone().unwrap_or_default()),
        other => panic!("{resource}: {other:?}\n{report:#?}"),
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for container in [&self.node, &self.server] {
            docker(&["rm", "--force", "--volumes", container]);
        }
        docker(&["network", "rm", &self.network]);
    }
}

/// What this process itself may hand on, as far as Debian's Docker knows the names.
fn held_capabilities() -> impl Iterator<Item = &'static str> {
    let unknown = CapabilitySet::PERFMON | CapabilitySet::BPF | CapabilitySet::CHECKPOINT_RESTORE;
    let held = |capability| rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false);
    unknown.complement().iter_names().filter(move |(_, capability)| held(*capability)).map(|(name, _)| name)
}
