//! Cluster DNS: a server on every node, asked by that node's pods first.
//!
//! kubeadm makes a Deployment of two, which both land on the first control plane, alone when they are placed, and stay
//! there: with that node no name is resolved anywhere. Here CoreDNS is a DaemonSet of kubeadm's own pod, and the Service
//! prefers the asking node's (`trafficDistribution: PreferSameNode`): a node that dies takes the names of nobody else, with
//! no health check to wait for. Where a node's own server is not ready, another node's answers.
//!
//! The Corefile is the admin's once it is there, and so is what the servers have of memory and CPU. The rest is put back by
//! whoever leads.

use std::time::{Duration, Instant};

use kube::Client;
use muster_catalog::kinds::{cluster_member::ClusterMemberSpec, manifest};
use muster_plan::cluster::Dns;
use serde_json::{Value, json};

use super::{
    api::{self, ApiError},
    bootstrap, documents, kubeadm, mark, node, settings,
};
use crate::{Context, Done, StepError};

const SET: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/coredns";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
const SERVICE: &str = "/api/v1/namespaces/kube-system/services/kube-dns";
const CONFIGMAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
/// The pods' label beside kubeadm's, whose Deployment has the same one otherwise.
const POD: &str = "muster.dev/dns";
/// Goes up when what is made here changes.
const VERSION: u32 = 1;
/// Until every node that serves has a server of its own, before the former ones go.
const ROLLED_OUT: Duration = Duration::from_secs(60);

/// Wanted, and as the cluster has it; the latter is none where anything was changed by somebody else.
pub async fn seen(client: &Client, spec: &ClusterMemberSpec) -> Result<(String, Option<String>), ApiError> {
    let wanted = wanted(spec);
    let set = api::find(client, SET).await?;
    let service = api::find(client, SERVICE).await?;
    let former = api::find(client, DEPLOYMENT).await?;
    let prefers = service.is_some_and(|service| {
        !may_prefer(&spec.kubernetes) || service["spec"]["trafficDistribution"] == "PreferSameNode"
    });
    let has = set.filter(|_| prefers && !former.as_ref().is_some_and(is_kubeadms)).as_ref().and_then(mark::of);
    Ok((wanted, has))
}

fn wanted(spec: &ClusterMemberSpec) -> String {
    let of = format!("{VERSION} {} {} {}", spec.kubernetes, spec.image_repository, spec.services);
    settings::digest(of)
}

/// Whether a Service of this version of Kubernetes may prefer the asking node (KEP 3015: on by default from 1.34).
fn may_prefer(kubernetes: &str) -> bool {
    let mut numbers = kubernetes.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(1), Some(34))
}

/// The Deployment that kubeadm makes, and no other of its name: others' have its label, too.
fn is_kubeadms(deployment: &Value) -> bool {
    let metadata = &deployment["metadata"];
    let mut managers = metadata["managedFields"].as_array().into_iter().flatten();
    metadata["labels"]["k8s-app"] == "kube-dns"
        && metadata["labels"]["app.kubernetes.io/managed-by"].is_null()
        && managers.any(|one| one["manager"] == "kubeadm")
}

/// What a newborn cluster has from its start.
pub async fn furnish(
    ctx: &Context,
    client: &Client,
    spec: &ClusterMemberSpec,
    documents: &str,
) -> Result<(), StepError> {
    let mut objects = objects(ctx, documents, may_prefer(&spec.kubernetes)).await?;
    // A server that reads many Services needs more than kubeadm says, and no site says how much.
    if let Ok(Some(live)) = api::find(client, SET).await {
        objects.iter_mut().filter(|object| object["kind"] == "DaemonSet").for_each(|set| keep_resources(set, &live));
    }
    futures::future::try_join_all(objects.iter().map(|object| put(ctx, client, object))).await?;
    Ok(mark::note(client, SET, &wanted(spec)).await?)
}

