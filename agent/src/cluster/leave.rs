//! Leaving the cluster: pods first, then etcd, then the node itself.
//!
//! The leaving node does it all with its own credentials: a kubelet may cordon its node and evict the pods on it, and
//! nobody else's. Only the Node object is deleted by the leader, when its annotation says that the node has gone. A crash
//! anywhere is gone on with: each step looks whether it is done.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, Start};
use muster_plan::kinds::cluster_member::Stage;
use serde_json::{Value, json};

use super::{
    KUBERNETES,
    api::{self, ApiError},
    documents, etcd,
    etcd::Etcd,
    join, kubeadm, lease, lost, membership, node, reach,
};
use crate::{Context, Done, StepError};

/// What a node writes on its Node object once it has gone: its own name.
pub const LEFT: &str = "muster.dev/left";

/// How long pods may take in one go; then who stays is told, and it goes on.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two questions to etcd: an election takes about as long.
const AGAIN: Duration = Duration::from_secs(1);

pub async fn leave(ctx: &Context, spec: &ClusterMemberSpec, known: bool) -> Result<Done, StepError> {
    if let Some(mut note) = membership::read(&*ctx.files)? {
        membership::reach(&*ctx.files, &mut note, Stage::Leaving)?;
    }
    let mut notes = Vec::new();
    if known {
        let client = reach::answering(ctx, spec).await?;
        notes.push(drain(ctx, &client, &spec.name).await?);
        if documents::is_control_plane(spec) {
            lease::resign(&client, ctx.scope.node.as_str()).await?;
        }
        ctx.units.stop("kubelet.service").await?;
        let patch = json!({"metadata": {"annotations": {LEFT: spec.name}}});
        api::merge(&client, &node::path(&spec.name), &patch).await?;
    }
    give_up_vote(ctx, spec).await?;
    kubeadm::reset(ctx).await?;
    membership::forget(&*ctx.files)?;
    Ok(Done { notes })
}

/// Takes a control plane's vote out of etcd, by the turn for that. Nothing for a worker.
pub async fn give_up_vote(ctx: &Context, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    if !documents::is_control_plane(spec) {
        return Ok(());
    }
    let turn = join::take_turn(ctx, "leaves etcd").await?;
    let left = leave_etcd(ctx, spec, || Ok(())).await;
    turn.give().await;
    left
}

/// The same for a member whose data is gone, unless it is there again by the time that it has the turn.
pub async fn give_up_lost_vote(ctx: &Context, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    let turn = join::take_turn(ctx, "lost etcd's data and leaves").await?;
    let left = leave_etcd(ctx, spec, || lost::still(ctx)).await;
    turn.give().await;
    left
}

/// Takes this node's vote out of etcd, where `may` still says so at the last moment. kubeadm's reset would, while it finds
/// this node's pods in the API.
async fn leave_etcd(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    may: impl Fn() -> Result<(), StepError>,
) -> Result<(), StepError> {
    let address: Ipv4Addr =
        spec.address.parse().map_err(|_| StepError::failed(format!("`{}` is no IPv4 address", spec.address)))?;
    let there = |path: &str| ctx.files.stat(path).map(|stat| stat.is_some());
    let [manifest, admin] = ["manifests/etcd.yaml", "admin.conf"].map(|name| format!("{KUBERNETES}/{name}"));
    if !there(join::ETCD_DATA)? && !there(&manifest)? && !there(&admin)? {
        // The vote is asked for with these credentials, before there is data: it never came so far.
        return Ok(());
    }
    let own = match Etcd::at(&*ctx.files, &etcd::client_url("127.0.0.1")) {
        Ok(own) => own,
        Err(error) if there(&manifest)? => {
            return Err(error.help(format!(
                "its etcd may vote, and nobody can be asked: put {KUBERNETES}/pki/etcd back, or delete the machine: another \
                 is made in its place"
            )));
        }
        // Without a certificate nobody can be asked: an earlier reset has come so far, after the vote was gone.
        Err(_) => return Ok(()),
    };
    let members = members(ctx, spec, &own, address).await?;
    let Some(member) = to_give_up(&members, spec, address)? else { return Ok(()) };
    // Spares the cluster an election; it does without where this fails.
    if let Err(error) = own.hand_over().await {
        tracing::debug!(%error, "etcd's lead was not handed over");
    }
    let others: Vec<String> =
        members.iter().filter(|other| other.id != member.id).flat_map(|other| other.client_urls.clone()).collect();
    let others = Etcd::connect(&*ctx.files, &others).await?;
    may()?;
    Ok(others.remove(member.id).await?)
}

