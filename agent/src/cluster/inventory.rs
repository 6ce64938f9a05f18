//! What a set of objects held when it was last applied: a ConfigMap in `kube-system`, so that every control plane knows
//! what is to be deleted, whoever leads.

use std::collections::BTreeSet;

use kube::Client;
use muster_plan::kinds::manifest::ObjectId;
use serde_json::{Value, json};

use super::api;
use crate::StepError;

fn path(set: &str) -> String {
    format!("/api/v1/namespaces/kube-system/configmaps/muster-set-{set}")
}

/// What the set held when it was last applied; none: never, or it was deleted since.
pub async fn read(client: &Client, set: &str) -> Result<Option<BTreeSet<ObjectId>>, StepError> {
    let Some(map) = api::find(client, &path(set)).await? else { return Ok(None) };
    let list: Vec<Value> = serde_json::from_str(map["data"]["objects"].as_str().unwrap_or("[]"))
        .map_err(|error| StepError::failed(format!("the inventory muster-set-{set} cannot be read")).because(error))?;
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

/// Keeps what the set holds.
pub async fn write(client: &Client, set: &str, ids: &BTreeSet<ObjectId>) -> Result<(), StepError> {
    let list: Vec<Value> = ids
        .iter()
        .map(|id| json!({"apiVersion": id.api_version, "kind": id.kind, "namespace": id.namespace, "name": id.name}))
        .collect();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("muster-set-{set}"), "namespace": "kube-system"},
        "data": {"objects": Value::Array(list).to_string()},
    });
    api::apply(client, &path(set), &map).await?;
    Ok(())
}

/// The set is no more.
pub async fn forget(client: &Client, set: &str) -> Result<(), StepError> {
    Ok(api::delete(client, &path(set), &json!({})).await?)
}
