//! The lab: the real command on the real Docker daemon, and the questions that tests ask of it.
//!
//! One lab a machine: the local environment has fixed addresses. Tests run one after the other, in one process.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The shipped site, copied so that a test may edit it, and the command that runs it.
pub struct Lab {
    pub site: PathBuf,
    /// How many nodes the site asks for.
    pub size: usize,
    /// The application's URL, once it is up.
    pub application: String,
    muster: PathBuf,
    artefacts: PathBuf,
    _folder: tempfile::TempDir,
}

/// Nodes of the shipped site's local environment.
pub const NODES: usize = 5;
/// Name prefix of every container of the shipped site's local environment.
pub const PREFIX: &str = "muster-easypay-local-";

impl Lab {
    /// Copies the shipped site. `MUSTER_BIN` and `MUSTER_ARTEFACTS` are set by the task runner.
    pub fn new() -> anyhow::Result<Self> {
        let muster =
            PathBuf::from(std::env::var_os("MUSTER_BIN").context("MUSTER_BIN is not set: run cargo xtask test")?);
        let artefacts = PathBuf::from(
            std::env::var_os("MUSTER_ARTEFACTS").context("MUSTER_ARTEFACTS is not set: run cargo xtask test")?,
        );
        let folder = tempfile::tempdir()?;
        let site = folder.path().join("site");
        let lab = Self { site, size: NODES, application: String::new(), muster, artefacts, _folder: folder };
        let made = lab.muster(&["init", &lab.site.to_string_lossy()])?;
        ensure!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
        Ok(lab)
    }

