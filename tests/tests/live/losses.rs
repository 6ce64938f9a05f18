//! One dead node is nobody's outage: each node lost in each way, while people pay and pods on every node ask for names.
//!
//! CI loses the first control plane and the database's node, as far as it has time; `cargo xtask record losses`, by
//! `MUSTER_LOSSES=all`, loses each node in all ways, and `record losses workers-1 workers-2` these, for the record in docs/tests.md.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use muster_tests::{
    lab::{Lab, PREFIX, Payments, on_node, run, wait},
    names::{self, Asker},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(240);
/// So long a node is lost, where the coordinator does not bring it back before.
const LOST: Duration = Duration::from_secs(30);
/// Names are to be had again everywhere else.
const NAMES: Duration = Duration::from_secs(5);
/// `status` names it: within ten seconds on a machine with time for it (docs/tests.md), and by then on any.
const NAMED: Duration = Duration::from_secs(30);

/// How a node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Power,
    Network,
    Freezing,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Power => "power",
            Self::Network => "network",
            Self::Freezing => "freezing",
        })
    }
}

impl Way {
    const ALL: [Self; 3] = [Self::Power, Self::Network, Self::Freezing];

    fn lose(self, node: &str) -> anyhow::Result<()> {
        let container = format!("{PREFIX}{node}");
        match self {
            Self::Power => run("docker", &["kill", &container]).map(drop),
            Self::Network => on_node(node, &["ip", "link", "set", "eth0", "down"]).map(drop),
            Self::Freezing => freeze(&container, true),
        }
    }

    /// What the coordinator has not done by itself meanwhile.
    fn give_back(self, node: &str) -> anyhow::Result<()> {
        let container = format!("{PREFIX}{node}");
        match self {
            Self::Power => run("docker", &["start", &container]).map(drop),
            Self::Network => on_node(node, &["ip", "link", "set", "eth0", "up"]).map(drop),
            Self::Freezing => freeze(&container, false),
        }
    }
}

/// Freezes a machine behind Docker's back, as a kernel that hangs does: one that Docker knows to be paused is woken by the
/// coordinator, often before anybody can have missed it.
fn freeze(container: &str, frozen: bool) -> anyhow::Result<()> {
    let pid = run("docker", &["inspect", "--format", "{{.State.Pid}}", container])?;
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?;
    let of = |controller: &str| groups.lines().find_map(|line| line.split_once(controller)).map(|(_, path)| path);
    let (file, text) = match (of(":freezer:"), of("0::")) {
        (Some(path), _) => {
            (format!("/sys/fs/cgroup/freezer{path}/freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
        }
        // systemd moves itself below the container's own group.
        (None, Some(path)) => {
            let path = path.trim_end_matches("/init.scope");
            (format!("/sys/fs/cgroup{path}/cgroup.freeze"), if frozen { "1" } else { "0" })
        }
        (None, None) => bail!("no group to freeze in {groups}"),
    };
    fs::write(&file, text).with_context(|| format!("{text} to {file}"))
}

/// The losses of CI, or all.
pub fn nodes_are_lost(lab: &mut Lab) -> anyhow::Result<()> {
    let holder = disk_holder(lab)?;
    let which = std::env::var("MUSTER_LOSSES").unwrap_or_default();
    let losses: Vec<(String, Way)> = if !which.is_empty() {
        let nodes = lab.json(&["nodes"])?;
        let names = nodes.as_array().context("nodes --json is a list")?.iter();
        let names = names.filter_map(|node| node["name"].as_str()).map(str::to_owned);
        let names = names.filter(|name| which == "all" || which.split(',').any(|one| one == name));
        names.flat_map(|node| Way::ALL.map(|way| (node.clone(), way))).collect()
    } else {
        // Cut off it took the whole cluster's names along, when both servers of cluster DNS ran there.
        vec![("control-plane-1".to_owned(), Way::Network), (holder, Way::Freezing)]
    };
    ensure!(!losses.is_empty(), "MUSTER_LOSSES={which} names no node");
    names::ask(lab)?;
    for (node, way) in losses {
        lose(lab, &node, way).with_context(|| format!("{node} lost by {way}"))?;
    }
    names::end()
}

fn disk_holder(lab: &Lab) -> anyhow::Result<String> {
    let label = "jsonpath={range .items[?(@.metadata.labels.muster\\.dev/disk-easypay)]}{.metadata.name}{end}";
    lab.kubectl(&["get", "nodes", "-o", label])
}

fn lose(lab: &Lab, node: &str, way: Way) -> anyhow::Result<()> {
    let has_database = disk_holder(lab)? == node;
    let askers: Vec<Asker> = wait(PATIENCE, || names::askers(lab.size))?;
    let payments = Payments::start(lab, &format!("lost-{node}-{way}"))?;
    let (began, lost_at, lost) = (Instant::now(), names::now(), payments.now());
    way.lose(node)?;
    let named = named(lab, node)?;
    std::thread::sleep(LOST.saturating_sub(began.elapsed()));
    way.give_back(node)?;
    lab.wait_ready(PATIENCE)?;
    let whole = began.elapsed();
    wait(PATIENCE, || lab.pays())?;
    let summary = payments.finish(lab)?;
    let last = summary.last_failure_ms.map(|last| last as f64 / 1000.0 - lost.as_secs_f64());
    let (mut worst, mut strays) = (None::<f64>, 0);
    for asker in askers.iter().filter(|asker| asker.node != node) {
        // Until the node is given back: what follows is its new start.
        let met = asker.met(lost_at, lost_at + LOST.as_millis() as i64)?;
        strays += met.strays;
        worst = met.outage.map(|until| (until - lost_at) as f64 / 1000.0).into_iter().chain(worst).reduce(f64::max);
    }
    let text = |seconds: Option<f64>| seconds.map_or("none".to_owned(), |seconds| format!("{seconds:.1} s"));
    println!(
        "  {node} {way}{}: {} of {} payments failed, the last sent after {}; names were not to be had until {} after it, and \
         {strays} questions more had no answer; named in status after {:.1} s; whole again after {:.1} s",
        if has_database { " (database)" } else { "" },
        summary.failed,
        summary.sent,
        text(last),
        text(worst),
        named.as_secs_f64(),
        whole.as_secs_f64(),
    );
    ensure!(named <= NAMED, "status named it after {:.1} s", named.as_secs_f64());
    let late = worst.filter(|worst| *worst > NAMES.as_secs_f64());
    ensure!(late.is_none(), "a name asked {} after the loss was not to be had elsewhere", text(late));
    // The database has no standby: it comes back with its node.
    if has_database { Ok(()) } else { summary.none_later_than_10_s_after(lost) }
}

/// How soon status says that the node is not well, with a cause, and that not everything is as written.
fn named(lab: &Lab, node: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    wait(Duration::from_secs(60), || {
        let status = lab.json(&["status"])?;
        let nodes = status["nodes"].as_array().context("status --json has nodes")?;
        let seen = nodes.iter().find(|seen| seen["name"] == node).context("the node is not in status")?;
        ensure!(seen["unready"] != Value::Null && seen["state"] != "written", "{seen}");
        Ok(began.elapsed())
    })
}
