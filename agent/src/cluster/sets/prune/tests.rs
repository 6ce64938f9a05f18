//! Pruning against an API server in memory. The real one is asked in `agent/tests/api`.

use std::sync::Arc;

use muster_catalog::kinds::manifest::ManifestSpec;
use muster_ids::Generation;

use serde_json::Value;

use super::*;
use crate::{
    Scope,
    adapters::fake::{FakeCluster, FakeMachine},
    cluster::MANAGER,
};

/// A converge of generation 1.7, whose sets name these objects.
fn node(names: &[(&str, ObjectId)]) -> Context {
    let ctx = FakeMachine::new().node("n-1");
    let objects = names.iter().map(|(set, id)| ((*set).to_owned(), id.clone())).collect();
    let generation = Generation { epoch: 1, counter: 7 };
    Context { scope: Arc::new(Scope { generation, objects, ..(*ctx.scope).clone() }), ..ctx }
}

/// An API server that holds these objects by path.
fn server(objects: &[(String, Value)]) -> FakeCluster {
    let cluster = FakeCluster::default();
    for (path, object) in objects {
        cluster.put(path, object.clone());
    }
    cluster
}

/// What it was told to change, in order.
fn changed(cluster: &FakeCluster) -> Vec<String> {
    let short = |line: &String| {
        let (verb, path) = line.split_once(' ').unwrap_or_default();
        format!("{verb} {}", path.rsplit('/').next().unwrap_or_default())
    };
    cluster.changed().iter().map(short).collect()
}

fn id(version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
    let namespace = namespace.map(str::to_owned);
    ObjectId { api_version: version.into(), kind: kind.into(), namespace, name: name.into() }
}

fn object(kind: &str, name: &str, set: Option<&str>, generation: &str) -> Value {
    let mut metadata = json!({"name": name, "namespace": "shop", "uid": "u"});
    metadata["annotations"] = json!({marks::GENERATION: generation});
    metadata["managedFields"] = marks::managed(MANAGER);
    if let Some(set) = set {
        metadata["labels"] = json!({marks::SET: set});
    }
    json!({"kind": kind, "metadata": metadata})
}

fn resource(name: &str, kind: &str, namespaced: bool) -> Value {
    json!({"name": name, "kind": kind, "namespaced": namespaced, "verbs": ["get", "list"]})
}

const INVENTORIES: &str = "/api/v1/namespaces/kube-system/configmaps";

fn inventory_of(set: &str, ids: &[ObjectId]) -> (String, Value) {
    let list: Vec<Value> = ids
        .iter()
        .map(|id| json!({"apiVersion": id.api_version, "kind": id.kind, "namespace": id.namespace, "name": id.name}))
        .collect();
    (format!("{INVENTORIES}/muster-set-{set}"), json!({"data": {"objects": Value::Array(list).to_string()}}))
}