/// Makes it so on a cluster that lives; kubeadm's Deployment goes when the nodes have servers of their own.
pub async fn write(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Done, StepError> {
    let client = ctx.kube.client().await?;
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    furnish(ctx, &client, spec, &documents).await?;
    let Some(former) = api::find(&client, DEPLOYMENT).await?.filter(is_kubeadms) else { return Ok(Done::default()) };
    let begun = Instant::now();
    loop {
        let nodes = api::get(&client, "/api/v1/nodes").await?;
        let ready = node::list(&nodes["items"]).filter(|node| node::is_ready(node)).count() as u64;
        if api::find(&client, SET).await?.is_some_and(|set| serves(&set, ready)) {
            break;
        }
        if begun.elapsed() > ROLLED_OUT {
            return Err(StepError::waits("cluster DNS to be ready on the nodes; the former servers go after it"));
        }
        ctx.clock.sleep(Duration::from_millis(500)).await;
    }
    let preconditions = json!({"uid": former["metadata"]["uid"]});
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions, "propagationPolicy": "Background",
    });
    api::delete(&client, DEPLOYMENT, &options).await?;
    tracing::info!("cluster DNS has a server on every node; kubeadm's Deployment was deleted");
    Ok(Done {
        notes: vec!["the Deployment kube-system/coredns removed: every node has a server of its own".to_owned()],
    })
}

/// Its pods are there wherever a node is ready. A node that is down has one that never is.
fn serves(set: &Value, ready: u64) -> bool {
    let number = |key: &str| set["status"][key].as_u64().unwrap_or_default();
    let current = set["status"]["observedGeneration"] == set["metadata"]["generation"];
    current && number("numberReady") > 0 && number("numberReady") >= ready
}

/// What the leader tells of it, of so many nodes; none where the API does not say.
pub async fn look(client: &Client, nodes: u32) -> Option<Dns> {
    let Some(set) = api::find(client, SET).await.ok()? else { return Some(Dns { wanted: nodes.max(1), ready: 0 }) };
    let number = |key: &str| u32::try_from(set["status"][key].as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
    Some(Dns { wanted: number("desiredNumberScheduled"), ready: number("numberReady") })
}

/// kubeadm's objects of CoreDNS, with the Deployment made a DaemonSet.
async fn objects(ctx: &Context, documents: &str, prefer: bool) -> Result<Vec<Value>, StepError> {
    let printed = kubeadm::print(ctx, &["init", "phase", "addon", "coredns", "--print-manifest"], documents).await?;
    let mut objects = manifest::documents(&printed)
        .map_err(|error| StepError::failed("what kubeadm prints of CoreDNS cannot be read").because(error))?;
    for object in &mut objects {
        match object["kind"].as_str() {
            Some("Deployment") => *object = daemon_set(object),
            Some("Service") if prefer => object["spec"]["trafficDistribution"] = json!("PreferSameNode"),
            _other => {}
        }
    }
    Ok(objects)
}

fn daemon_set(deployment: &Value) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"][POD] = json!("node");
    let pod = &mut template["spec"];
    // It belongs to its node as kube-proxy does: whatever the taints, and before the pods that ask it.
    pod["tolerations"] = json!([{"operator": "Exists"}]);
    pod["priorityClassName"] = json!("system-node-critical");
    if let Some(pod) = pod.as_object_mut() {
        pod.remove("affinity");
    }
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-dns", POD: "node"}},
            // The new one is there before the old one goes.
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    })
}

/// What an admin gave the servers of memory and CPU stays.
fn keep_resources(set: &mut Value, live: &Value) {
    let containers =
        |set: &Value| set["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let live = containers(live);
    for container in set["spec"]["template"]["spec"]["containers"].as_array_mut().into_iter().flatten() {
        if let Some(same) = live.iter().find(|live| live["name"] == container["name"]) {
            container["resources"] = same["resources"].clone();
        }
    }
}

async fn put(ctx: &Context, client: &Client, object: &Value) -> Result<(), StepError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let path = match object["kind"].as_str().unwrap_or_default() {
        "ConfigMap" => return create(ctx, client, object).await,
        "ClusterRole" => format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}"),
        "ClusterRoleBinding" => format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}"),
        "ServiceAccount" => format!("/api/v1/namespaces/kube-system/serviceaccounts/{name}"),
        "Service" => SERVICE.to_owned(),
        "DaemonSet" => SET.to_owned(),
        other => {
            return Err(StepError::failed(format!("kubeadm prints a {other} for CoreDNS, which muster does not know")));
        }
    };
    bootstrap::apply_when_possible(ctx, client, &(path, object.clone())).await
}

