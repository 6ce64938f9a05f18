//! What the API server refuses: it stops itself and what needs it, and is told with the API server's words.

use serde_json::{Value, json};

use crate::lab::{Node, detail, failure, rows, set, site};

fn object(version: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> String {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    format!("---\n{object}\n")
}

fn namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn config(namespace: &str, name: &str, data: Value) -> String {
    object("v1", "ConfigMap", namespace, name, json!({ "data": data }))
}

fn definition(plural: &str, kind: &str, group: &str, scope: &str) -> String {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"watts": {"type": "integer"}}}}});
    let spec = json!({
        "group": group, "scope": scope, "names": {"plural": plural, "kind": kind, "singular": kind.to_lowercase()},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
    });
    let metadata = json!({"name": format!("{plural}.{group}")});
    let kind = "CustomResourceDefinition";
    format!(
        "---\n{}\n",
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
    )
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn one_refused_object_stops_itself_and_what_needs_it() {
    let node = Node::new();
    let bad = object("v1", "Service", "one", "bad", json!({"spec": {"ports": [{"port": 99999}]}}));
    let text = namespace("one")
        + &config("one", "good", json!({"a": "b"}))
        + &bad
        + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: Wrong_Name}\n"
        + &config("Wrong_Name", "there", json!({}))
        + &definition("lamps", "Lamp", "x", "Namespaced").replace("lamps.x", "wrong.name")
        + &object("x/v1", "Lamp", "one", "desk", json!({}));
    let catalog = site(vec![set("one", &text)], &[]);
    assert!(rows(&node.plan(&catalog).await, "one").contains(&"+ namespace one".to_owned()));
    let report = node.converge(&catalog).await;
    let (error, _, retry) = failure(&report, "one");
    assert!(!retry, "{error}");
    assert!(error.starts_with("3 objects are refused: "), "{error}");
    assert!(error.contains("service one/bad: ") && error.contains("99999"), "{error}");
    assert!(error.contains("configmap Wrong_Name/there waits for namespace Wrong_Name"), "{error}");
    assert!(error.contains("lamp one/desk waits for customresourcedefinition wrong.name"), "{error}");
    assert!(node.find("/api/v1/namespaces/one/configmaps/good").await.is_some());
    // Somebody's change of what is right is put back all the same.
    node.patch("kubectl-edit", "/api/v1/namespaces/one/configmaps/good", &json!({"data": {"a": "evil"}})).await;
    node.converge(&catalog).await;
    assert_eq!(node.get("/api/v1/namespaces/one/configmaps/good").await["data"]["a"], "b");
    node.settle(&site(vec![set("one", &(namespace("one") + &config("one", "good", json!({"a": "b"}))))], &[])).await;
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn a_definition_and_what_it_defines_are_one_converge() {
    let node = Node::new();
    let lamp = json!({"apiVersion": "home.dev/v1", "kind": "Lamp", "metadata": {"name": "desk"}, "spec": {"watts": 4}});
    // Its namespace is not written, and whether it has one is known only after the definition.
    let text = format!("---\n{lamp}\n") + &definition("lamps", "Lamp", "home.dev", "Namespaced");
    node.settle(&site(vec![set("lamps", &text)], &[])).await;
    assert!(node.find("/apis/home.dev/v1/namespaces/default/lamps/desk").await.is_some());
    // One of the cluster, which two sets name by two namespaces.
    let sun = |namespace: &str| {
        let metadata = json!({"name": "sun", "namespace": namespace});
        format!("---\n{}\n", json!({"apiVersion": "sky.dev/v1", "kind": "Star", "metadata": metadata}))
    };
    let stars = definition("stars", "Star", "sky.dev", "Cluster");
    node.settle(&site(vec![set("sky", &(stars.clone() + &sun("a")))], &[])).await;
    let report =
        node.converge(&site(vec![set("sky", &(stars.clone() + &sun("a"))), set("sky-2", &sun("b"))], &[])).await;
    assert_eq!(failure(&report, "sky").0, "star sun: it stands in sky-2, too");
    assert_eq!(failure(&report, "sky-2").0, "star sun: it stands in sky, too");
    // All of it goes, the objects before their definitions.
    node.settle(&site(vec![], &["lamps", "sky", "sky-2"])).await;
    node.gone("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lamps.home.dev").await;
}

fn pods(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}})
}

fn always(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "a", "image": "a"}]}})
}

