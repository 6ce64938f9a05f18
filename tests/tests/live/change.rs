//! What an admin changes, and what somebody changes by hand.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_tests::lab::{Lab, NODES, PREFIX, Payments, on_node, run, wait};

const SOON: Duration = Duration::from_secs(60);
const ALL: [&str; NODES] = ["control-plane-1", "control-plane-2", "control-plane-3", "workers-1", "workers-2"];

/// A file added to a role stands on every node.
pub fn file(lab: &mut Lab) -> anyhow::Result<()> {
    lab.edit("roles/base.toml", |text| {
        format!("{text}\n[[file]]\npath = \"/etc/muster-proof\"\ncontent = \"{{{{ node.name }}}} is proven\\n\"\n")
    })?;
    let shown = lab.expect(&["plan"], &[2])?;
    ensure!(shown.contains("/etc/muster-proof"), "the plan does not show the file:\n{shown}");
    let began = Instant::now();
    lab.expect(&["apply", "--yes"], &[0])?;
    for node in ALL {
        ensure!(on_node(node, &["cat", "/etc/muster-proof"])? == format!("{node} is proven\n"), "{node}");
    }
    println!("  on all nodes after {:.1} s", began.elapsed().as_secs_f64());
    lab.expect(&["plan"], &[0])?;
    Ok(())
}

/// A byte changed on a node is put back and reported.
pub fn drift(lab: &mut Lab) -> anyhow::Result<()> {
    let mut slowest = Duration::ZERO;
    for node in ["control-plane-2", "workers-1"] {
        on_node(node, &["sh", "-c", "echo changed > /etc/muster-proof"])?;
        let began = Instant::now();
        wait(SOON, || {
            ensure!(on_node(node, &["cat", "/etc/muster-proof"])? == format!("{node} is proven\n"), "still changed");
            Ok(())
        })?;
        slowest = slowest.max(began.elapsed());
        wait(SOON, || {
            let events = lab.expect(&["events"], &[0])?;
            let told = events
                .lines()
                .any(|line| line.contains(node) && line.contains("drift") && line.contains("muster-proof"));
            ensure!(told, "no event tells of the drift on {node}:\n{events}");
            Ok(())
        })?;
    }
    println!("  put back after at most {:.2} s, the question included", slowest.as_secs_f64());
    Ok(())
}

/// A plan that was overtaken is refused and applies nothing.
pub fn stale(lab: &mut Lab) -> anyhow::Result<()> {
    let add = |lab: &Lab, name: &str| {
        lab.edit("roles/worker.toml", |text| format!("{text}\n[[file]]\npath = \"/etc/{name}\"\ncontent = \"x\\n\"\n"))
    };
    add(lab, "first")?;
    let output = lab.muster(&["plan", "--json"])?;
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).context("plan --json")?;
    let id = plan["id"].as_str().context("a plan has an id")?.to_owned();
    add(lab, "second")?;
    lab.expect(&["apply", "--yes"], &[0])?;
    let refused = lab.muster(&["apply", &id, "--yes"])?;
    ensure!(refused.status.code() == Some(3), "a stale plan must end with 3, not {:?}", refused.status.code());
    ensure!(on_node("workers-1", &["cat", "/etc/second"])? == "x\n", "the newer change was lost");
    Ok(())
}

/// A changed containerd configuration restarts containerd on every node, one at a time; no payment fails.
pub fn containerd(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "containerd", 90)?;
    let before = ALL.map(|node| started(node, "containerd"));
    lab.edit("roles/files/containerd.toml.j2", |text| format!("{text}\n# changed by the live proof\n"))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    lab.wait_ready(Duration::from_secs(120))?;
    for (node, before) in ALL.iter().zip(before) {
        ensure!(started(node, "containerd")? != before?, "containerd on {node} was not restarted");
    }
    let summary = payments.finish(lab)?;
    ensure!(summary.failed == 0, "{} of {} payments failed in a planned change", summary.failed, summary.sent);
    Ok(())
}

/// kube-proxy writes its tables as a whole every hour, after a failure, and when a node's zone changes; and it is started anew
/// over the tables of the one before. Services stay, and no payment fails.
pub fn services(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "services", 40)?;
    lab.kubectl(&["label", "nodes", "--all", "topology.kubernetes.io/zone=proof"])?;
    std::thread::sleep(Duration::from_secs(10));
    lab.kubectl(&["rollout", "restart", "daemonset/kube-proxy", "-n", "kube-system"])?;
    wait(SOON, || {
        let path = "jsonpath={.status.observedGeneration} {.metadata.generation} {.status.updatedNumberScheduled} {.status.numberReady}";
        let said = lab.kubectl(&["get", "daemonset/kube-proxy", "-n", "kube-system", "-o", path])?;
        let said: Vec<_> = said.split_whitespace().collect();
        ensure!(said.len() == 4 && said[0] == said[1] && said[2..] == ["5", "5"], "kube-proxy: {said:?}");
        Ok(())
    })?;
    let summary = payments.finish(lab)?;
    lab.kubectl(&["label", "nodes", "--all", "topology.kubernetes.io/zone-"])?;
    ensure!(summary.failed == 0, "{} of {} payments failed while kube-proxy synced", summary.failed, summary.sent);
    Ok(())
}

