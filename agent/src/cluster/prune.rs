//! Deleting what left a set, and nothing else.
//!
//! What others need goes last, as it came first. An object goes with its UID and version as preconditions, and only where
//! its label says that it is this set's and no newer generation wrote it. A namespace or a definition of a kind that takes
//! others' objects along stays. So does what was there before a set named it: it is let go.

use std::{cmp::Reverse, collections::BTreeSet};

use kube::Client;
use muster_ids::Generation;
use muster_plan::kinds::manifest::ObjectId;
use serde_json::{Value, json};

use super::{
    api::{self, ApiError},
    objects::{self, Kinds},
};
use crate::{StepError, kinds::manifest::of};

/// Deletes the objects of `set` named. What is left alone, and why, one line each.
pub async fn prune(
    client: &Client,
    set: &str,
    ids: &BTreeSet<ObjectId>,
    generation: Generation,
) -> Result<Vec<String>, StepError> {
    let kinds = Kinds::discover(client, ids.iter().map(|id| id.api_version.clone())).await?;
    let mut ordered: Vec<&ObjectId> = ids.iter().collect();
    ordered.sort_by_key(|id| Reverse(objects::rank(&id.kind)));
    let mut notes = Vec::new();
    for id in ordered {
        // A kind that is no longer served took its objects along.
        let Some(path) = kinds.path(id) else { continue };
        let Some(live) = api::find(client, &path).await.map_err(|error| of(id, error))? else { continue };
        match keep(client, set, &live, generation).await.map_err(|error| of(id, error))? {
            Some(why) => notes.push(format!("{id} left the set and is not deleted: {why}")),
            None if objects::adopted(&live) => {
                release(client, &path, &live).await.map_err(|error| of(id, error))?;
                notes.push(format!("{id} left the set and is not deleted: it was there before"));
            }
            None => delete(client, &path, &live).await.map_err(|error| of(id, error))?,
        }
    }
    Ok(notes)
}

/// Takes our marks off, and leaves the object as it is.
async fn release(client: &Client, path: &str, live: &Value) -> Result<(), ApiError> {
    let patch = json!({"metadata": {
        "resourceVersion": live["metadata"]["resourceVersion"],
        "labels": {objects::SET: null},
        "annotations": {objects::GENERATION: null, objects::ADOPTED: null},
    }});
    api::merge(client, path, &patch).await.map(drop)
}

async fn delete(client: &Client, path: &str, live: &Value) -> Result<(), ApiError> {
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        "preconditions": {"uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"]},
    });
    api::delete(client, path, &options).await
}

/// Why an object stays; none: it goes.
async fn keep(client: &Client, set: &str, live: &Value, generation: Generation) -> Result<Option<String>, ApiError> {
    if live["metadata"]["labels"][objects::SET] != set {
        return Ok(Some("it belongs to another by now".to_owned()));
    }
    if let Some(newer) = objects::generation_of(live).filter(|by| *by > generation) {
        return Ok(Some(format!("generation {newer} wrote it")));
    }
    let guest = match live["kind"].as_str() {
        Some("Namespace") => in_namespace(client, set, live["metadata"]["name"].as_str().unwrap_or_default()).await?,
        Some("CustomResourceDefinition") => of_definition(client, set, live).await?,
        Some(_) | None => None,
    };
    Ok(guest.map(|guest| format!("with it would go {guest}, which this set did not bring")))
}

/// The first object of a namespace that is not the set's, nor made by Kubernetes for what is.
async fn in_namespace(client: &Client, set: &str, namespace: &str) -> Result<Option<String>, ApiError> {
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
                if let Some(name) = guest(client, set, &path, kind).await? {
                    return Ok(Some(format!("{} {namespace}/{name}", kind.to_lowercase())));
                }
            }
        }
    }
    Ok(None)
}

