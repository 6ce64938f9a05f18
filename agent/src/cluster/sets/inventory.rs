//! What a set of objects held when it was last applied: a ConfigMap in `kube-system`, so that every control plane knows
//! what is to be deleted, whoever leads.

use std::collections::BTreeSet;

use kube::Client;
use muster_catalog::kinds::manifest::ObjectId;
use muster_ids::Generation;
use serde_json::{Value, json};

use super::marks;
use crate::{StepError, cluster::api};

fn path(set: &str) -> String {
    format!("/api/v1/namespaces/kube-system/configmaps/muster-set-{set}")
}

/// What the set may have left in the cluster; none: it was never applied, or it was deleted since.
pub async fn read(client: &Client, set: &str) -> Result<Option<BTreeSet<ObjectId>>, StepError> {
    let Some(map) = api::find(client, &path(set)).await? else { return Ok(None) };
    let list: Vec<Value> = serde_json::from_str(map["data"]["objects"].as_str().unwrap_or("[]")).map_err(|error| {
        StepError::failed(format!("the inventory kube-system/muster-set-{set} cannot be read"))
            .help("put it back from a backup; deleted, what left the set stays in the cluster for good")
            .because(error)
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Some(
        list.iter()
            .map(|entry| ObjectId {
                api_version: text(&entry["apiVersion"]),
                kind: text(&entry["kind"]),
                namespace: entry["namespace"].as_str().map(str::to_owned),
                name: text(&entry["name"]),
            })
            .collect(),
    ))
}

/// Keeps what the set holds. What a newer generation keeps is not ours to change.
pub async fn write(
    client: &Client,
    set: &str,
    ids: &BTreeSet<ObjectId>,
    generation: Generation,
) -> Result<(), StepError> {
    let list: Vec<Value> = ids
        .iter()
        .map(|id| json!({"apiVersion": id.api_version, "kind": id.kind, "namespace": id.namespace, "name": id.name}))
        .collect();
    let annotations = json!({marks::GENERATION: generation.to_string()});
    let mut map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("muster-set-{set}"), "namespace": "kube-system", "annotations": annotations},
        "data": {"objects": Value::Array(list).to_string()},
    });
    if let Some(live) = fenced(client, set, generation).await? {
        if live["data"] == map["data"] {
            return Ok(());
        }
        // What comes in between makes the write fail.
        map["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    }
    api::apply(client, &path(set), &map).await?;
    Ok(())
}

/// The set is no more.
pub async fn forget(client: &Client, set: &str, generation: Generation) -> Result<(), StepError> {
    match fenced(client, set, generation).await? {
        Some(live) => {
            let metadata = &live["metadata"];
            let conditions = json!({"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]});
            Ok(api::delete(client, &path(set), &json!({ "preconditions": conditions })).await?)
        }
        None => Ok(()),
    }
}

/// The inventory as it is, unless it is a newer generation's.
async fn fenced(client: &Client, set: &str, ours: Generation) -> Result<Option<Value>, StepError> {
    let live = api::find(client, &path(set)).await?;
    match live.as_ref().and_then(|live| marks::newer(live, ours)) {
        Some(newer) => Err(super::newer(&format!("the inventory of the set {set}"), newer, ours)),
        None => Ok(live),
    }
}
