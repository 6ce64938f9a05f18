//! What an admin changes, and what somebody changes by hand.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_tests::{
    lab::{Lab, NODES, PREFIX, Payments, get, on_node, run, wait},
    watched::Watched,
};
use serde_json::Value;

use super::start::some_json;

const SOON: Duration = Duration::from_secs(240);
/// What is put back within a second is not waited for any longer than this.
const HANG: Duration = Duration::from_secs(10);
const ALL: [&str; NODES] = ["control-plane-1", "control-plane-2", "control-plane-3", "workers-1", "workers-2"];

/// A file, a package and a kernel parameter added to a role stand on every node.
pub fn file(lab: &mut Lab) -> anyhow::Result<()> {
    lab.edit("roles/base.toml", |text| {
        format!("{text}\n[[file]]\npath = \"/etc/muster-proof\"\ncontent = \"{{{{ node.name }}}} is proven\\n\"\n")
            + "[[package]]\nname = \"tree\"\n[[sysctl]]\nkey = \"net.ipv4.tcp_fin_timeout\"\nvalue = \"47\"\n"
    })?;
    let shown = lab.expect(&["plan"], &[2])?;
    for new in ["/etc/muster-proof", "package tree", "net.ipv4.tcp_fin_timeout"] {
        ensure!(shown.contains(new), "the plan does not show {new}:\n{shown}");
    }
    lab.wait_ready(SOON)?;
    let watch = Watched::start(lab.command(&["status", "--watch", "--json"]))?;
    wait(SOON, || some_json(&watch.said()?))?;
    let payments = Payments::start(lab, "file")?;
    let began = Instant::now();
    lab.expect(&["apply", "--yes"], &[0])?;
    for node in ALL {
        ensure!(on_node(node, &["cat", "/etc/muster-proof"])? == format!("{node} is proven\n"), "{node}");
        ensure!(on_node(node, &["tree", "--version"])?.starts_with("tree v"), "{node}");
        ensure!(on_node(node, &["cat", "/proc/sys/net/ipv4/tcp_fin_timeout"])?.trim() == "47", "{node}");
    }
    println!("  on all nodes after {:.1} s", began.elapsed().as_secs_f64());
    lab.expect(&["plan"], &[0])?;
    payments.finish(lab)?.none_failed()?;
    // It looks every now and then: the last look is one of everything as written.
    wait(SOON, || follows_a_converge(&watch.said()?))?;
    watch.interrupt().map(drop)
}

/// A watched status shows nodes on their way to a generation, and all of them there at the last.
fn follows_a_converge(seen: &str) -> anyhow::Result<()> {
    let seen: Vec<Value> = serde_json::Deserializer::from_str(seen).into_iter().collect::<Result<_, _>>()?;
    let at = |status: &Value| {
        let nodes = status["nodes"].as_array().map_or(0, Vec::len);
        let there = |node: &&Value| node["generation"] == status["generation"] && node["converged"] == true;
        (nodes, status["nodes"].as_array().into_iter().flatten().filter(there).count())
    };
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else { anyhow::bail!("the watch shows nothing") };
    ensure!(first["generation"] != last["generation"], "the watch does not show the new generation");
    ensure!(at(first) == (NODES, NODES) && at(last) == (NODES, NODES), "{first}\n{last}");
    ensure!(seen.iter().any(|status| at(status).1 < NODES), "the watch shows no node on its way");
    Ok(())
}