/// The first object of a defined kind that is not the set's.
async fn of_definition(client: &Client, set: &str, definition: &Value) -> Result<Option<String>, ApiError> {
    let spec = &definition["spec"];
    let mut versions = spec["versions"].as_array().into_iter().flatten();
    let served = versions.find(|version| version["served"] == true).and_then(|version| version["name"].as_str());
    let (Some(version), Some(group), Some(plural)) = (served, spec["group"].as_str(), spec["names"]["plural"].as_str())
    else {
        return Ok(None);
    };
    let kind = spec["names"]["kind"].as_str().unwrap_or_default();
    let name = guest(client, set, &format!("/apis/{group}/{version}/{plural}"), kind).await?;
    Ok(name.map(|name| format!("{} {name}", kind.to_lowercase())))
}

/// The name of the first object in a list that nobody owns and that is not the set's.
async fn guest(client: &Client, set: &str, path: &str, kind: &str) -> Result<Option<String>, ApiError> {
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
            !owned && !usual && metadata["labels"][objects::SET] != set
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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Method, Request, Response};
    use kube::client::Body;

    use super::*;

    const HERE: Generation = Generation { epoch: 1, counter: 7 };

    /// An API server that holds these objects by path; what it was told to delete, in order.
    fn server(objects: &[(&str, Value)]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let held: BTreeMap<String, String> = objects.iter().map(|(p, o)| ((*p).to_owned(), o.to_string())).collect();
        let deleted = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&deleted);
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let (code, body) = match held.get(&path) {
                Some(object) => (200, object.clone()),
                None => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": path})
                        .to_string(),
                ),
            };
            if request.method() == Method::DELETE {
                told.lock().unwrap().push(path);
            } else if request.method() == Method::PATCH {
                told.lock().unwrap().push(format!("released {path}"));
            }
            let response = Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(response) }
        });
        (Client::new(service, "default"), deleted)
    }

    fn id(version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
        let namespace = namespace.map(str::to_owned);
        ObjectId { api_version: version.into(), kind: kind.into(), namespace, name: name.into() }
    }

    fn object(kind: &str, name: &str, set: Option<&str>, generation: &str) -> Value {
        let mut metadata = json!({"name": name, "uid": "u", "annotations": {objects::GENERATION: generation}});
        if let Some(set) = set {
            metadata["labels"] = json!({objects::SET: set});
        }
        json!({"kind": kind, "metadata": metadata})
    }

    fn resource(name: &str, kind: &str, namespaced: bool) -> Value {
        json!({"name": name, "kind": kind, "namespaced": namespaced, "verbs": ["get", "list"]})
    }

    /// A shop in a namespace of its own, beside what is in there.
    fn shop(config_maps: &[Value]) -> Vec<(&'static str, Value)> {
        let core = json!({"resources": [
            resource("namespaces", "Namespace", false), resource("configmaps", "ConfigMap", true), resource("pods", "Pod", true)]});
        let mut pod = object("Pod", "web-1", None, "");
        pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet"}]);
        vec![
            ("/api/v1", core),
            ("/apis", json!({"groups": [{"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}}]})),
            ("/apis/apps/v1", json!({"resources": [resource("deployments", "Deployment", true)]})),
            ("/api/v1/namespaces/shop", object("Namespace", "shop", Some("shop"), "1.6")),
            ("/apis/apps/v1/namespaces/shop/deployments/web", object("Deployment", "web", Some("shop"), "1.6")),
            (
                "/apis/apps/v1/namespaces/shop/deployments",
                json!({"items": [object("Deployment", "web", Some("shop"), "1.6")]}),
            ),
            ("/api/v1/namespaces/shop/configmaps", json!({"items": config_maps})),
            ("/api/v1/namespaces/shop/pods", json!({"items": [pod]})),
        ]
    }

    fn ids() -> BTreeSet<ObjectId> {
        [id("apps/v1", "Deployment", Some("shop"), "web"), id("v1", "Namespace", None, "shop")].into()
    }

    #[tokio::test]
    async fn workloads_go_first_and_their_namespace_last() {
        let (client, deleted) = server(&shop(&[object("ConfigMap", "kube-root-ca.crt", None, "")]));
        assert_eq!(prune(&client, "shop", &ids(), HERE).await.unwrap(), Vec::<String>::new());
        let deleted = deleted.lock().unwrap().clone();
        assert_eq!(deleted, ["/apis/apps/v1/namespaces/shop/deployments/web", "/api/v1/namespaces/shop"]);
    }

    #[tokio::test]
    async fn a_namespace_that_holds_anothers_object_stays() {
        let (client, deleted) = server(&shop(&[object("ConfigMap", "mine", None, "")]));
        let notes = prune(&client, "shop", &ids(), HERE).await.unwrap();
        assert_eq!(
            notes,
            [
                "namespace shop left the set and is not deleted: with it would go configmap shop/mine, which this set did not bring"
            ]
        );
        assert_eq!(*deleted.lock().unwrap(), ["/apis/apps/v1/namespaces/shop/deployments/web"]);
    }

    #[tokio::test]
    async fn anothers_object_and_a_newer_generations_stay() {
        let path = "/apis/apps/v1/namespaces/shop/deployments/web";
        for (live, why) in [
            (object("Deployment", "web", Some("other"), "1.6"), "it belongs to another by now"),
            (object("Deployment", "web", Some("shop"), "1.8"), "generation 1.8 wrote it"),
        ] {
            let list = json!({"resources": [resource("deployments", "Deployment", true)]});
            let (client, deleted) = server(&[("/apis/apps/v1", list), (path, live)]);
            let web = [id("apps/v1", "Deployment", Some("shop"), "web")].into();
            let notes = prune(&client, "shop", &web, HERE).await.unwrap();
            assert_eq!(notes, [format!("deployment shop/web left the set and is not deleted: {why}")]);
            assert!(deleted.lock().unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn what_was_there_before_is_let_go() {
        let path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
        let list = json!({"resources": [resource("deployments", "Deployment", true)]});
        let mut live = object("Deployment", "coredns", Some("dns"), "1.6");
        live["metadata"]["annotations"][objects::ADOPTED] = json!("true");
        let (client, deleted) = server(&[("/apis/apps/v1", list), (path, live)]);
        let ids = [id("apps/v1", "Deployment", Some("kube-system"), "coredns")].into();
        let notes = prune(&client, "dns", &ids, HERE).await.unwrap();
        let expected = "deployment kube-system/coredns left the set and is not deleted: it was there before";
        assert_eq!(notes, [expected]);
        assert_eq!(*deleted.lock().unwrap(), [format!("released {path}")]);
    }

    #[tokio::test]
    async fn a_definition_stays_while_others_use_its_kind() {
        let (group, name) = ("apiextensions.k8s.io/v1", "lamps.home.dev");
        let path = format!("/apis/{group}/customresourcedefinitions/{name}");
        let mut definition = object("CustomResourceDefinition", name, Some("shop"), "1.6");
        definition["spec"] = json!({"group": "home.dev", "names": {"kind": "Lamp", "plural": "lamps"},
            "versions": [{"name": "v1alpha1", "served": false}, {"name": "v1", "served": true}]});
        let list = json!({"resources": [resource("customresourcedefinitions", "CustomResourceDefinition", false)]});
        let lamps = json!({"items": [object("Lamp", "desk", None, "")]});
        let (client, deleted) =
            server(&[(&format!("/apis/{group}"), list), (&path, definition), ("/apis/home.dev/v1/lamps", lamps)]);
        let ids = [id(group, "CustomResourceDefinition", None, name)].into();
        let notes = prune(&client, "shop", &ids, HERE).await.unwrap();
        assert!(notes[0].contains("with it would go lamp desk"), "{notes:?}");
        assert!(deleted.lock().unwrap().is_empty());
    }
}
