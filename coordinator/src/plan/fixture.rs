//! A plan with something of everything, for tests.

use muster_catalog::kinds::service::Disrupts;
use muster_ids::{Digest, Generation, NodeName};
use muster_plan::{Certainty, Row, row::Action};
use muster_planner::{CloudAction, CloudRow};

use super::{Counts, NodePart, NodeSection, SavedPlan};
use crate::state::Publication;

pub fn row(resource: &str, detail: &[&str]) -> Row {
    Row {
        resource: resource.parse().unwrap(),
        action: Action::Change,
        certainty: Certainty::Certain,
        detail: detail.iter().map(ToString::to_string).collect(),
        reason: "the catalog changed".to_owned(),
        disrupts: Disrupts::Nothing,
    }
}

pub fn section(pool: &str, part: NodePart) -> NodeSection {
    NodeSection { pool: pool.parse().unwrap(), part, leaves: vec![] }
}

/// Four workers with the same change, one control plane with another, one that is silent, one that is to come.
pub fn saved() -> SavedPlan {
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
        by: None,
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
        stopped: None,
        counts: Counts::of(&cloud, &nodes, &cluster_rows),
        cloud,
        nodes,
        cluster_rows,
        waits: vec!["pool workers waits for workers-3 to be Ready".to_owned()],
        warnings: vec![],
    }
}
