//! Sets of Kubernetes objects: read from YAML, ordered, named by path. Pure but for [`Kinds::discover`].

use std::collections::BTreeMap;

use base64::Engine as _;
use kube::Client;
use muster_catalog::kinds::manifest::{self, DocumentError, ObjectId};
use serde_json::{Value, json};

use super::api::{self, ApiError};

/// A value of a Secret that stands for a secret of the site.
pub const REFERENCE: &str = "muster-secret:";

/// Reads YAML documents, in the order in which they are applied.
pub fn parse(text: &str) -> Result<Vec<Value>, DocumentError> {
    let mut objects = manifest::documents(text)?;
    objects.sort_by_key(|object| rank(object["kind"].as_str().unwrap_or_default()));
    Ok(objects)
}

/// What others need comes first.
pub fn rank(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "PriorityClass" | "StorageClass" | "RuntimeClass" | "ClusterRole" | "Role" | "ServiceAccount" => 2,
        "ClusterRoleBinding" | "RoleBinding" | "NetworkPolicy" | "ResourceQuota" | "LimitRange" => 3,
        "Secret" | "ConfigMap" | "PersistentVolume" => 4,
        "PersistentVolumeClaim" | "Service" => 5,
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" | "APIService" => 9,
        _workloads_and_custom => 7,
    }
}

/// The kinds that the API server serves.
#[derive(Debug, Default)]
pub struct Kinds(BTreeMap<(String, String), (String, bool)>);

impl Kinds {
    /// Asks for the groups that `objects` name. Groups that are not served are left out.
    pub async fn discover(client: &Client, api_versions: impl IntoIterator<Item = String>) -> Result<Self, ApiError> {
        let mut kinds = Self::default();
        let mut versions: Vec<String> = api_versions.into_iter().collect();
        versions.sort();
        versions.dedup();
        let asked = versions.iter().map(|version| async move {
            let path = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
            api::find(client, &path).await.map(|list| (version, list))
        });
        for (version, list) in futures::future::try_join_all(asked).await? {
            for resource in list.iter().flat_map(|list| list["resources"].as_array()).flatten() {
                let (Some(name), Some(kind)) = (resource["name"].as_str(), resource["kind"].as_str()) else { continue };
                // `deployments/scale` is a part, not a kind of its own.
                if !name.contains('/') {
                    let namespaced = resource["namespaced"].as_bool().unwrap_or_default();
                    kinds.0.insert((version.clone(), kind.to_owned()), (name.to_owned(), namespaced));
                }
            }
        }
        Ok(kinds)
    }

    fn get(&self, api_version: &str, kind: &str) -> Option<&(String, bool)> {
        self.0.get(&(api_version.to_owned(), kind.to_owned()))
    }

    /// The object's name; with the namespace `default` where its kind has one and it says none. A kind that is not
    /// served keeps what it says.
    pub fn id(&self, object: &Value) -> ObjectId {
        let mut id = ObjectId::of(object);
        id.namespace = match self.get(&id.api_version, &id.kind) {
            Some((_, true)) => Some(id.namespace.unwrap_or_else(|| "default".to_owned())),
            Some((_, false)) => None,
            None => id.namespace,
        };
        id
    }

    /// The object's path; none where its kind is not served.
    pub fn path(&self, id: &ObjectId) -> Option<String> {
        let (plural, namespaced) = self.get(&id.api_version, &id.kind)?;
        let root = if id.api_version.contains('/') { "apis" } else { "api" };
        let scope = match &id.namespace {
            Some(namespace) if *namespaced => format!("namespaces/{namespace}/"),
            Some(_) | None => String::new(),
        };
        Some(format!("/{root}/{}/{scope}{plural}/{}", id.api_version, id.name))
    }

    /// The path of the collection that the object is in; none where its kind is not served.
    pub fn collection(&self, id: &ObjectId) -> Option<String> {
        let path = self.path(id)?;
        path.rsplit_once('/').map(|(collection, _)| collection.to_owned())
    }