/// kubelet's and kube-proxy's settings reach nodes that are members already, and a pool's taint the workers' Nodes; a taint
/// put on by hand stays.
pub fn members(lab: &mut Lab) -> anyhow::Result<()> {
    let nodes = |lab: &Lab, path: &str| lab.kubectl(&["get", "nodes", "-o", &format!("jsonpath={{.items[*]{path}}}")]);
    let before = ALL.map(|node| started(node, "kubelet"));
    lab.kubectl(&["taint", "node", "workers-1", "by-hand=x:PreferNoSchedule"])?;
    lab.edit("roles/files/kubelet.yaml", |text| format!("{text}maxPods: 60\n"))?;
    lab.edit("roles/files/container-node.yaml.j2", |text| {
        text.replacen("mode: nftables\n", "mode: nftables\nmetricsBindAddress: 127.0.0.1:10249\n", 1)
    })?;
    lab.edit("muster.toml", |text| {
        text.replacen("[pool.workers]\n", "[pool.workers]\ntaints = [\"proof=x:PreferNoSchedule\"]\n", 1)
    })?;
    let shown = lab.expect(&["plan"], &[2])?;
    ensure!(shown.contains("cluster_member workers-1") && shown.contains("one turn at a time"), "{shown}");
    let began = Instant::now();
    lab.expect(&["apply", "--yes"], &[0])?;
    println!("  settings on all members after {:.1} s", began.elapsed().as_secs_f64());
    wait(SOON, || {
        let pods = nodes(lab, ".status.allocatable.pods")?;
        ensure!(pods.split_whitespace().all(|pods| pods == "60"), "allocatable pods: {pods}");
        Ok(())
    })?;
    for (node, before) in ALL.iter().zip(before) {
        ensure!(started(node, "kubelet")? != before?, "kubelet on {node} was not started anew");
    }
    let proxy = lab.kubectl(&["get", "configmap", "kube-proxy", "-n", "kube-system", "-o", "yaml"])?;
    ensure!(proxy.contains("metricsBindAddress: 127.0.0.1:10249"), "{proxy}");
    lab.kubectl(&["rollout", "status", "daemonset/kube-proxy", "-n", "kube-system", "--timeout=120s"])?;
    let taints = nodes(lab, ".spec.taints[*].key")?;
    ensure!(taints.matches("proof").count() == 2 && taints.contains("by-hand"), "{taints}");
    lab.edit("muster.toml", |text| text.replacen("taints = [\"proof=x:PreferNoSchedule\"]\n", "", 1))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    let taints = nodes(lab, ".spec.taints[*].key")?;
    ensure!(!taints.contains("proof") && taints.contains("by-hand"), "{taints}");
    lab.kubectl(&["taint", "node", "workers-1", "by-hand-"])?;
    lab.wait_ready(Duration::from_secs(120))
}

/// When the unit's main process started: another text after a restart.
pub fn started(node: &str, unit: &str) -> anyhow::Result<String> {
    on_node(node, &["systemctl", "show", "--property", "ExecMainStartTimestampMonotonic", "--value", unit])
}

/// The workers' count raised by one: a sixth node comes, is ready, and nothing else is made again.
pub fn worker(lab: &mut Lab) -> anyhow::Result<()> {
    let before = lab.containers()?;
    lab.edit("muster.toml", |text| text.replacen("count = 2", "count = 3", 1))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    lab.size += 1;
    lab.wait_ready(Duration::from_secs(240))?;
    let after = lab.containers()?;
    ensure!(before.iter().all(|id| after.contains(id)), "a container was replaced");
    ensure!(after.len() == before.len() + 1, "{} containers, {} before", after.len(), before.len());
    Ok(())
}

/// A worker that dies while the pool shrinks by it: it cannot leave, so the leading control plane removes its Node.
pub fn dead_worker(lab: &mut Lab) -> anyhow::Result<()> {
    run("docker", &["rm", "--force", &format!("{PREFIX}workers-3")])?;
    lab.edit("muster.toml", |text| text.replacen("count = 3\n\n# Addresses", "count = 2\n\n# Addresses", 1))?;
    let began = Instant::now();
    lab.expect(&["apply", "--yes"], &[0])?;
    println!("  removed after {:.1} s, most of it until the cluster notices the death", began.elapsed().as_secs_f64());
    lab.size -= 1;
    lab.wait_ready(Duration::from_secs(120))?;
    let nodes = lab.kubectl(&["get", "nodes", "-o", "name"])?;
    ensure!(!nodes.contains("workers-3"), "{nodes}");
    Ok(())
}
