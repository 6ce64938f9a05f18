//! Pods that ask for a name ten times a second, one on every node, and write down what they got.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::on_node;

const NAMESPACE: &str = "names";
/// The name that a front end asks for.
const NAME: &str = "database.easypay.svc.cluster.local";

/// A pod that asks.
pub struct Asker {
    pub pod: String,
    pub node: String,
}

/// What one second of a pod's questions came to, as `easypay resolve` writes it.
#[derive(serde::Deserialize)]
struct Second {
    /// When it began: milliseconds since the epoch.
    at: i64,
    asked: u32,
    failed: u32,
}

/// What a pod met within some moments.
#[derive(Debug, Default)]
pub struct Met {
    /// The end of the last second in which names were not to be had: a quarter of the questions or more had no answer.
    pub outage: Option<i64>,
    /// Questions without an answer in the other seconds: a packet that was lost while proxies learned of another server.
    pub strays: u32,
}

/// Milliseconds since the epoch, as the pods count: all nodes have this machine's clock.
pub fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Starts them.
pub fn ask(lab: &crate::lab::Lab) -> anyhow::Result<()> {
    let listed = lab.kubectl(&["get", "pods", "--namespace=easypay", "-o", "json"])?;
    let pods: Value = serde_json::from_str(&listed)?;
    let images = pods["items"].as_array().context("a list of pods")?.iter();
    let images = images.filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str());
    let image = images.into_iter().find(|image| image.contains("easypay-web")).context("no front end runs")?;
    let labels = json!({"app": NAMESPACE});
    let pod = json!({
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "ask", "image": image, "args": ["resolve", "--name", NAME, "--rate", "10"]}],
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": NAMESPACE, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [namespace, set]});
    let pipe = "printf %s \"$1\" | kubectl --kubeconfig=/etc/kubernetes/admin.conf apply -f -";
    on_node("control-plane-2", &["sh", "-c", pipe, "sh", &list.to_string()]).map(drop)
}

/// The pods, one a node, all running.
pub fn askers(nodes: usize) -> anyhow::Result<Vec<Asker>> {
    let listed = kubectl(&["get", "pods", "-o", "json"])?;
    let pods: Value = serde_json::from_str(&listed)?;
    let pods = pods["items"].as_array().context("a list of pods")?.iter();
    let running = pods.filter(|pod| pod["status"]["containerStatuses"][0]["ready"] == true);
    let askers = running.filter_map(|pod| {
        let (name, node) = (pod["metadata"]["name"].as_str()?, pod["spec"]["nodeName"].as_str()?);
        Some(Asker { pod: name.to_owned(), node: node.to_owned() })
    });
    let askers: Vec<Asker> = askers.collect();
    ensure!(askers.len() == nodes, "{} of {nodes} pods ask for names", askers.len());
    Ok(askers)
}

/// Ends them.
pub fn end() -> anyhow::Result<()> {
    on_node(
        "control-plane-2",
        &["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "delete", "namespace", NAMESPACE, "--wait=false"],
    )
    .map(drop)
}

impl Asker {
    /// What it met within these moments.
    pub fn met(&self, from: i64, to: i64) -> anyhow::Result<Met> {
        let log = kubectl(&["logs", &self.pod])?;
        let seconds: Vec<Second> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let within = seconds.iter().filter(|second| (from..to).contains(&second.at));
        ensure!(within.clone().count() > 5, "{} on {} asked for no names:\n{log}", self.pod, self.node);
        let mut met = Met::default();
        for second in within {
            if second.failed * 4 >= second.asked && second.failed > 0 {
                met.outage = met.outage.max(Some(second.at + 1000));
            } else {
                met.strays += second.failed;
            }
        }
        Ok(met)
    }
}

fn kubectl(args: &[&str]) -> anyhow::Result<String> {
    let admin =
        ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=10s", "--namespace", NAMESPACE];
    // One of them may be the node that was lost.
    on_node("control-plane-2", &[&admin, args].concat())
        .or_else(|_| on_node("control-plane-3", &[&admin, args].concat()))
}
