//! The Node object of this machine: what is seen of it, its labels and taints, and whether it is ready.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::Client;
use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, Worker};
use muster_plan::kinds::cluster_member::{Marked, Marking, Membership, NodeSeen, Stage, WorkerSeen, wanted_labels};
use serde_json::{Map, Value, json};

use super::{
    api::{self, ApiError},
    documents::Taint,
    lease, membership,
};
use crate::{Context, StepError};

pub(super) fn path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

/// Labels and taints; none where there is no such Node.
pub async fn seen(client: &Client, name: &str) -> Result<Option<NodeSeen>, ApiError> {
    Ok(api::find(client, &path(name)).await?.map(|node| of_object(&node)))
}

fn of_object(node: &Value) -> NodeSeen {
    let labels = node["metadata"]["labels"]
        .as_object()
        .map(|labels| labels.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect())
        .unwrap_or_default();
    let taints = list(&node["spec"]["taints"]).filter(|taint| !is_controllers(taint)).map(text_of).collect();
    NodeSeen { labels, taints }
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Taints that Kubernetes' own controllers put on and take off.
fn is_controllers(taint: &Value) -> bool {
    let key = taint["key"].as_str().unwrap_or_default();
    key.starts_with("node.kubernetes.io/") || key.starts_with("node.cloudprovider.kubernetes.io/")
}

fn text_of(taint: &Value) -> String {
    let (key, effect) = (taint["key"].as_str().unwrap_or_default(), taint["effect"].as_str().unwrap_or_default());
    match taint["value"].as_str().unwrap_or_default() {
        "" => format!("{key}:{effect}"),
        value => format!("{key}={value}:{effect}"),
    }
}

/// What was put on a worker's Node for the site.
const MARKED: &str = "muster.dev/marked";

/// The workers' Nodes, as far as there are any.
pub async fn workers(client: &Client, wanted: &[Worker]) -> Result<BTreeMap<String, WorkerSeen>, ApiError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let all = api::get(client, "/api/v1/nodes").await?;
    let ours = |node: &&Value| wanted.iter().any(|worker| node["metadata"]["name"] == worker.name);
    let seen = list(&all["items"]).filter(ours).map(|node| {
        let note = node["metadata"]["annotations"][MARKED].as_str().unwrap_or_default();
        // What cannot be read is as good as none: nothing is taken off for it.
        let marked = serde_json::from_str(note).unwrap_or_default();
        let taints = list(&node["spec"]["taints"]).map(text_of).collect();
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        (name, WorkerSeen { labels: of_object(node).labels, taints, marked })
    });
    Ok(seen.collect())
}

/// Changes a worker's labels and taints, and notes whose they are.
pub async fn mark_worker(client: &Client, name: &str, marking: &Marking) -> Result<(), ApiError> {
    let node = api::get(client, &path(name)).await?;
    let stays = |taint: &&Value| !marking.untaint.contains(&text_of(taint)) && !marking.taint.contains(&text_of(taint));
    let mut taints: Vec<Value> = list(&node["spec"]["taints"]).filter(stays).cloned().collect();
    taints.extend(marking.taint.iter().filter_map(|text| Taint::parse(text)).map(|taint| taint.to_json()));
    let mut labels: Map<String, Value> = marking.set.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    labels.extend(marking.remove.iter().map(|key| (key.clone(), Value::Null)));
    let note = match marking.marked == Marked::default() {
        true => Value::Null,
        false => json!(serde_json::to_string(&marking.marked).expect("two lists of texts are JSON")),
    };
    let version = &node["metadata"]["resourceVersion"];
    let patch = json!({
        "metadata": {"labels": labels, "annotations": {MARKED: note}, "resourceVersion": version},
        "spec": {"taints": taints},
    });
    api::merge(client, &path(name), &patch).await.map(drop)
}

