//! Plans in words, and when they are stale.

use muster_catalog::kinds::service::Disrupts;
use muster_ids::{Digest, Generation, NodeName};
use muster_plan::{Certainty, Row, row::Action};
use muster_planner::{CloudAction, CloudRow};

use super::{Counts, NodePart, NodeSection, SavedPlan, differences, render};
use crate::state::Publication;

fn row(resource: &str, detail: &[&str]) -> Row {
    Row {
        resource: resource.parse().unwrap(),
        action: Action::Change,
        certainty: Certainty::Certain,
        detail: detail.iter().map(ToString::to_string).collect(),
        reason: "differs from the catalog".to_owned(),
        disrupts: Disrupts::Nothing,
    }
}

fn section(pool: &str, part: NodePart) -> NodeSection {
    NodeSection { pool: pool.parse().unwrap(), part }
}

/// Four workers with the same change, one control plane with another, one that is silent, one that is to come.
fn saved() -> SavedPlan {
    let containerd = vec![
        row("file./etc/containerd/config.toml", &["- max_concurrent_downloads = 3", "+ max_concurrent_downloads = 8"]),
        Row {
            action: Action::Run,
            reason: "notified by file./etc/containerd/config.toml".to_owned(),
            disrupts: Disrupts::Service,
            ..row("service.containerd", &["restart"])
        },
        Row {
            action: Action::Create,
            certainty: Certainty::KnownAfter("package.docker.io".parse().unwrap()),
            ..row("file./etc/docker/x", &[])
        },
    ];
    let mut nodes: std::collections::BTreeMap<NodeName, NodeSection> = (1..=3)
        .map(|n| {
            (format!("workers-{n}").parse().unwrap(), section("workers", NodePart::Rows { rows: containerd.clone() }))
        })
        .collect();
    nodes.insert(
        "edge-1".parse().unwrap(),
        section("edge", NodePart::Unborn { resources: [("file".to_owned(), 12), ("package".to_owned(), 5)].into() }),
    );
    nodes.insert("control-plane-1".parse().unwrap(), section("control-plane", NodePart::Rows { rows: vec![] }));
    nodes.insert(
        "control-plane-2".parse().unwrap(),
        section("control-plane", NodePart::NotAnswering { last_seen: 9_100 }),
    );
    nodes.insert(
        "control-plane-3".parse().unwrap(),
        section("control-plane", NodePart::Failed { error: "the disk is full".to_owned() }),
    );
    let cloud = vec![CloudRow {
        action: CloudAction::Create,
        what: "instance edge-1".to_owned(),
        detail: vec!["10.89.1.6".to_owned(), "pods 10.244.6.0/24".to_owned()],
        reason: "pool edge: 0 → 1".to_owned(),
    }];
    let cluster_rows =
        vec![row("manifest.easypay", &["networkpolicy easypay/database: front-end on 5432/TCP may reach it"])];
    let parent = Publication {
        generation: Generation { epoch: 1, counter: 41 },
        site: Digest::of("old"),
        site_object: Digest::of("old"),
        blueprint: Digest::of("blueprint"),
    };
    SavedPlan {
        id: "41-9c02de".to_owned(),
        cluster: "easypay".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        made: 10_000,
        state: 41,
        site: Digest::of("new"),
        site_object: Digest::of("new"),
        parent: Some(parent),
        counts: Counts::of(&cloud, &nodes, &cluster_rows),
        cloud,
        nodes,
        cluster_rows,
        waits: vec!["pool workers waits for workers-3 to be Ready".to_owned()],
        warnings: vec![],
    }
}

#[test]
fn one_diff_of_three_planes() {
    insta::assert_snapshot!(render(&saved()));
}

#[test]
fn nothing_to_do_is_said() {
    let mut plan = saved();
    plan.site = plan.parent.as_ref().unwrap().site;
    (plan.cloud, plan.cluster_rows, plan.waits) = (vec![], vec![], vec![]);
    plan.nodes.retain(|name, _| name.as_str() == "control-plane-1");
    plan.counts = Counts::of(&plan.cloud, &plan.nodes, &plan.cluster_rows);
    assert!(!plan.changes());
    insta::assert_snapshot!(render(&plan));
}

#[test]
fn a_plan_survives_its_json() {
    let plan = saved();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<SavedPlan>(&json).unwrap(), plan);
}

#[test]
fn the_same_plan_is_not_stale() {
    assert_eq!(differences(&saved(), &saved()), Vec::<String>::new());
}

#[test]
fn what_was_done_meanwhile_is_no_difference_and_what_is_new_is() {
    let (shown, mut now) = (saved(), saved());
    now.nodes.insert("workers-1".parse().unwrap(), section("workers", NodePart::Rows { rows: vec![] }));
    now.cloud.clear();
    now.cluster_rows.clear();
    assert_eq!(differences(&shown, &now), Vec::<String>::new(), "less than was shown");

    let rows = vec![row("file./etc/hosts", &["+ 10.0.0.1 x"])];
    now.nodes.insert("workers-1".parse().unwrap(), section("workers", NodePart::Rows { rows }));
    now.nodes.insert("workers-2".parse().unwrap(), section("workers", NodePart::NotAnswering { last_seen: 1 }));
    now.cluster_rows = vec![row("manifest.easypay", &["another change"])];
    now.parent = None;
    insta::assert_snapshot!(differences(&shown, &now).join("\n"));
}

#[test]
fn the_reason_of_a_row_is_not_the_row() {
    let (shown, mut now) = (saved(), saved());
    now.cluster_rows[0].reason = "someone changed it".to_owned();
    assert!(differences(&shown, &now).is_empty());
}
