//! What the cluster still has of nodes that died, or that nobody trusts any more: nobody else can take it away.
//!
//! A node that leaves does it all by itself ([`super::leave`]). One whose instance is gone cannot: its vote would count in
//! etcd for ever, and its Node object would stay. The coordinator proved by two readings of the provider that the instance
//! does not exist, and named it in the catalogs of the control planes; the one that leads removes what is left. As long
//! as kubelet's last words are believed (Ready), nothing is done: either the cluster has not noticed yet, or the node
//! lives.
//!
//! Of a node that was revoked nothing is believed: it may run and say that it is Ready. Its name is refused first
//! ([`super::refuse`]), or its kubelet made its Node anew; then its vote goes, its Node, and the pods that were bound to it,
//! with which the node loses what it may read. Pods of StatefulSets end when its machine is gone for sure: there is one of
//! each. A revoked control plane that leads leads no longer.

use std::collections::BTreeSet;

use kube::Client;
use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, Gone};
use muster_plan::Skip;
use serde_json::{Value, json};

use super::{
    api,
    etcd::{self, Etcd, Member},
    join,
    lease::{self, Holder},
    node, refuse,
};
use crate::{Context, Done, StepError};

/// Which of the dead have left something. An API server or an etcd that does not answer says nothing: then it waits.
pub async fn remains(ctx: &Context, spec: &ClusterMemberSpec) -> Result<BTreeSet<String>, StepError> {
    if spec.gone.is_empty() {
        return Ok(BTreeSet::new());
    }
    let client = ctx.kube.client().await?;
    let members = own_etcd(ctx)?.members().await.map_err(|error| {
        tracing::debug!(%error, "etcd does not say who its members are");
        StepError::waits("this node's etcd to answer")
    })?;
    let mut remains = BTreeSet::new();
    for gone in &spec.gone {
        let member = !etcd::of_node(&members, &gone.name, &gone.address).is_empty();
        let node = api::find(&client, &node::path(&gone.name)).await?.is_some();
        if member || node || !bound(&client, gone).await?.is_empty() {
            remains.insert(gone.name.clone());
        }
    }
    Ok(remains)
}

/// Removes etcd's members first: the vote of the dead counts against the living.
pub async fn bury(ctx: &Context, spec: &ClusterMemberSpec, nodes: &BTreeSet<String>) -> Result<Done, StepError> {
    bury_from(ctx, &ctx.kube.client().await?, &own_etcd(ctx)?, spec, nodes).await
}

async fn bury_from(
    ctx: &Context,
    client: &Client,
    etcd: &Etcd,
    spec: &ClusterMemberSpec,
    nodes: &BTreeSet<String>,
) -> Result<Done, StepError> {
    if let Holder::Other(leader) = lead(ctx, spec, client).await? {
        let nodes = nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(StepError::Skip(Skip::Waits { what: format!("{leader}, which leads, to remove {nodes}") }));
    }
    let mut notes = Vec::new();
    if spec.gone.iter().any(|gone| gone.revoked) {
        refuse::write(client, &spec.refused).await?;
    }
    for gone in spec.gone.iter().filter(|gone| nodes.contains(&gone.name)) {
        let object = dead(client, gone).await?;
        notes.extend(bury_member(ctx, client, etcd, gone).await?);
        if let Some(object) = object {
            delete(client, &object, gone.revoked).await?;
            notes.push(format!("the Node {} removed", gone.name));
        }
        match end_pods(client, gone).await? {
            0 => {}
            ended => notes.push(format!("{ended} pods of {} ended", gone.name)),
        }
    }
    Ok(Done { notes })
}

/// Its Node, if there is one; as long as it is Ready, this waits. Of one that was revoked nothing is believed.
async fn dead(client: &Client, gone: &Gone) -> Result<Option<Value>, StepError> {
    let object = api::find(client, &node::path(&gone.name)).await?;
    if !gone.revoked && object.as_ref().is_some_and(node::is_ready) {
        return Err(StepError::waits(format!("the cluster to notice that {} is gone", gone.name)));
    }
    Ok(object)
}

