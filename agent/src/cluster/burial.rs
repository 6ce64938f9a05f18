//! What the cluster still has of nodes that died: nobody else can take it away.
//!
//! A node that leaves does it all by itself ([`super::leave`]). One whose instance is gone cannot: its vote would count in
//! etcd for ever, and its Node object would stay. The coordinator proved by two readings of the provider that the instance
//! does not exist, and named it in the catalogs of the control planes; the one that leads removes what is left. As long
//! as kubelet's last words are believed (Ready), nothing is done: either the cluster has not noticed yet, or the node
//! lives.

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
    node,
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
        if member || api::find(&client, &node::path(&gone.name)).await?.is_some() {
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
    if let Holder::Other(leader) = lease::ensure(client, ctx.scope.node.as_str(), ctx.clock.now()).await? {
        let nodes = nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(StepError::Skip(Skip::Waits { what: format!("{leader}, which leads, to remove {nodes}") }));
    }
    let mut notes = Vec::new();
    for gone in spec.gone.iter().filter(|gone| nodes.contains(&gone.name)) {
        let object = dead(client, gone).await?;
        notes.extend(bury_member(ctx, client, etcd, gone).await?);
        if let Some(object) = object {
            delete(client, &object).await?;
            notes.push(format!("the Node {} removed", gone.name));
        }
    }
    Ok(Done { notes })
}

/// Its Node, if there is one; as long as it is Ready, this waits.
async fn dead(client: &Client, gone: &Gone) -> Result<Option<Value>, StepError> {
    let object = api::find(client, &node::path(&gone.name)).await?;
    if object.as_ref().is_some_and(node::is_ready) {
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

/// What was read and nothing else: a node that came back has another UID.
async fn delete(client: &Client, object: &Value) -> Result<(), StepError> {
    let metadata = &object["metadata"];
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
    });
    let name = metadata["name"].as_str().unwrap_or_default();
    api::delete(client, &node::path(name), &options).await?;
    tracing::info!(node = name, "the Node of a dead node was deleted");
    Ok(())
}

#[cfg(test)]
mod tests;