/// What somebody changes by hand is put back and reported: a file, a service that was stopped, a kernel parameter, a route of
/// the pod network, an object of an application.
pub fn drift(lab: &mut Lab) -> anyhow::Result<()> {
    let told = |node: &str, what: &str| {
        wait(SOON, || {
            let events = lab.expect(&["events"], &[0])?;
            let told = events.lines().any(|line| line.contains(node) && line.contains("drift") && line.contains(what));
            ensure!(told, "no event tells of the drift of {what} on {node}:\n{events}");
            Ok(())
        })
    };
    for node in ["control-plane-2", "workers-1"] {
        let right = format!("[ \"$(cat /etc/muster-proof)\" = '{node} is proven' ]");
        put_back(node, "a file", "echo changed >/etc/muster-proof", &right)?;
        told(node, "/etc/muster-proof")?;
        let route = "$(ip -4 route show proto all | grep -m1 '^10.244.*via')";
        put_back(
            node,
            "a route of the pod network",
            &format!("route=\"{route}\"; test -n \"$route\"; ip route del ${{route%% via*}}"),
            "ip -4 route show | grep -q \"^${route%% via*} via\"",
        )?;
        told(node, "pod_network")?;
        put_back(
            node,
            "a kernel parameter",
            "sysctl -qw net.ipv4.ip_forward=0",
            "[ $(cat /proc/sys/net/ipv4/ip_forward) = 1 ]",
        )?;
        told(node, "sysctl.net.ipv4.ip_forward")?;
        put_back(node, "a service", "systemctl stop containerd", "systemctl -q is-active containerd")?;
        told(node, "service.containerd")?;
    }
    let object = ["service/web", "--namespace=easypay"];
    lab.kubectl(&[&["delete"], &object[..]].concat())?;
    let began = Instant::now();
    wait(HANG, || lab.kubectl(&[&["get"], &object[..]].concat()))?;
    println!("  an object of the application: put back after {:.2} s", began.elapsed().as_secs_f64());
    told("control-plane", "manifest.app-easypay")?;
    wait(SOON, || {
        ensure!(get(&lab.application)?.contains("EasyPay"));
        Ok(())
    })?;
    lab.wait_ready(SOON)
}

/// Changes something on a node and waits there until it is right again.
fn put_back(node: &str, what: &str, change: &str, right: &str) -> anyhow::Result<()> {
    let wait = format!(
        "set -e; {change}; if {right}; then echo at once; exit; fi; began=$(date +%s%N); \
         until {right}; do [ $(date +%s%N) -lt $((began + {})) ]; sleep 0.01; done; echo $((($(date +%s%N) - began) / 1000000))",
        HANG.as_nanos()
    );
    let took = on_node(node, &["bash", "-c", &wait]).with_context(|| format!("{what} on {node} was not put back"))?;
    println!("  {what} on {node}: put back after {} ms", took.trim());
    Ok(())
}

/// A paused node is left alone, what is changed by hand included; without the pause it is as written again.
pub fn pause(lab: &mut Lab) -> anyhow::Result<()> {
    let proof = || on_node("workers-2", &["cat", "/etc/muster-proof"]);
    lab.expect(&["node", "pause", "workers-2", "--for", "1h", "--reason", "the live proof"], &[0])?;
    wait(SOON, || {
        let why = lab.expect(&["node", "why", "workers-2"], &[0])?;
        ensure!(why.contains("paused"), "{why}");
        Ok(())
    })?;
    on_node("workers-2", &["sh", "-c", "echo changed >/etc/muster-proof"])?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(proof()? == "changed\n", "a paused node was converged");
    lab.expect(&["node", "pause", "workers-2", "--for", "0", "--reason", "over"], &[0])?;
    wait(SOON, || {
        ensure!(proof()? == "workers-2 is proven\n", "not converged after the pause");
        Ok(())
    })?;
    lab.wait_ready(SOON)
}

/// A saved plan is applied by its id; one that was overtaken is refused and applies nothing.
pub fn saved(lab: &mut Lab) -> anyhow::Result<()> {
    let add = |lab: &Lab, name: &str| {
        lab.edit("roles/worker.toml", |text| format!("{text}\n[[file]]\npath = \"/etc/{name}\"\ncontent = \"x\\n\"\n"))
    };
    let plan = |lab: &Lab| {
        let plan = lab.json(&["plan"])?;
        plan["id"].as_str().map(str::to_owned).context("a plan has an id")
    };
    add(lab, "first")?;
    let fresh = plan(lab)?;
    lab.expect(&["apply", &fresh, "--yes"], &[0])?;
    ensure!(on_node("workers-1", &["cat", "/etc/first"])? == "x\n", "the saved plan was not applied");
    add(lab, "second")?;
    let overtaken = plan(lab)?;
    add(lab, "third")?;
    lab.expect(&["apply", "--yes"], &[0])?;
    let before = lab.expect(&["status", "--json"], &[0])?;
    lab.expect(&["apply", &overtaken, "--yes"], &[3])?;
    ensure!(on_node("workers-1", &["cat", "/etc/third"])? == "x\n", "the newer change was lost");
    let generation = |status: &str| -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str::<serde_json::Value>(status)?["generation"].clone())
    };
    let after = lab.expect(&["status", "--json"], &[0])?;
    ensure!(generation(&before)? == generation(&after)?, "a stale plan was published");
    Ok(())
}