async fn bury_member(ctx: &Context, client: &Client, etcd: &Etcd, gone: &Gone) -> Result<Vec<String>, StepError> {
    if found(&etcd.members().await?, gone).is_empty() {
        return Ok(Vec::new());
    }
    let turn = join::take_turn(ctx, "removes a dead member from etcd").await?;
    let removed = async {
        // It may have taken minutes to get the turn.
        dead(client, gone).await?;
        let mut notes = Vec::new();
        for id in found(&etcd.members().await?, gone) {
            etcd.remove(id).await?;
            tracing::info!(id = format!("{id:x}"), node = gone.name, "the etcd member of a dead node was removed");
            notes.push(format!("etcd member {id:x} of {} removed", gone.name));
        }
        Ok(notes)
    };
    let removed = removed.await;
    turn.give().await;
    removed
}

fn found(members: &[Member], gone: &Gone) -> Vec<u64> {
    etcd::of_node(members, &gone.name, &gone.address).iter().map(|member| member.id).collect()
}

fn own_etcd(ctx: &Context) -> Result<Etcd, StepError> {
    Etcd::at(&*ctx.files, &etcd::client_url("127.0.0.1"))
}

/// Who leads, this node where that can be. Who was revoked leads no longer.
async fn lead(ctx: &Context, spec: &ClusterMemberSpec, client: &Client) -> Result<Holder, StepError> {
    let own = ctx.scope.node.as_str();
    let holder = lease::ensure(client, own, ctx.clock.now()).await?;
    let revoked = |leader: &String| spec.gone.iter().any(|gone| gone.revoked && gone.name == *leader);
    match &holder {
        Holder::Other(leader) if revoked(leader) => {
            lease::resign(client, leader).await?;
            Ok(lease::ensure(client, own, ctx.clock.now()).await?)
        }
        Holder::Other(_) | Holder::This | Holder::Nobody => Ok(holder),
    }
}

/// Pods that are bound to it and may end. Of a StatefulSet's there is one of each: it ends when the machine has, or two
/// would write.
async fn bound(client: &Client, gone: &Gone) -> Result<Vec<Value>, StepError> {
    let pods = api::get(client, &format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", gone.name)).await?;
    let only_one = |pod: &Value| {
        let owners = &pod["metadata"]["ownerReferences"];
        node::list(owners).any(|owner| owner["kind"] == "StatefulSet")
    };
    Ok(node::list(&pods["items"]).filter(|pod| !(gone.revoked && only_one(pod))).cloned().collect())
}

/// At once: who would have to end them is not there to be asked, or not to be asked.
async fn end_pods(client: &Client, gone: &Gone) -> Result<usize, StepError> {
    let pods = bound(client, gone).await?;
    for pod in &pods {
        let metadata = &pod["metadata"];
        let [namespace, name] = ["namespace", "name"].map(|key| metadata[key].as_str().unwrap_or_default());
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": metadata["uid"]},
        });
        api::delete(client, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), &options).await?;
    }
    Ok(pods.len())
}

/// What was read and nothing else: a node that came back has another UID. One that was revoked goes whatever was written to it
/// since.
async fn delete(client: &Client, object: &Value, revoked: bool) -> Result<(), StepError> {
    let metadata = &object["metadata"];
    let mut preconditions = json!({"uid": metadata["uid"]});
    if !revoked {
        preconditions["resourceVersion"] = metadata["resourceVersion"].clone();
    }
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
    let name = metadata["name"].as_str().unwrap_or_default();
    api::delete(client, &node::path(name), &options).await?;
    tracing::info!(node = name, "the Node of a dead node was deleted");
    Ok(())
}

#[cfg(test)]
mod tests;