/// Makes what is not there. What is there is never written over: it is the admin's.
async fn create(ctx: &Context, client: &Client, object: &Value) -> Result<(), StepError> {
    for _ in 0..100 {
        match api::create(client, CONFIGMAPS, object).await {
            Err(error) if error.is_conflict() => return Ok(()),
            // The namespace comes with the API server's first second.
            Err(error) if error.is_not_found() || error.passes() => ctx.clock.sleep(Duration::from_millis(100)).await,
            created => return created.map(drop).map_err(StepError::from),
        }
    }
    Err(StepError::waits("the API server to take the settings of cluster DNS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_pod_runs_on_every_node() {
        let deployment = json!({
            "kind": "Deployment",
            "spec": {"replicas": 2, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}, "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {"affinity": {"podAntiAffinity": {}}, "tolerations": [{"key": "x"}], "dnsPolicy": "Default",
                    "containers": [{"name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.12.1"}]},
            }},
        });
        let set = daemon_set(&deployment);
        let labels = json!({"k8s-app": "kube-dns", "muster.dev/dns": "node"});
        assert_eq!(set["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(set["spec"]["template"]["metadata"]["labels"], labels);
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["containers"], deployment["spec"]["template"]["spec"]["containers"]);
        assert_eq!((&pod["tolerations"], &pod["affinity"]), (&json!([{"operator": "Exists"}]), &Value::Null));
        assert_eq!(set["spec"]["replicas"], Value::Null);
    }

    #[test]
    fn what_an_admin_gave_the_servers_of_memory_stays() {
        let set = |name: &str, memory: &str| {
            let container = json!({"name": name, "image": memory, "resources": {"limits": {"memory": memory}}});
            json!({"kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [container]}}}})
        };
        let kept = |live: &Value| {
            let mut wanted = set("coredns", "170Mi");
            keep_resources(&mut wanted, live);
            wanted["spec"]["template"]["spec"]["containers"][0].clone()
        };
        let one = kept(&set("coredns", "1Gi"));
        assert_eq!((&one["resources"]["limits"]["memory"], &one["image"]), (&json!("1Gi"), &json!("170Mi")));
        assert_eq!(kept(&set("other", "1Gi"))["resources"]["limits"]["memory"], "170Mi");
    }

    #[test]
    fn a_deployment_of_others_is_not_kubeadms_and_old_versions_prefer_nobody() {
        let deployment = |manager: &str, by: Option<&str>| {
            json!({"metadata": {"labels": {"k8s-app": "kube-dns", "app.kubernetes.io/managed-by": by},
                "managedFields": [{"manager": manager}]}})
        };
        assert!(is_kubeadms(&deployment("kubeadm", None)));
        assert!(!is_kubeadms(&deployment("helm", None)) && !is_kubeadms(&deployment("kubeadm", Some("Helm"))));
        assert!(may_prefer("1.34.4") && may_prefer("1.35.0") && !may_prefer("1.33.9") && !may_prefer("x"));
    }

    /// An API server that is away for a moment is no reason to write over what the admin wrote.
    #[tokio::test(start_paused = true)]
    async fn an_admins_corefile_is_never_written_over() {
        use std::sync::{Arc, Mutex};
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let mut seen = seen.lock().unwrap();
            seen.push(request.method().clone());
            // First an election, then the object is there.
            let code = if seen.len() < 3 { 500 } else { 409 };
            let answer = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                "reason": "x", "message": "etcdserver: request timed out"});
            let body = kube::client::Body::from(answer.to_string().into_bytes());
            async move { Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap()) }
        });
        let ctx = crate::adapters::fake::FakeMachine::new().node("n-1");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns"}});
        put(&ctx, &Client::new(service, "default"), &map).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), [http::Method::POST, http::Method::POST, http::Method::POST]);
    }

    #[test]
    fn the_former_servers_stay_until_others_serve() {
        let set = |observed: u64, wanted: u64, ready: u64| {
            json!({"metadata": {"generation": 2}, "status": {
                "observedGeneration": observed, "desiredNumberScheduled": wanted, "numberReady": ready}})
        };
        for (seen, nodes, good) in [
            (set(2, 5, 5), 5, true),
            (set(2, 5, 2), 5, false),
            (set(1, 5, 5), 5, false),
            (set(2, 3, 2), 2, true),
            (set(2, 0, 0), 0, false),
        ] {
            assert_eq!(serves(&seen, nodes), good, "{seen}");
        }
    }
}