const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// A shop in a namespace of its own, beside what is in there.
fn shop(config_maps: &[Value]) -> Vec<(String, Value)> {
    let core = json!({"resources": [
        resource("namespaces", "Namespace", false), resource("configmaps", "ConfigMap", true), resource("pods", "Pod", true)]});
    let mut pod = object("Pod", "web-1", None, "");
    pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet"}]);
    [
        ("/api/v1", core),
        ("/apis", json!({"groups": [{"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}}]})),
        ("/apis/apps/v1", json!({"resources": [resource("deployments", "Deployment", true)]})),
        ("/api/v1/namespaces/shop", object("Namespace", "shop", Some("shop"), "1.6")),
        (WEB, object("Deployment", "web", Some("shop"), "1.6")),
        (
            "/apis/apps/v1/namespaces/shop/deployments",
            json!({"items": [object("Deployment", "web", Some("shop"), "1.6")]}),
        ),
        ("/api/v1/namespaces/shop/configmaps", json!({ "items": config_maps })),
        ("/api/v1/namespaces/shop/pods", json!({"items": [pod]})),
    ]
    .map(|(path, object)| (path.to_owned(), object))
    .into()
}

fn web() -> ObjectId {
    id("apps/v1", "Deployment", Some("shop"), "web")
}

fn ids() -> [ObjectId; 2] {
    [id("v1", "Namespace", None, "shop"), web()]
}

/// The set `shop` is no more.
fn gone() -> Prune {
    Prune::of([], ["shop".to_owned()].into())
}

/// Prunes what is left of the set `shop`, which is gone; its notes, and what was changed.
async fn go(
    mut objects: Vec<(String, Value)>,
    ids: &[ObjectId],
    names: &[(&str, ObjectId)],
) -> (Vec<String>, Vec<String>) {
    objects.push(inventory_of("shop", ids));
    let cluster = server(&objects);
    let (client, ctx) = (cluster.client(), node(names));
    let left = left(&ctx, &client, &gone()).await.unwrap();
    let notes = prune(&ctx, &client, &left).await.unwrap().notes;
    (notes, changed(&cluster))
}

fn usual() -> Value {
    object("ConfigMap", "kube-root-ca.crt", None, "")
}

#[tokio::test]
async fn workloads_go_first_their_namespace_last_and_then_the_inventory() {
    let (notes, changed) = go(shop(&[usual()]), &ids(), &[]).await;
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(changed, ["delete web", "delete shop", "delete muster-set-shop"]);
}

#[tokio::test]
async fn a_namespace_that_holds_anothers_object_stays() {
    let mine = object("ConfigMap", "mine", None, "");
    // Made of one of the set's, label and all.
    let copy = object("ConfigMap", "copy", Some("shop"), "1.6");
    for (guest, name) in [(mine, "mine"), (copy, "copy")] {
        let (notes, changed) = go(shop(&[usual(), guest]), &ids(), &[]).await;
        let why = format!("with it would go configmap shop/{name}, which shop does not take along");
        assert_eq!(notes, [format!("namespace shop left shop and is not deleted: {why}")]);
        assert_eq!(changed, ["delete web", "delete muster-set-shop"]);
    }
}

#[tokio::test]
async fn what_another_set_names_stays_and_so_does_its_namespace() {
    // It is not written yet: its label is still the old set's.
    let (notes, changed) = go(shop(&[usual()]), &ids(), &[("app-shop", web())]).await;
    assert_eq!(
        notes,
        ["namespace shop left shop and is not deleted: with it would go deployment shop/web of the set app-shop"]
    );
    assert_eq!(changed, ["delete muster-set-shop"]);
}

#[tokio::test]
async fn what_a_set_names_by_another_version_of_its_group_is_its_own() {
    let old = id("apps/v1beta1", "Deployment", Some("shop"), "web");
    let mut objects = shop(&[]);
    objects.push(inventory_of("shop", &[old]));
    let client = server(&objects).client();
    let prune = Prune::of([&ManifestSpec::set("shop", String::new())], BTreeSet::new());
    assert_eq!(left(&node(&[("shop", web())]), &client, &prune).await.unwrap(), Left::default());
}

#[tokio::test]
async fn an_object_whose_old_version_is_served_no_longer_is_found_by_the_new_one() {
    let old = id("apps/v1beta1", "Deployment", Some("shop"), "web");
    let mut objects = shop(&[]);
    objects.push(("/apis/apps".to_owned(), json!({"preferredVersion": {"groupVersion": "apps/v1"}})));
    let (_, changed) = go(objects, &[old], &[]).await;
    assert_eq!(changed, ["delete web", "delete muster-set-shop"]);
}

#[tokio::test]
async fn anothers_object_stays_and_a_newer_generations_waits() {
    let with =
        |live: Value| shop(&[]).into_iter().filter(|(path, _)| path != WEB).chain([(WEB.to_owned(), live)]).collect();
    for (live, why) in [
        (object("Deployment", "web", Some("other"), "1.6"), "it belongs to other by now"),
        (object("Deployment", "web", None, "1.6"), "its label muster.dev/set was taken off"),
    ] {
        let (notes, changed) = go(with(live), &[web()], &[]).await;
        assert_eq!(notes, [format!("deployment shop/web left shop and is not deleted: {why}")]);
        assert_eq!(changed, ["delete muster-set-shop"]);
    }
    let mut newer = with(object("Deployment", "web", Some("shop"), "1.8"));
    newer.push(inventory_of("shop", &[web()]));
    let cluster = server(&newer);
    let waits = left(&node(&[]), &cluster.client(), &gone()).await;
    assert!(matches!(waits, Err(StepError::Skip(_))), "{waits:?}");
    assert!(cluster.changed().is_empty());
}

#[tokio::test]
async fn what_was_there_before_is_let_go() {
    let mut live = object("Deployment", "web", Some("shop"), "1.6");
    live["metadata"]["annotations"][marks::ADOPTED] = json!("true");
    let objects = shop(&[]).into_iter().filter(|(path, _)| path != WEB).chain([(WEB.to_owned(), live)]).collect();
    let (notes, changed) = go(objects, &[web()], &[]).await;
    assert_eq!(notes, ["deployment shop/web left shop and is not deleted: it was there before"]);
    assert_eq!(changed, ["patch web", "delete muster-set-shop"]);
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
    let objects =
        vec![(format!("/apis/{group}"), list), (path, definition), ("/apis/home.dev/v1/lamps".to_owned(), lamps)];
    let ids = [id(group, "CustomResourceDefinition", None, name)];
    let (notes, changed) = go(objects.clone(), &ids, &[]).await;
    assert!(notes[0].contains("with it would go lamp desk"), "{notes:?}");
    assert_eq!(changed, ["delete muster-set-shop"]);
    let (notes, _) = go(objects, &ids, &[("home", id("home.dev/v1", "Lamp", Some("den"), "floor"))]).await;
    assert!(notes[0].contains("with it would go lamp den/floor of the set home"), "{notes:?}");
}

/// The Deployment, the only one of its set, as somebody else leaves it between the look and the deletion.
async fn meddled(between: impl FnOnce(&FakeCluster) + Send + 'static) -> (FakeCluster, Result<Done, StepError>) {
    let mut objects = shop(&[]);
    objects.push(inventory_of("shop", &[web()]));
    let cluster = server(&objects);
    let (client, ctx) = (cluster.client(), node(&[]));
    let left = left(&ctx, &client, &gone()).await.unwrap();
    cluster.before_the_next_change(between);
    let done = prune(&ctx, &client, &left).await;
    (cluster, done)
}

#[tokio::test]
async fn what_was_made_anew_under_a_name_is_not_what_was_decided_about() {
    // Without its UID as a precondition the deletion would take away what somebody else just made.
    let (cluster, done) = meddled(|cluster| {
        cluster.remove(WEB);
        cluster.put(WEB, object("Deployment", "web", None, ""));
    })
    .await;
    assert!(done.is_err(), "{done:?}");
    assert!(cluster.get(WEB).is_some(), "{:?}", cluster.changed());
    assert!(cluster.get(&inventory_of("shop", &[]).0).is_some(), "what cannot be deleted stays in its inventory");
}

#[tokio::test]
async fn what_was_taken_over_between_look_and_deletion_stays() {
    // The same object, whose label another set's owner changed: the version alone tells.
    let (cluster, done) = meddled(|cluster| {
        let mut live = cluster.get(WEB).expect("it is there");
        live["metadata"]["labels"][marks::SET] = json!("other");
        cluster.put(WEB, live);
    })
    .await;
    assert!(done.is_err(), "{done:?}");
    assert!(cluster.get(WEB).is_some(), "{:?}", cluster.changed());
}

#[tokio::test]
async fn what_a_controller_wrote_in_between_is_deleted_all_the_same() {
    let (cluster, done) = meddled(|cluster| {
        let mut live = cluster.get(WEB).expect("it is there");
        live["status"] = json!({"replicas": 1});
        cluster.put(WEB, live);
    })
    .await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(cluster.get(WEB), None);
}