/// The member that goes with this node; none where etcd knows none, or ends with the node that leaves. Who begins anew
/// to join others needs others.
fn to_give_up<'a>(
    members: &'a [etcd::Member],
    spec: &ClusterMemberSpec,
    address: Ipv4Addr,
) -> Result<Option<&'a etcd::Member>, StepError> {
    let own = members.iter().find(|member| member.peer_urls.contains(&etcd::peer_url(address)));
    match (own, members.len(), spec.start) {
        (Some(_), 1, Start::Join | Start::Init) => {
            let message = format!("{} is etcd's only member: beginning anew here would end the cluster", spec.name);
            Err(StepError::failed(message).help(
                "nobody else has the cluster's data: take a snapshot of /var/lib/etcd; where the cluster is to end, delete \
                 the machine",
            ))
        }
        (Some(_), 1, Start::Leave) | (None, _, _) => Ok(None),
        (Some(own), _, _) => Ok(Some(own)),
    }
}

/// etcd's members by whoever says: an own member that does not answer may be waiting for an election or a slow disk, and
/// may have left already. The others know.
async fn members(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    own: &Etcd,
    address: Ipv4Addr,
) -> Result<Vec<etcd::Member>, StepError> {
    let error = match etcd::ask(std::slice::from_ref(own), AGAIN).await {
        Ok(members) => return Ok(members),
        Err(error) => error,
    };
    tracing::debug!(%error, "this node's etcd does not say who its members are");
    let client = reach::answering(ctx, spec).await?;
    let endpoints = etcd::endpoints(&client).await?;
    let others = endpoints.iter().filter(|endpoint| **endpoint != etcd::client_url(address));
    let others = others.map(|endpoint| Etcd::at(&*ctx.files, endpoint)).collect::<Result<Vec<_>, _>>()?;
    etcd::ask(&others, AGAIN).await.map_err(|error| {
        StepError::failed("no member of etcd says whether this node still votes")
            .because(error)
            .help("a vote left behind would count against the living: it is tried again; do the other control planes run?")
            .retry()
    })
}

/// Cordons, and evicts until no pod but the node's own is left.
async fn drain(ctx: &Context, client: &Client, name: &str) -> Result<String, StepError> {
    api::merge(client, &node::path(name), &json!({"spec": {"unschedulable": true}})).await?;
    let begun = Instant::now();
    let mut moved = BTreeSet::new();
    loop {
        let pods = api::get(client, &format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")).await?;
        let mut left: Vec<&Value> = node::list(&pods["items"]).filter(|pod| must_move(pod)).collect();
        left.sort_by_key(|pod| pod["metadata"]["name"].as_str().unwrap_or_default());
        if left.is_empty() {
            tracing::info!(took = begun.elapsed().as_millis(), pods = moved.len(), "the node is empty");
            return Ok(format!("{} pods moved", moved.len()));
        }
        let mut kept = Vec::new();
        for pod in left {
            moved.insert(title(pod));
            if let Some(reason) = evict(client, pod).await? {
                kept.push(format!("{}: {reason}", title(pod)));
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(StepError::waits(stay(&kept)));
        }
        ctx.clock.sleep(Duration::from_millis(500)).await;
    }
}

/// What a drain waits for, each pod with the budget or the end that holds it.
fn stay(kept: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = kept.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("pods to leave the node: {}{more}", kept[..kept.len().min(SHOWN)].join("; "))
}

/// Static pods go with the node, those of DaemonSets belong to it, and finished ones need no place.
fn must_move(pod: &Value) -> bool {
    let mirror = !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null();
    let daemon = node::list(&pod["metadata"]["ownerReferences"]).any(|owner| owner["kind"] == "DaemonSet");
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    !mirror && !daemon && !finished
}

fn title(pod: &Value) -> String {
    let word = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", word("namespace"), word("name"))
}

/// None: it goes, or has gone. Else why it stays for now.
async fn evict(client: &Client, pod: &Value) -> Result<Option<String>, ApiError> {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Ok(Some("it is ending".to_owned()));
    }
    let (namespace, name) = (&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/eviction",
        namespace.as_str().unwrap_or_default(),
        name.as_str().unwrap_or_default()
    );
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
    match api::create(client, &path, &eviction).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        // A disruption budget says: not now.
        Err(ApiError::Refused { code: 429, message, .. }) => Ok(Some(message)),
        Err(error) => Err(error),
    }
}