    /// The kind's name in paths; none where it is not served.
    pub fn plural(&self, api_version: &str, kind: &str) -> Option<String> {
        self.get(api_version, kind).map(|(plural, _)| plural.clone())
    }
}

/// The names of the site's secrets that a Secret refers to.
pub fn references(object: &Value) -> Vec<String> {
    if object["kind"] != "Secret" {
        return Vec::new();
    }
    ["data", "stringData"]
        .iter()
        .filter_map(|table| object[*table].as_object())
        .flat_map(|table| table.values())
        .filter_map(|value| value.as_str()?.strip_prefix(REFERENCE))
        .map(str::to_owned)
        .collect()
}

/// Puts the secrets' values in the place of their names. What stands as text goes into `data`, too: the API server forgets
/// who wrote it there, and would keep a key that left the text.
pub fn resolve(object: &mut Value, secrets: &BTreeMap<String, Vec<u8>>) {
    if object["kind"] != "Secret" {
        return;
    }
    let encode = |bytes: &[u8]| json!(base64::engine::general_purpose::STANDARD.encode(bytes));
    let mut resolved = Vec::new();
    for (table, is_text) in [("data", false), ("stringData", true)] {
        let Some(table) = object[table].as_object_mut() else { continue };
        table.retain(|key, value| {
            let Some(text) = value.as_str() else { return true };
            match text.strip_prefix(REFERENCE) {
                Some(name) => resolved.extend(secrets.get(name).map(|bytes| (key.clone(), encode(bytes)))),
                None if is_text => resolved.push((key.clone(), encode(text.as_bytes()))),
                None => return true,
            }
            false
        });
    }
    if let Some(table) = object.as_object_mut()
        && table.get("stringData").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
    {
        table.remove("stringData");
    }
    for (key, value) in resolved {
        object["data"][key] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Kinds {
        let entries = [
            ("v1", "Secret", "secrets", true),
            ("v1", "Namespace", "namespaces", false),
            ("apps/v1", "Deployment", "deployments", true),
        ];
        Kinds(entries.iter().map(|(v, k, p, n)| (((*v).into(), (*k).into()), ((*p).into(), *n))).collect())
    }

    const TEXT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: shop}, data: {A: 'muster-secret:a', B: Qg==}}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
";

    #[test]
    fn documents_are_read_and_ordered() {
        let objects = parse(TEXT).unwrap();
        let kinds: Vec<_> = objects.iter().map(|o| o["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Namespace", "Secret", "Deployment"]);
        assert!(matches!(parse("a: ["), Err(DocumentError::Yaml { number: 1, .. })));
        assert!(matches!(parse("kind: Pod"), Err(DocumentError::NoObject { number: 1 })));
    }

    #[test]
    fn paths_follow_from_what_is_served() {
        let objects = parse(TEXT).unwrap();
        let paths: Vec<_> = objects.iter().map(|o| kinds().path(&kinds().id(o)).unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/api/v1/namespaces/shop",
                "/api/v1/namespaces/shop/secrets/keys",
                "/apis/apps/v1/namespaces/shop/deployments/web"
            ]
        );
        let unknown = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "n"}});
        assert_eq!(kinds().path(&kinds().id(&unknown)), None);
    }

    #[test]
    fn secrets_come_in_by_name_and_never_show() {
        let mut secret = parse(TEXT).unwrap().remove(1);
        assert_eq!(references(&secret), ["a"]);
        let before = secret.clone();
        resolve(&mut secret, &[("a".to_owned(), b"hunter2".to_vec())].into());
        assert_eq!(secret["data"], json!({"A": "aHVudGVyMg==", "B": "Qg=="}));
        let mut text = json!({"kind": "Secret", "data": {"A": "Qg=="}, "stringData": {"A": "hunter2", "C": 5}});
        resolve(&mut text, &BTreeMap::new());
        assert_eq!(text, json!({"kind": "Secret", "data": {"A": "aHVudGVyMg=="}, "stringData": {"C": 5}}));
        let lines = crate::cluster::differences::of(&before, &secret);
        assert_eq!(lines, ["~ data.A"]);
    }
}