/// Sets and removes labels; with `taints` replaces those that are ours.
pub async fn mark(
    client: &Client,
    name: &str,
    set: impl IntoIterator<Item = (&String, &String)>,
    remove: &BTreeSet<String>,
    taints: Option<&[String]>,
) -> Result<(), ApiError> {
    let mut labels: Map<String, Value> = set.into_iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    labels.extend(remove.iter().map(|key| (key.clone(), Value::Null)));
    let mut patch = json!({"metadata": {"labels": labels}});
    if let Some(taints) = taints {
        let node = api::get(client, &path(name)).await?;
        let mut all: Vec<Value> =
            list(&node["spec"]["taints"]).filter(|taint| is_controllers(taint)).cloned().collect();
        all.extend(taints.iter().filter_map(|text| Taint::parse(text)).map(|taint| taint.to_json()));
        patch["spec"] = json!({"taints": all});
        patch["metadata"]["resourceVersion"] = node["metadata"]["resourceVersion"].clone();
    }
    api::merge(client, &path(name), &patch).await.map(drop)
}

/// The last step into the cluster: waits for kubelet to register the node, and puts its labels and taints on.
pub async fn settle(
    ctx: &Context,
    client: &Client,
    spec: &ClusterMemberSpec,
    note: &mut Membership,
) -> Result<(), StepError> {
    let labels = wanted_labels(spec);
    let taints = super::documents::is_control_plane(spec).then_some(spec.taints.as_slice());
    let mut last = None;
    for _ in 0..600 {
        match mark(client, &spec.name, &labels, &BTreeSet::new(), taints).await {
            Ok(()) => {
                note.labels = labels.keys().cloned().collect();
                return membership::reach(&*ctx.files, note, Stage::Member);
            }
            Err(error) if error.is_not_found() || error.is_conflict() || error.passes() => {
                tracing::debug!(%error, "the node cannot be marked yet");
                last = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
    Err(match last {
        Some(error) if error.is_not_found() => {
            StepError::failed(format!("kubelet did not register the node {} within a minute", spec.name))
                .help("`journalctl -u kubelet` on the node says why")
                .retry()
        }
        Some(error) => error.into(),
        None => StepError::waits("kubelet to register the node"),
    })
}

/// The node's readiness as the cluster knows it from kubelet; false as well where nobody can say. None: not a member
/// (yet, or no more). With `since` (seconds since the epoch) kubelet must have been heard of after it.
pub async fn node_ready(ctx: &Context, since: Option<i64>) -> Option<bool> {
    let note = membership::read(&*ctx.files).ok()??;
    if note.stage < Stage::Member {
        return None;
    }
    let asked = async {
        let client = ctx.kube.client().await.ok()?;
        fit(&client, &note.name, since).await.ok()
    };
    Some(tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap_or_default().unwrap_or_default())
}

async fn fit(client: &Client, name: &str, since: Option<i64>) -> Result<bool, ApiError> {
    if let Some(since) = since {
        // A beat within the second of a restart may be the old kubelet's.
        let after = lease::micro_time(since + 1);
        if heartbeat(client, name).await?.is_none_or(|beat| beat < after) {
            return Ok(false);
        }
    }
    Ok(api::find(client, &path(name)).await?.is_some_and(|node| is_ready(&node)))
}

/// This node's pods that are not ending, by uid, and whether each is Ready. None where the API does not say.
pub async fn pods(ctx: &Context) -> Option<BTreeMap<String, bool>> {
    let note = membership::read(&*ctx.files).ok()??;
    let asked = async {
        let client = ctx.kube.client().await.ok()?;
        // The selector is what lets kubelet's own credentials ask.
        api::get(&client, &format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", note.name)).await.ok()
    };
    let list = tokio::time::timeout(Duration::from_secs(5), asked).await.ok()??;
    Some(readiness(&list))
}

fn readiness(pods: &Value) -> BTreeMap<String, bool> {
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let pods = pods["items"].as_array().into_iter().flatten().filter(stays);
    pods.filter_map(|pod| Some((pod["metadata"]["uid"].as_str()?.to_owned(), is_ready(pod)))).collect()
}

/// When kubelet last renewed its Lease, on its node's clock; it does every ten seconds, and at its start. Such times
/// compare as texts.
pub(super) async fn heartbeat(client: &Client, name: &str) -> Result<Option<String>, ApiError> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
    let lease = api::find(client, &path).await?;
    Ok(lease.and_then(|lease| lease["spec"]["renewTime"].as_str().map(str::to_owned)))
}

pub(super) fn is_ready(node: &Value) -> bool {
    list(&node["status"]["conditions"]).any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http::{Request, Response};
    use kube::client::Body;
    use muster_catalog::{
        Catalog,
        kinds::cluster_member::{MemberRole, Start},
    };
    use muster_ids::Generation;

    use super::*;
    use crate::{
        Scope,
        adapters::fake::{FakeMachine, NoMember},
        ports::{Health, Kube},
    };

    /// An API server with one Node, of this readiness.
    struct OneNode(&'static str);

    #[async_trait::async_trait]
    impl Kube for OneNode {
        async fn client(&self) -> Result<Client, StepError> {
            let node = json!({"status": {"conditions": [{"type": "Ready", "status": self.0}]}}).to_string();
            let service = tower::service_fn(move |_: Request<Body>| {
                let node = node.clone();
                async move { Ok::<_, Infallible>(Response::new(Body::from(node.into_bytes()))) }
            });
            Ok(Client::new(service, "default"))
        }
    }

    #[tokio::test]
    async fn a_member_is_ready_only_where_the_api_says_so() {
        let machine = FakeMachine::new();
        let mut ctx = machine.context(Scope::of(&Catalog {
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            node: "n-1".parse().unwrap(),
            generation: Generation { epoch: 0, counter: 1 },
            draft: false,
            resource: vec![],
        }));
        let mut note = Membership {
            version: Membership::VERSION,
            name: "n-1".to_owned(),
            role: MemberRole::Worker,
            start: Start::Join,
            stage: Stage::Prepared,
            resumed: 0,
            labels: BTreeSet::new(),
            kubelet: None,
        };
        assert_eq!((node_ready(&ctx, None).await, NoMember.node_ready().await), (None, None));
        membership::write(&*machine.files, &note).unwrap();
        assert_eq!(node_ready(&ctx, None).await, None, "it is on its way in");
        note.stage = Stage::Member;
        membership::write(&*machine.files, &note).unwrap();
        assert_eq!(node_ready(&ctx, None).await, Some(false), "the API cannot be asked");
        for (status, ready) in [("True", true), ("False", false), ("Unknown", false)] {
            ctx.kube = Arc::new(OneNode(status));
            assert_eq!(node_ready(&ctx, None).await, Some(ready), "{status}");
        }
    }

    #[test]
    fn controllers_taints_are_not_ours() {
        let node = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"taints": [
                {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
                {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                {"key": "dedicated", "value": "db", "effect": "NoExecute"},
            ]},
        });
        let seen = of_object(&node);
        let expected = ["dedicated=db:NoExecute", "node-role.kubernetes.io/control-plane:NoSchedule"];
        assert_eq!(seen.taints.iter().collect::<Vec<_>>(), expected);
        assert_eq!(seen.labels["a"], "b");
    }

    #[tokio::test]
    async fn a_kubelet_that_was_not_heard_of_since_a_restart_is_not_fit_though_its_node_is_ready() {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| {
            let object = match request.uri().path().contains("/leases/") {
                true => json!({"spec": {"renewTime": "2023-11-14T22:13:20.400000Z"}}),
                false => json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            };
            let body = kube::client::Body::from(object.to_string().into_bytes());
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        let client = Client::new(service, "default");
        let beat = 1_700_000_000;
        for (since, expected) in [(None, true), (Some(beat - 1), true), (Some(beat), false), (Some(beat + 5), false)] {
            assert_eq!(fit(&client, "n-1", since).await.unwrap(), expected, "{since:?}");
        }
    }

    #[test]
    fn pods_that_end_do_not_count() {
        let pod = |uid: &str, ready: &str, ends: Option<&str>| {
            json!({"metadata": {"uid": uid, "deletionTimestamp": ends},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let list = json!({"items": [pod("a", "True", None), pod("b", "False", None), pod("c", "True", Some("now"))]});
        assert_eq!(readiness(&list), [("a".to_owned(), true), ("b".to_owned(), false)].into());
    }

    #[test]
    fn readiness_is_the_condition() {
        assert!(is_ready(&json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})));
        assert!(!is_ready(&json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})));
        assert!(!is_ready(&json!({})));
    }
}