/// Whether a Node says of itself that it has gone.
pub fn has_left(node: &Node) -> bool {
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(LEFT));
    annotation.is_some() && annotation == node.metadata.name.as_ref()
}

/// Deletes such a Node; one that came back meanwhile is another.
pub async fn bury(client: &Client, node: &Node) -> Result<(), ApiError> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
    });
    match api::delete(client, &node::path(name), &options).await {
        // Its next change brings it here again.
        Err(error) if error.is_conflict() => Ok(()),
        other => {
            tracing::info!(node = name, "a Node that has left was deleted");
            other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_need_another_place_move() {
        assert!(must_move(
            &json!({"metadata": {"ownerReferences": [{"kind": "ReplicaSet"}]}, "status": {"phase": "Running"}})
        ));
        assert!(must_move(&json!({"metadata": {}, "status": {"phase": "Pending"}})));
        assert!(!must_move(&json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}})));
        assert!(!must_move(&json!({"metadata": {"ownerReferences": [{"kind": "DaemonSet"}]}})));
        assert!(!must_move(&json!({"metadata": {}, "status": {"phase": "Succeeded"}})));
    }

    #[test]
    fn a_drain_names_the_pods_that_stay_and_what_holds_them() {
        let kept: Vec<String> = (1..=7).map(|n| format!("shop/web-{n}: it is ending")).collect();
        assert_eq!(stay(&kept[..1]), "pods to leave the node: shop/web-1: it is ending");
        assert!(stay(&kept).ends_with("shop/web-5: it is ending and 2 more"), "{}", stay(&kept));
    }

    /// As the API server answers an eviction that a budget forbids.
    #[tokio::test]
    async fn an_eviction_that_is_refused_names_the_budget() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
            let answer = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "TooManyRequests", "code": 429,
                "message": "Cannot evict pod as it would violate the pod's disruption budget.",
                "details": {"causes": [{"reason": "DisruptionBudget",
                    "message": "The disruption budget web needs 2 healthy pods and has 2 currently"}]},
            });
            let body = kube::client::Body::from(answer.to_string().into_bytes());
            async move { Ok::<_, std::convert::Infallible>(http::Response::builder().status(429).body(body).unwrap()) }
        });
        let pod = json!({"metadata": {"namespace": "shop", "name": "web-1"}});
        let why = evict(&Client::new(service, "default"), &pod).await.unwrap().unwrap();
        assert!(why.contains("disruption budget web needs 2 healthy pods"), "{why}");
    }

    #[test]
    fn etcds_only_member_is_given_up_by_nobody_who_wants_to_join() {
        let member = |id, host: &str| etcd::Member {
            id,
            name: "n".to_owned(),
            peer_urls: vec![etcd::peer_url(host)],
            client_urls: vec![],
            learner: false,
        };
        let given_up = |members: &[etcd::Member], start: &str| {
            let spec = json!({
                "name": "n-2", "role": "control-plane", "start": start, "address": "10.0.0.2", "kubernetes": "1.34.4",
                "api_endpoint": "10.0.0.9:6443", "pods": "10.244.0.0/16", "services": "10.96.0.0/12",
                "image_repository": "registry.k8s.io",
            });
            let spec: ClusterMemberSpec = serde_json::from_value(spec).unwrap();
            to_give_up(members, &spec, "10.0.0.2".parse().unwrap()).map(|member| member.map(|member| member.id)).ok()
        };
        let both = [member(1, "10.0.0.1"), member(2, "10.0.0.2")];
        for start in ["join", "leave"] {
            assert_eq!(given_up(&both, start), Some(Some(2)));
            assert_eq!(given_up(&both[..1], start), Some(None), "it never came so far");
        }
        assert_eq!(given_up(&both[1..], "leave"), Some(None));
        assert_eq!(given_up(&both[1..], "join"), None);
    }

    #[test]
    fn a_node_is_gone_only_by_its_own_word() {
        let node = |left: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "w-1", "annotations": {LEFT: left}}})).unwrap()
        };
        assert!(has_left(&node("w-1")));
        assert!(!has_left(&node("w-2")));
        assert!(!has_left(&Node::default()));
    }
}