/// `apply --only` has one node try the change; the others get it when that one is as written.
pub fn only(lab: &mut Lab) -> anyhow::Result<()> {
    lab.edit("roles/base.toml", |text| format!("{text}\n[[file]]\npath = \"/etc/tried\"\ncontent = \"x\\n\"\n"))?;
    lab.expect(&["apply", "--only", "workers-2", "--yes"], &[0])?;
    let made = |node: &str| -> anyhow::Result<f64> {
        Ok(on_node(node, &["stat", "-c", "%.Y", "/etc/tried"])?.trim().parse()?)
    };
    let first = made("workers-2")?;
    for node in ALL.into_iter().filter(|node| *node != "workers-2") {
        ensure!(wait(SOON, || made(node))? > first, "{node} did not wait for workers-2");
    }
    lab.wait_ready(SOON)
}

/// A changed containerd configuration restarts containerd on every node, one at a time; no payment fails.
pub fn containerd(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "containerd")?;
    let before = ALL.map(|node| started(node, "containerd"));
    lab.edit("roles/files/containerd.toml.j2", |text| format!("{text}\n# changed by the live proof\n"))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    lab.wait_ready(Duration::from_secs(120))?;
    for (node, before) in ALL.iter().zip(before) {
        ensure!(started(node, "containerd")? != before?, "containerd on {node} was not restarted");
    }
    payments.finish(lab)?.none_failed()
}

/// A changed setting of the front end rolls it, two replicas on two nodes; no payment fails, and the database is let be.
pub fn application(lab: &mut Lab) -> anyhow::Result<()> {
    let pods = |lab: &Lab, path: &str| -> anyhow::Result<Vec<String>> {
        let path = format!("jsonpath={{range .items[*]}}{{{path}}} {{end}}");
        let said = lab.kubectl(&["get", "pods", "--namespace=easypay", "-o", &path])?;
        let mut said: Vec<_> = said.split_whitespace().map(str::to_owned).collect();
        said.sort();
        Ok(said)
    };
    let before = pods(lab, ".metadata.name")?;
    let payments = Payments::start(lab, "application")?;
    lab.edit("apps/easypay.toml", |text| text.replacen("CURRENCY = \"EUR\"", "CURRENCY = \"CHF\"", 1))?;
    let shown = lab.expect(&["plan"], &[2])?;
    ensure!(shown.contains("easypay"), "the plan does not show the application:\n{shown}");
    let began = Instant::now();
    lab.expect(&["apply", "--yes"], &[0])?;
    // What was applied is rolled out: nothing is left to wait for.
    let said = lab.kubectl(&["rollout", "status", "deployment/web", "--namespace=easypay", "--watch=false"])?;
    ensure!(said.contains("successfully rolled out"), "apply did not wait: {said}");
    wait(SOON, || {
        let after = pods(lab, ".metadata.name")?;
        let kept: Vec<_> = after.iter().filter(|pod| before.contains(pod)).collect();
        ensure!(after.len() == 3 && kept == ["database-0"], "{before:?} became {after:?}");
        Ok(())
    })?;
    println!("  the old ones were gone after {:.1} s", began.elapsed().as_secs_f64());
    ensure!(get(&lab.application)?.contains("CHF"), "the front ends have the old setting");
    let path = "jsonpath={.items[*].spec.nodeName}";
    let nodes = lab.kubectl(&["get", "pods", "-n", "easypay", "-l", "app.kubernetes.io/name=web", "-o", path])?;
    ensure!(nodes.contains("workers-1") && nodes.contains("workers-2"), "the front ends are on {nodes}");
    payments.finish(lab)?.none_failed()
}

