//! What would go along with a namespace or with the definition of a kind, and is not a set's to delete.

use kube::Client;
use muster_catalog::kinds::manifest::ObjectId;
use serde_json::Value;

use super::marks;
use crate::{
    Context,
    cluster::api::{self, ApiError},
};

/// The first object that would go with a live one of `set`, and that does not go before it by itself.
pub(super) async fn of(
    ctx: &Context,
    client: &Client,
    set: &str,
    live: &Value,
    going: &[ObjectId],
) -> Result<Option<String>, ApiError> {
    let name = live["metadata"]["name"].as_str().unwrap_or_default();
    let whose = Whose { set, going };
    match live["kind"].as_str() {
        Some("Namespace") => {
            // A set may name an object there that is not written yet.
            let inside = |(_, id): &&(String, ObjectId)| id.namespace.as_deref() == Some(name);
            match ctx.scope.objects.iter().find(inside) {
                Some((of, id)) => Ok(Some(format!("{id} of the set {of}"))),
                None => in_namespace(client, &whose, name).await,
            }
        }
        Some("CustomResourceDefinition") => {
            let (group, kind) = (&live["spec"]["group"], &live["spec"]["names"]["kind"]);
            let named = |(_, id): &&(String, ObjectId)| *group == id.group() && *kind == id.kind;
            match ctx.scope.objects.iter().find(named) {
                Some((of, id)) => Ok(Some(format!("{id} of the set {of}"))),
                None => of_definition(client, &whose, live).await,
            }
        }
        Some(_) | None => Ok(None),
    }
}

/// A set that leaves, and the objects that go with it. A copy of one, with its label, is somebody's own.
struct Whose<'a> {
    set: &'a str,
    going: &'a [ObjectId],
}

impl Whose<'_> {
    fn guest(&self, kind: &str, name: &str) -> String {
        format!("{} {name}, which {} does not take along", kind.to_lowercase(), self.set)
    }
}

/// The first object of a namespace that does not go before it, nor was made by Kubernetes for what does.
async fn in_namespace(client: &Client, whose: &Whose<'_>, namespace: &str) -> Result<Option<String>, ApiError> {
    let groups = api::get(client, "/apis").await?;
    let versions = groups["groups"].as_array().into_iter().flatten().filter_map(|group| {
        // Readings and events of what is there anyhow.
        let told = matches!(group["name"].as_str(), Some("metrics.k8s.io" | "events.k8s.io"));
        let version = group["preferredVersion"]["groupVersion"].as_str().filter(|_| !told)?;
        Some(format!("/apis/{version}"))
    });
    for root in std::iter::once("/api/v1".to_owned()).chain(versions) {
        let list = api::get(client, &root).await?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let verbs = resource["verbs"].as_array().into_iter().flatten();
            let listed = resource["namespaced"] == true && verbs.into_iter().any(|verb| verb == "list");
            let (Some(plural), Some(kind)) = (resource["name"].as_str(), resource["kind"].as_str()) else { continue };
            if listed && !matches!(kind, "Event" | "Endpoints") {
                let path = format!("{root}/namespaces/{namespace}/{plural}");
                if let Some(name) = guest(client, whose, &path, kind).await? {
                    return Ok(Some(whose.guest(kind, &format!("{namespace}/{name}"))));
                }
            }
        }
    }
    Ok(None)
}

/// The first object of a defined kind that does not go before it.
async fn of_definition(client: &Client, whose: &Whose<'_>, definition: &Value) -> Result<Option<String>, ApiError> {
    let spec = &definition["spec"];
    let mut versions = spec["versions"].as_array().into_iter().flatten();
    let served = versions.find(|version| version["served"] == true).and_then(|version| version["name"].as_str());
    let (Some(version), Some(group), Some(plural)) = (served, spec["group"].as_str(), spec["names"]["plural"].as_str())
    else {
        return Ok(None);
    };
    let kind = spec["names"]["kind"].as_str().unwrap_or_default();
    let name = guest(client, whose, &format!("/apis/{group}/{version}/{plural}"), kind).await?;
    Ok(name.map(|name| whose.guest(kind, &name)))
}

/// The name of the first object in a list that nobody owns and that does not go before.
async fn guest(client: &Client, whose: &Whose<'_>, path: &str, kind: &str) -> Result<Option<String>, ApiError> {
    const PAGE: usize = 500;
    let mut token = String::new();
    loop {
        // A list of a kind that went away meanwhile holds nothing.
        let page = api::find(client, &format!("{path}?limit={PAGE}&continue={token}")).await?.unwrap_or_default();
        let found = page["items"].as_array().into_iter().flatten().find(|item| {
            let metadata = &item["metadata"];
            let owned = metadata["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty());
            // Kubernetes makes these in every namespace.
            let usual = matches!(
                (kind, metadata["name"].as_str()),
                ("ConfigMap", Some("kube-root-ca.crt")) | ("ServiceAccount", Some("default"))
            );
            let goes = whose.going.iter().any(|id| {
                id.kind == kind
                    && metadata["name"] == *id.name
                    && metadata["namespace"].as_str() == id.namespace.as_deref()
            });
            !owned && !usual && !goes && !marks::is_going(item)
        });
        if let Some(item) = found {
            return Ok(item["metadata"]["name"].as_str().map(str::to_owned));
        }
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            Some(_) | None => return Ok(None),
        }
    }
}