/// Objects with a field that cannot be changed, before and after its change.
fn unchangeable(ns: &str) -> Vec<(&'static str, String, [String; 2])> {
    let of = |version: &str, kind: &str, a: Value, b: Value| [a, b].map(|rest| object(version, kind, ns, "a", rest));
    let deployment = |app: &str| json!({"spec": {"selector": {"matchLabels": {"app": app}}, "template": always(app)}});
    let service = |ip: &str| json!({"spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
    let stateful = |service: &str| json!({"spec": {"serviceName": service, "selector": {"matchLabels": {"app": "a"}}, "template": always("a")}});
    let binding =
        |role: &str| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}});
    let rbac = "rbac.authorization.k8s.io/v1";
    let at = |path: &str| path.replace("NS", ns);
    vec![
        (
            "Job",
            at("/apis/batch/v1/namespaces/NS/jobs/a"),
            of("batch/v1", "Job", json!({"spec": {"template": pods("a")}}), json!({"spec": {"template": pods("b")}})),
        ),
        (
            "Deployment",
            at("/apis/apps/v1/namespaces/NS/deployments/a"),
            of("apps/v1", "Deployment", deployment("a"), deployment("b")),
        ),
        (
            "Service",
            at("/api/v1/namespaces/NS/services/a"),
            of("v1", "Service", service("10.96.77.1"), service("10.96.77.2")),
        ),
        (
            "StatefulSet",
            at("/apis/apps/v1/namespaces/NS/statefulsets/a"),
            of("apps/v1", "StatefulSet", stateful("a"), stateful("b")),
        ),
        (
            "RoleBinding",
            at("/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings/a"),
            of(rbac, "RoleBinding", binding("a"), binding("b")),
        ),
        (
            "Secret",
            at("/api/v1/namespaces/NS/secrets/a"),
            of("v1", "Secret", json!({"type": "Opaque"}), json!({"type": "example.org/other"})),
        ),
        (
            "ConfigMap",
            at("/api/v1/namespaces/NS/configmaps/a"),
            of(
                "v1",
                "ConfigMap",
                json!({"immutable": true, "data": {"a": "1"}}),
                json!({"immutable": true, "data": {"a": "2"}}),
            ),
        ),
    ]
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn what_cannot_be_changed_is_replaced_only_where_the_site_says_so() {
    let node = Node::new();
    let ns = namespace("fixed");
    let good = |value: &str| config("fixed", "good", json!({ "a": value }));
    for (kind, path, [before, after]) in unchangeable("fixed") {
        node.settle(&site(vec![set("fixed", &(ns.clone() + &good("1") + &before))], &[])).await;
        let uid = node.get(&path).await["metadata"]["uid"].clone();
        let report = node.converge(&site(vec![set("fixed", &(ns.clone() + &good("2") + &after))], &[])).await;
        let (error, help, retry) = failure(&report, "fixed");
        assert!(error.starts_with(&format!("{} fixed/a: ", kind.to_lowercase())), "{error}");
        assert!(help.contains(&format!("replace = [\"{kind}\"]")) && !retry, "{error}\n{help}");
        assert_eq!(node.get("/api/v1/namespaces/fixed/configmaps/good").await["data"]["a"], "2", "the others go on");
        assert_eq!(node.get(&path).await["metadata"]["uid"], uid);

        let allowed = site(vec![set("fixed", &(ns.clone() + &good("2") + &after)).replace(&[kind])], &[]);
        let planned = rows(&node.plan(&allowed).await, "fixed");
        assert!(planned[0].starts_with(&format!("-/+ {} fixed/a is replaced: ", kind.to_lowercase())), "{planned:?}");
        let report = node.settle(&allowed).await;
        assert_eq!(detail(&report, "fixed"), planned);
        assert_ne!(node.get(&path).await["metadata"]["uid"], uid, "{kind}");
        node.settle(&site(vec![set("fixed", &ns)], &[])).await;
        node.gone(&path).await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn what_holds_data_is_never_replaced() {
    let node = Node::new();
    let ns = namespace("kept");
    let claim = |mode: &str| {
        let spec = json!({"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}});
        object("v1", "PersistentVolumeClaim", "kept", "a", json!({ "spec": spec }))
    };
    let stateful = |service: &str| {
        let policy = json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
        let spec = json!({"serviceName": service, "selector": {"matchLabels": {"app": "a"}}, "template": always("a"),
            "persistentVolumeClaimRetentionPolicy": policy});
        object("apps/v1", "StatefulSet", "kept", "b", json!({ "spec": spec }))
    };
    let text = |mode: &str, service: &str| ns.clone() + &claim(mode) + &stateful(service);
    node.settle(&site(vec![set("kept", &text("ReadWriteOnce", "a"))], &[])).await;
    let paths = ["/api/v1/namespaces/kept/persistentvolumeclaims/a", "/apis/apps/v1/namespaces/kept/statefulsets/b"];
    let uids =
        [node.get(paths[0]).await["metadata"]["uid"].clone(), node.get(paths[1]).await["metadata"]["uid"].clone()];
    for (mode, service, words) in [("ReadWriteMany", "a", "never deleted"), ("ReadWriteOnce", "b", "Retain")] {
        let changed = set("kept", &text(mode, service)).replace(&["PersistentVolumeClaim", "StatefulSet"]);
        let report = node.converge(&site(vec![changed], &[])).await;
        let (error, help, _) = failure(&report, "kept");
        assert!(help.contains(words), "{error}\n{help}");
        for (path, uid) in paths.iter().zip(&uids) {
            assert_eq!(node.get(path).await["metadata"]["uid"], *uid);
        }
    }
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn an_agent_killed_at_each_call_of_a_replacement_ends_it_the_next_time() {
    let node = Node::new();
    let ns = namespace("again");
    let job =
        |image: &str| ns.clone() + &object("batch/v1", "Job", "again", "a", json!({"spec": {"template": pods(image)}}));
    let site = |image: &str| site(vec![set("again", &job(image)).replace(&["Job"])], &[]);
    node.settle(&site("a")).await;
    let (mut questions, mut images) = (0, ["b", "a"].into_iter().cycle());
    loop {
        let image = images.next().unwrap();
        let catalog = site(image);
        let killed = node.killed_after(&catalog, questions).await;
        node.settle(&catalog).await;
        let live = node.get("/apis/batch/v1/namespaces/again/jobs/a").await;
        assert_eq!(live.pointer("/spec/template/spec/containers/0/image"), Some(&json!(image)), "after {questions}");
        if !killed {
            break;
        }
        questions += 1;
    }
    assert!(questions > 10, "only {questions} questions were asked: the test tests nothing");
}