    /// The command, ready to be run or spawned.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.muster);
        self.environment(&mut command).args(args);
        command
    }

    /// Tells a program that runs muster of this lab's site and artefacts.
    pub fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("MUSTER_SITE", &self.site).env("MUSTER_ARTEFACTS", &self.artefacts)
    }

    /// Where the command lies.
    pub fn program(&self) -> &Path {
        &self.muster
    }

    /// The list of artefacts.
    pub fn artefacts(&self) -> &Path {
        &self.artefacts
    }

    pub fn muster(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.command(args).output().with_context(|| format!("cannot run {}", self.muster.display()))
    }

    /// Runs and returns standard output; an exit code other than `codes` is an error with all output.
    pub fn expect(&self, args: &[&str], codes: &[i32]) -> anyhow::Result<String> {
        let output = self.muster(args)?;
        let code = output.status.code().unwrap_or(-1);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if !codes.contains(&code) {
            bail!("muster {} ended with {code}\n{out}{}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(out)
    }

    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut args = args.to_vec();
        args.push("--json");
        let out = self.expect(&args, &[0, 2])?;
        serde_json::from_str(&out).with_context(|| format!("no JSON: {out}"))
    }

    /// Waits until `muster nodes` says that all nodes of the site are there, ready and converged.
    pub fn wait_ready(&self, patience: Duration) -> anyhow::Result<()> {
        let nodes = self.size;
        wait(patience, || {
            let listed = self.json(&["nodes"])?;
            let all = listed.as_array().context("nodes --json is a list")?;
            let ready = all.iter().filter(|node| node["ready"] == true && node["converged"] == true).count();
            ensure!(all.len() == nodes && ready == nodes, "{ready} of {} nodes ready, {nodes} wanted", all.len());
            Ok(())
        })
    }

    /// The number of the newest event.
    pub fn newest_event(&self) -> anyhow::Result<u64> {
        let out = self.expect(&["events"], &[0])?;
        let number = out.lines().last().and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no event with a number in\n{out}"))
    }

    /// All events after this one, one a line.
    pub fn events_after(&self, number: u64) -> anyhow::Result<Vec<String>> {
        Ok(self.expect(&["events", "--after", &number.to_string()], &[0])?.lines().map(str::to_owned).collect())
    }

    /// The ids of all containers, stopped ones too, with muster's label, sorted.
    pub fn containers(&self) -> anyhow::Result<Vec<String>> {
        ids("label=muster")
    }

    /// The ids of the nodes' containers, sorted.
    pub fn nodes(&self) -> anyhow::Result<Vec<String>> {
        ids("label=muster.role=node")
    }

    /// kubectl with the kubeconfig that a step wrote beside the site.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let config = self.site.with_file_name("kubeconfig");
        let kubectl = std::env::var("KUBECTL_BIN").context("KUBECTL_BIN is not set: run cargo xtask test")?;
        let config = config.to_string_lossy().into_owned();
        run(&kubectl, &[&["--kubeconfig", config.as_str(), "--request-timeout=10s"], args].concat())
    }

    /// Voting and learning members of the cluster's etcd, as etcdctl lists them on the newest control plane.
    pub fn etcd_members(&self) -> anyhow::Result<usize> {
        let newest = self.json(&["nodes"])?;
        let names = newest.as_array().into_iter().flatten().filter_map(|node| node["name"].as_str());
        let newest = names.filter(|name| name.starts_with("control-plane-")).max().context("no control plane")?;
        let list = on_node(
            newest,
            &[
                "kubectl",
                "--kubeconfig=/etc/kubernetes/admin.conf",
                "--namespace=kube-system",
                "exec",
                &format!("etcd-{newest}"),
                "--",
                "etcdctl",
                "--endpoints=https://127.0.0.1:2379",
                "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
                "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
                "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
                "member",
                "list",
            ],
        )?;
        Ok(list.lines().filter(|line| !line.trim().is_empty()).count())
    }

    /// Prints what helps to understand a failure.
    pub fn tell_all(&self) {
        for args in [&["status"][..], &["events"], &["nodes"]] {
            if let Ok(output) = self.muster(args) {
                println!(
                    "$ muster {}\n{}{}",
                    args.join(" "),
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        let admin = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=5s"];
        let pods = ["get", "pods", "--all-namespaces", "--output", "wide"];
        let events = ["get", "events", "--all-namespaces", "--field-selector", "type=Warning"];
        for what in [&pods[..], &events] {
            if let Ok(said) = on_node("control-plane-1", &[&admin, what].concat()) {
                println!("$ kubectl {}\n{said}", what.join(" "));
            }
        }
    }

    /// One payment goes through.
    pub fn pays(&self) -> anyhow::Result<()> {
        let ledger = self.site.with_file_name("one.jsonl");
        let told = run(
            &client()?,
            &[
                "pay",
                "--url",
                self.application.trim_end_matches('/'),
                "--rate=20",
                "--for=50ms",
                "--json",
                "--ledger",
                &ledger.to_string_lossy(),
            ],
        )?;
        let summary: Summary = serde_json::from_str(told.trim())?;
        summary.none_failed()
    }

    /// Edits a file of the site.
    pub fn edit(&self, file: &str, change: impl FnOnce(String) -> String) -> anyhow::Result<()> {
        let path = self.site.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let changed = change(text.clone());
        ensure!(changed != text, "the edit of {file} changed nothing");
        std::fs::write(path, changed)?;
        Ok(())
    }
}

/// Asks until it is so, or until patience ends with the last answer.
pub fn wait<T>(patience: Duration, mut ask: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() > patience => {
                return Err(error.context(format!("not so after {} s", patience.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(250)),
        }
    }
}

/// Runs a program and returns its standard output.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {} failed: {}{}",
        args.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ids(filter: &str) -> anyhow::Result<Vec<String>> {
    let mut ids: Vec<String> = run("docker", &["ps", "--all", "--quiet", "--no-trunc", "--filter", filter])?
        .lines()
        .map(str::to_owned)
        .collect();
    ids.sort();
    Ok(ids)
}

/// The body of an HTTP answer of 200.
pub fn get(url: &str) -> anyhow::Result<String> {
    run("curl", &["--silent", "--show-error", "--fail", "--max-time", "10", url])
}

/// Runs a program within a node.
pub fn on_node(node: &str, args: &[&str]) -> anyhow::Result<String> {
    let container = format!("{PREFIX}{node}");
    let mut all = vec!["exec", container.as_str()];
    all.extend_from_slice(args);
    run("docker", &all)
}

/// The client that pays while things happen: 20 payments a second, each on a connection of its own, without retries.
pub struct Payments {
    child: Child,
    ledger: PathBuf,
    began: Instant,
}

/// What the client saw. Moments are milliseconds since it began.
#[derive(Debug, serde::Deserialize)]
pub struct Summary {
    pub sent: u64,
    pub acknowledged: u64,
    pub failed: u64,
    /// Milliseconds of the slowest answer.
    pub slowest_ms: f64,
    /// Milliseconds of the longest time without an acknowledged payment.
    pub longest_gap_ms: u64,
    /// When the last of the failed payments was sent.
    pub last_failure_ms: Option<u64>,
    /// Why payments failed, and how many for each reason.
    pub reasons: BTreeMap<String, u64>,
}

impl Payments {
    /// Begins to pay, until `finish`.
    pub fn start(lab: &Lab, name: &str) -> anyhow::Result<Self> {
        let ledger = lab.site.with_file_name(format!("{name}.jsonl"));
        ensure!(!ledger.exists(), "two clients with the ledger {}", ledger.display());
        let began = Instant::now();
        let child = Command::new(client()?)
            .args(["pay", "--url", lab.application.trim_end_matches('/'), "--rate", "20", "--json"])
            .args(["--for", "1h", "--ledger"])
            .arg(&ledger)
            .stdout(Stdio::piped())
            .spawn()?;
        // What comes next is seen by a client that pays already.
        std::thread::sleep(Duration::from_secs(2));
        Ok(Self { child, ledger, began })
    }

    /// The moment as the summary counts.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends the client, then proves that every acknowledged payment is there once.
    pub fn finish(mut self, lab: &Lab) -> anyhow::Result<Summary> {
        // And it sees the end of what it pays through.
        std::thread::sleep(Duration::from_secs(3));
        run("kill", &["-TERM", &self.child.id().to_string()])?;
        let mut text = String::new();
        self.child.stdout.take().context("the client's output is read once")?.read_to_string(&mut text)?;
        ensure!(self.child.wait()?.success(), "the client failed");
        let summary: Summary = serde_json::from_str(text.trim()).with_context(|| format!("no summary: {text}"))?;
        println!(
            "  {} payments sent, {} acknowledged, {} failed, slowest {:.0} ms, longest gap {} ms",
            summary.sent, summary.acknowledged, summary.failed, summary.slowest_ms, summary.longest_gap_ms
        );
        ensure!(summary.acknowledged > 0, "no payment was acknowledged");
        verify(lab, &self.ledger)?;
        Ok(summary)
    }
}

impl Drop for Payments {
    /// A step that failed leaves no client behind. One that has ended is not there to be killed.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Summary {
    /// A planned change costs no payment.
    pub fn none_failed(&self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} of {} payments failed: {:?}", self.failed, self.sent, self.reasons);
        Ok(())
    }

    /// A loss at `kill` costs no payment that is sent later than ten seconds after it.
    pub fn none_later_than_10_s_after(&self, kill: Duration) -> anyhow::Result<()> {
        let Some(last) = self.last_failure_ms else { return Ok(()) };
        let after = last as f64 / 1000.0 - kill.as_secs_f64();
        println!("  the last that failed was sent {after:.1} s after the kill: {:?}", self.reasons);
        ensure!(after <= 10.0, "a payment sent {after:.1} s after the kill failed");
        Ok(())
    }
}

/// Every payment that any client of this lab had acknowledged so far is there once.
pub fn all_payments_are_there(lab: &Lab) -> anyhow::Result<()> {
    let folder = lab.site.parent().context("the lab's folder")?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            verify(lab, &path)?;
        }
    }
    Ok(())
}

fn verify(lab: &Lab, ledger: &Path) -> anyhow::Result<()> {
    let ledger = ledger.to_string_lossy();
    run(&client()?, &["verify", "--url", lab.application.trim_end_matches('/'), "--ledger", &ledger])?;
    Ok(())
}

fn client() -> anyhow::Result<String> {
    std::env::var("EASYPAY_BIN").context("EASYPAY_BIN is not set: run cargo xtask test")
}
