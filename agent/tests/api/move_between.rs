//! Objects that leave a set, for another or for good: nothing that any set names is deleted.

use muster_catalog::kinds::manifest::ManifestSpec;
use muster_plan::{Outcome, Skip};
use serde_json::json;

use crate::lab::{Node, detail, failure, outcome, rows, set, site};

const LEFT: &str = ManifestSpec::PRUNE;

fn namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn claim(namespace: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data, namespace: {namespace}}}\n\
         spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n"
    )
}

fn config(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{a: b}}\n"
    )
}

/// A Service that no API server takes.
fn bad(namespace: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: bad, namespace: {namespace}}}\nspec: {{ports: [{{port: 99999}}]}}\n"
    )
}

fn claim_at(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/data")
}

fn config_at(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn a_claim_that_moves_between_sets_keeps_its_data() {
    let node = Node::new();
    let (ns, claim, old) = (namespace("move"), claim("move"), config("move", "old"));
    node.settle(&site(vec![set("move-a", &(ns.clone() + &claim + &old)), set("move-b", &config("move", "b"))], &[]))
        .await;
    let before = node.get(&claim_at("move")).await;

    // While its new set cannot be written whole, nothing goes.
    let broken = set("move-b", &(config("move", "b") + &claim + &bad("move")));
    let report = node.converge(&site(vec![set("move-a", &ns), broken], &[])).await;
    assert!(failure(&report, "move-b").0.contains("service move/bad: "), "{report:#?}");
    assert_eq!(outcome(&report, LEFT), &Outcome::Blocked { by: "manifest.move-b".parse().unwrap() });
    assert!(node.find(&config_at("move", "old")).await.is_some());

    let moved = site(vec![set("move-a", &ns), set("move-b", &(config("move", "b") + &claim))], &[]);
    let planned = rows(&node.plan(&moved).await, LEFT);
    node.asked();
    let report = node.converge(&moved).await;
    assert!(report.converged, "{report:#?}");
    let expected =
        ["= persistentvolumeclaim move/data (of move-a) is in move-b now", "- configmap move/old (of move-a)"];
    assert_eq!(
        (detail(&report, LEFT), planned),
        (expected.map(str::to_owned).into(), expected.map(str::to_owned).into())
    );
    let asked = node.asked();
    let last_write = asked
        .iter()
        .rposition(|line| line.starts_with("PATCH") && !line.contains("dryRun") && !line.contains("muster-set-"));
    let first_deletion = asked.iter().position(|line| line.starts_with("DELETE")).unwrap();
    assert!(last_write.is_none_or(|write| write < first_deletion), "{asked:#?}");
    node.settle(&moved).await;
    let after = node.get(&claim_at("move")).await;
    assert_eq!(
        (&after["metadata"]["uid"], &after["metadata"]["deletionTimestamp"]),
        (&before["metadata"]["uid"], &json!(null))
    );
    assert_eq!(after["metadata"]["labels"]["muster.dev/set"], "move-b");
    assert!(node.find(&config_at("move", "old")).await.is_none());
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn a_set_that_is_renamed_or_becomes_an_application_keeps_its_objects() {
    let node = Node::new();
    let text = namespace("rename") + &claim("rename") + &config("rename", "a");
    node.settle(&site(vec![set("rename-1", &text)], &[])).await;
    let before = node.get(&claim_at("rename")).await["metadata"]["uid"].clone();
    // Its name is a template: nobody says that the first one is no more.
    node.settle(&site(vec![set("rename-2", &text)], &[])).await;
    let report = node.settle(&site(vec![set("app-rename", &text)], &["rename-1", "rename-2"])).await;
    assert!(detail(&report, LEFT).iter().all(|line| line.starts_with("= ")), "{report:#?}");
    let after = node.get(&claim_at("rename")).await;
    assert_eq!((&after["metadata"]["uid"], &after["metadata"]["deletionTimestamp"]), (&before, &json!(null)));
    for gone in ["rename-1", "rename-2"] {
        assert!(node.find(&config_at("kube-system", &format!("muster-set-{gone}"))).await.is_none());
    }
    // And all of it goes with its last set.
    node.settle(&site(vec![], &["app-rename"])).await;
    node.gone("/api/v1/namespaces/rename").await;
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn a_namespace_that_another_set_still_uses_stays() {
    let node = Node::new();
    let both = vec![set("shared-base", &namespace("shared")), set("shared-web", &claim("shared"))];
    node.settle(&site(both, &[])).await;
    let report = node.settle(&site(vec![set("shared-web", &claim("shared"))], &["shared-base"])).await;
    let why = "with it would go persistentvolumeclaim shared/data of the set shared-web";
    assert_eq!(detail(&report, LEFT), [format!("= namespace shared (of shared-base) stays: {why}")]);
    assert!(node.get("/api/v1/namespaces/shared").await["metadata"]["deletionTimestamp"].is_null());
    // Two sets leave at once: first what is in the namespace, then the namespace.
    let both = vec![set("shared-base", &namespace("shared")), set("shared-web", &claim("shared"))];
    node.settle(&site(both, &[])).await;
    node.settle(&site(vec![], &["shared-base", "shared-web"])).await;
    node.gone("/api/v1/namespaces/shared").await;
}

/// The agent is killed at each question: the next converge ends as if nothing had been.
#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn an_agent_killed_at_each_call_of_a_move_loses_nothing() {
    let node = Node::new();
    let ns = namespace("kill");
    let before = || {
        site(
            vec![
                set("kill-a", &(ns.clone() + &claim("kill") + &config("kill", "old"))),
                set("kill-b", &config("kill", "b")),
            ],
            &[],
        )
    };
    let after = || {
        site(
            vec![set("kill-a", &ns), set("kill-b", &(config("kill", "b") + &claim("kill") + &config("kill", "new")))],
            &[],
        )
    };
    node.settle(&before()).await;
    let uid = node.get(&claim_at("kill")).await["metadata"]["uid"].clone();
    let mut questions = 0;
    loop {
        let catalog = after();
        let killed = node.killed_after(&catalog, questions).await;
        node.settle(&catalog).await;
        let live = node.get(&claim_at("kill")).await;
        assert_eq!(
            (&live["metadata"]["uid"], &live["metadata"]["deletionTimestamp"]),
            (&uid, &json!(null)),
            "after {questions}"
        );
        assert!(node.find(&config_at("kill", "old")).await.is_none(), "after {questions}");
        assert!(node.find(&config_at("kill", "new")).await.is_some(), "after {questions}");
        if !killed {
            break;
        }
        node.settle(&before()).await;
        assert!(node.find(&config_at("kill", "new")).await.is_none(), "after {questions}");
        questions += 1;
    }
    assert!(questions > 20, "only {questions} questions were asked: the test tests nothing");
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn a_mark_by_hand_does_not_switch_enforcement_off() {
    let node = Node::new();
    let text = namespace("mark") + &config("mark", "a") + &config("mark", "b");
    let catalog = site(vec![set("mark", &text)], &[]);
    node.settle(&catalog).await;
    let path = config_at("mark", "a");
    let forged = json!({"metadata": {"annotations": {"muster.dev/generation": "99.0"}}, "data": {"a": "evil"}});
    node.patch("kubectl-annotate", &path, &forged).await;
    let report = node.settle(&catalog).await;
    let lines = detail(&report, "mark");
    assert!(lines.iter().any(|line| line.contains("muster.dev/generation 99.0 → ")), "{lines:#?}");
    assert_eq!(node.get(&path).await["data"]["a"], "b");

    // Even as muster itself: then it is said, and everything else goes on.
    let forged = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "mark",
        "annotations": {"muster.dev/generation": "99.0"}}, "data": {"a": "evil"}});
    node.apply_as("muster", &path, &forged).await;
    node.patch("kubectl-edit", &config_at("mark", "b"), &json!({"data": {"a": "evil"}})).await;
    let report = node.converge(&catalog).await;
    let Outcome::Skipped { why: Skip::Waits { what } } = outcome(&report, "mark") else { panic!("{report:#?}") };
    assert!(what.contains("generation 99.0 wrote configmap mark/a"), "{what}");
    assert!(!report.converged);
    assert_eq!(node.get(&config_at("mark", "b")).await["data"]["a"], "b");
    // It is not pruned either, nor forgotten.
    let without = site(vec![set("mark", &(namespace("mark") + &config("mark", "b")))], &[]);
    assert!(matches!(outcome(&node.converge(&without).await, LEFT), Outcome::Skipped { .. }));
    node.patch("kubectl-annotate", &path, &json!({"metadata": {"annotations": {"muster.dev/generation": null}}})).await;
    node.patch("kubectl-label", &path, &json!({"metadata": {"labels": {"muster.dev/set": "mark"}}})).await;
    node.settle(&without).await;
    assert!(node.find(&path).await.is_none());
}