/// An image that is nowhere: the old pods serve on, and the apply does not end as if all were well, but says which pod waits
/// for what. The site mended, the next one does.
pub fn broken(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "broken")?;
    lab.edit("apps/easypay.toml", |text| text.replacen("easypay-web:1.4.0", "easypay-web:1.4.0-nowhere", 1))?;
    lab.expect(&["apply", "--yes", "--no-wait"], &[0])?;
    wait(SOON, || {
        let status = lab.json(&["status"])?;
        ensure!(status["workloads"][0]["name"] == "easypay/web" && status["as_written"] == false, "{status}");
        Ok(())
    })?;
    // Nothing differs from the site by now; what is not rolled out is not as written all the same.
    let began = Instant::now();
    let output = lab.muster(&["apply", "--yes"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "apply ended with {:?}\n{said}", output.status.code());
    println!("  apply gave up after {:.1} s", began.elapsed().as_secs_f64());
    for word in ["easypay/web: 1 of 2 pods are of the new version", "web-", "1.4.0-nowhere"] {
        ensure!(said.contains(word), "the error does not say `{word}`:\n{said}");
    }
    let status = lab.json(&["status"])?;
    ensure!(status["workloads"][0]["name"] == "easypay/web", "status says {}", status["workloads"]);
    lab.edit("apps/easypay.toml", |text| text.replacen("1.4.0-nowhere", "1.4.0", 1))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    ensure!(lab.json(&["status"])?["workloads"] == serde_json::json!([]), "something still rolls out");
    payments.finish(lab)?.none_failed()
}

/// kube-proxy writes its tables as a whole every hour, after a failure, and when a node's zone changes; and it is started anew
/// over the tables of the one before. Services stay, and no payment fails.
pub fn services(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "services")?;
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
    lab.kubectl(&["label", "nodes", "--all", "topology.kubernetes.io/zone-"])?;
    payments.finish(lab)?.none_failed()
}

/// kubelet's and kube-proxy's settings reach nodes that are members already, and a pool's taint the workers' Nodes; a taint
/// put on by hand stays.
pub fn members(lab: &mut Lab) -> anyhow::Result<()> {
    let nodes = |lab: &Lab, path: &str| lab.kubectl(&["get", "nodes", "-o", &format!("jsonpath={{.items[*]{path}}}")]);
    let before = ALL.map(|node| started(node, "kubelet"));
    let payments = Payments::start(lab, "members")?;
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
    lab.wait_ready(Duration::from_secs(120))?;
    payments.finish(lab)?.none_failed()
}

/// When the unit's main process started: another text after a restart.
pub fn started(node: &str, unit: &str) -> anyhow::Result<String> {
    on_node(node, &["systemctl", "show", "--property", "ExecMainStartTimestampMonotonic", "--value", unit])
}

/// The workers' count raised by one: a sixth node comes, is ready, and nothing else is made again.
pub fn worker(lab: &mut Lab) -> anyhow::Result<()> {
    let before = lab.containers()?;
    let payments = Payments::start(lab, "worker")?;
    lab.edit("muster.toml", |text| text.replacen("count = 2", "count = 3", 1))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    lab.size += 1;
    lab.wait_ready(Duration::from_secs(240))?;
    let after = lab.containers()?;
    ensure!(before.iter().all(|id| after.contains(id)), "a container was replaced");
    ensure!(after.len() == before.len() + 1, "{} containers, {} before", after.len(), before.len());
    payments.finish(lab)?.none_failed()
}

/// A worker that dies while the pool shrinks by it: it cannot leave, so the leading control plane removes its Node.
pub fn dead_worker(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "dead-worker")?;
    // It shall not be quicker at leaving than this test at killing.
    on_node("workers-3", &["systemctl", "stop", "muster-agent"])?;
    lab.edit("muster.toml", |text| text.replacen("count = 3\n\n# Addresses", "count = 2\n\n# Addresses", 1))?;
    lab.expect(&["apply", "--yes", "--no-wait"], &[0])?;
    let killed = payments.now();
    let began = Instant::now();
    run("docker", &["rm", "--force", &format!("{PREFIX}workers-3")])?;
    lab.size -= 1;
    lab.wait_ready(SOON)?;
    wait(SOON, || {
        let nodes = lab.kubectl(&["get", "nodes", "-o", "name"])?;
        ensure!(!nodes.contains("workers-3"), "{nodes}");
        Ok(())
    })?;
    println!("  removed after {:.1} s, most of it until the cluster notices the death", began.elapsed().as_secs_f64());
    wait(SOON, || lab.expect(&["plan"], &[0]))?;
    payments.finish(lab)?.none_later_than_10_s_after(killed)
}
