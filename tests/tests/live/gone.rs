//! What is taken out of the cluster behind its back: it is named, and comes back by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_tests::lab::{Lab, Payments, on_node, wait};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(180);
/// `status` names it: within ten seconds on a machine with time for it (docs/tests.md), and by then on any.
const NAMED: Duration = Duration::from_secs(30);

/// A Node object that somebody deletes is registered again, with its labels; the pods on it run on.
pub fn node_object(lab: &mut Lab) -> anyhow::Result<()> {
    const NODE: &str = "workers-2";
    let pods = |lab: &Lab| {
        let of = format!("--field-selector=spec.nodeName={NODE}");
        let ids = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID}{\"\\n\"}{end}";
        lab.kubectl(&["get", "pods", "--all-namespaces", &of, "-o", ids])
    };
    let before = pods(lab)?;
    let payments = Payments::start(lab, "node-object")?;
    let told = lab.newest_event()?;
    let began = Instant::now();
    lab.kubectl(&["delete", "node", NODE, "--wait=false"])?;
    wait(PATIENCE, || {
        let labels = lab.kubectl(&["get", "node", NODE, "-o", "jsonpath={.metadata.labels}"])?;
        ensure!(labels.contains("muster.dev/pool"), "{labels}");
        lab.wait_ready(Duration::ZERO)
    })?;
    println!("  registered, ready and as written again after {:.1} s", began.elapsed().as_secs_f64());
    let events = lab.events_after(told)?;
    ensure!(events.iter().any(|event| event.contains("has no Node of it any more")), "no event names it: {events:?}");
    let after = pods(lab)?;
    ensure!(before == after, "pods on it, before:\n{before}\nand after:\n{after}");
    payments.finish(lab)?.none_failed()
}

/// A control plane's etcd loses its data: it is named while it has no vote, begins no cluster of its own, and joins anew.
pub fn etcd_data(lab: &mut Lab) -> anyhow::Result<()> {
    // The one that began the cluster, whose etcd would begin another.
    const NODE: &str = "control-plane-1";
    let payments = Payments::start(lab, "etcd-data")?;
    let (began, killed) = (Instant::now(), payments.now());
    on_node(NODE, &["rm", "-rf", "/var/lib/etcd/member"])?;
    wait(Duration::from_secs(60), || {
        let status = lab.json(&["status"])?;
        let nodes = status["nodes"].as_array().context("status --json has nodes")?;
        let seen = nodes.iter().find(|node| node["name"] == NODE).context("the node is not in status")?;
        let named = seen["problems"].to_string().contains("etcd") || seen["unready"] != Value::Null;
        ensure!(named && status["as_written"] == false, "{seen}");
        Ok(())
    })?;
    let named = began.elapsed();
    wait(PATIENCE, || whole(lab, NODE))?;
    println!(
        "  named after {:.1} s, three members vote and all is as written after {:.1} s",
        named.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    ensure!(named <= NAMED, "named after {:.1} s", named.as_secs_f64());
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    payments.finish(lab)?.none_later_than_10_s_after(killed)?;
    // kubelet takes its time between its tries: this one is for the record.
    if std::env::var_os("MUSTER_LOSSES").is_some() { etcd_data_behind_the_agents_back(lab) } else { Ok(()) }
}

/// The same of one that has joined, while its agent is off: what kubelet starts then has forgotten what it agreed to, and must
/// not vote.
fn etcd_data_behind_the_agents_back(lab: &Lab) -> anyhow::Result<()> {
    const NODE: &str = "control-plane-3";
    on_node(NODE, &["systemctl", "stop", "muster-agent", "kubelet"])?;
    on_node(NODE, &["pkill", "-KILL", "-x", "etcd"])?;
    on_node(NODE, &["rm", "-rf", "/var/lib/etcd/member"])?;
    on_node(NODE, &["systemctl", "start", "kubelet"])?;
    // kubelet starts it several times meanwhile.
    let tries = "ls /var/log/pods/kube-system_etcd-control-plane-3_*/etcd/ | sort -n | tail -1";
    let first = on_node(NODE, &["sh", "-c", tries])?;
    wait(PATIENCE, || {
        let now = on_node(NODE, &["sh", "-c", tries])?;
        ensure!(now != first, "kubelet has not started etcd yet: {now}");
        Ok(())
    })?;
    std::thread::sleep(Duration::from_secs(5));
    let log = on_node(NODE, &["sh", "-c", "ls /var/lib/etcd/member/wal/*.wal 2>/dev/null || true"])?;
    ensure!(log.is_empty(), "an etcd without its data votes: {log}");
    let began = Instant::now();
    on_node(NODE, &["systemctl", "start", "muster-agent"])?;
    wait(PATIENCE, || whole(lab, NODE))?;
    println!(
        "  {NODE}, emptied while its agent was off, votes again {:.1} s after that",
        began.elapsed().as_secs_f64()
    );
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    Ok(())
}

/// Three members vote, this node's has a log, and all is as written.
fn whole(lab: &Lab, node: &str) -> anyhow::Result<()> {
    let status = lab.json(&["status"])?;
    let members = status["control_plane"]["members"].as_array().context("nobody says who the members are")?;
    let votes = members.iter().filter(|member| member["state"] == "voter").count();
    ensure!(members.len() == 3 && votes == 3, "{members:?}");
    let log = on_node(node, &["sh", "-c", "ls /var/lib/etcd/member/wal/*.wal"])?;
    ensure!(!log.is_empty(), "no log");
    lab.wait_ready(Duration::ZERO)
}
