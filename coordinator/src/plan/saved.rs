//! A plan as it is kept and sent: rows of three planes, each with its reason, and what it was made from.

use std::collections::BTreeMap;

use muster_ids::{ClusterName, Digest, EnvName, NodeName, PoolName, ResourceId};
use muster_plan::{Certainty, Row, row::Action};
use muster_planner::{CloudAction, CloudRow};
use serde::{Deserialize, Serialize};

use crate::state::Publication;

/// What an apply would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// As in `41-9c02de`: the state that it starts from, and a digest of the site and of all rows ([`SavedPlan::id_of`]).
    pub id: String,
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// Seconds since the epoch.
    pub made: i64,
    /// The counter of the newest generation when it was made.
    pub state: u64,
    /// The digest of the site's files.
    pub site: Digest,
    /// The store's object with those files.
    pub site_object: Digest,
    /// What nodes follow now; absent before the first apply.
    pub parent: Option<Publication>,
    /// Another catalog failed on this node alone and goes no further: an apply ends that, too.
    #[serde(default)]
    pub stopped: Option<NodeName>,
    pub cloud: Vec<CloudRow>,
    pub nodes: BTreeMap<NodeName, NodeSection>,
    /// Kubernetes objects.
    pub cluster_rows: Vec<Row>,
    /// What the planner waits for, for people.
    pub waits: Vec<String>,
    /// What is worth saying of the site and no error.
    pub warnings: Vec<String>,
    pub counts: Counts,
}

/// One node's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    pub pool: PoolName,
    pub part: NodePart,
    /// What is no longer managed there and stays as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<ResourceId>,
}

/// What is known of a node's part of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum NodePart {
    /// The agent planned it. No rows: nothing would change.
    Rows { rows: Vec<Row> },
    /// It does not exist yet; its catalog by kinds.
    Unborn { resources: BTreeMap<String, u32> },
    NotAnswering {
        /// Seconds since the epoch; 0: never seen.
        last_seen: i64,
    },
    /// The agent could not plan.
    Failed { error: String },
}

impl NodePart {
    fn timeless(&self) -> Self {
        match self {
            Self::NotAnswering { .. } => Self::NotAnswering { last_seen: 0 },
            Self::Rows { .. } | Self::Unborn { .. } | Self::Failed { .. } => self.clone(),
        }
    }
}

/// Sums over all rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub create: u32,
    pub change: u32,
    pub destroy: u32,
    pub replace: u32,
    /// Rows that can only be seen once another was done.
    pub unknown: u32,
    /// Nodes that did not answer: what they would change is not known.
    pub silent: u32,
    /// Nodes whose agent could not plan: as little is known of them.
    #[serde(default)]
    pub failed: u32,
}

impl Counts {
    /// Counts rows: a node's rows one by one, an unborn node's catalog not at all (its instance is counted).
    pub fn of(cloud: &[CloudRow], nodes: &BTreeMap<NodeName, NodeSection>, cluster: &[Row]) -> Self {
        let mut counts = Self::default();
        for row in cloud {
            match row.action {
                CloudAction::Create => counts.create += 1,
                CloudAction::Change => counts.change += 1,
                CloudAction::Destroy => counts.destroy += 1,
                CloudAction::Replace => counts.replace += 1,
            }
        }
        for section in nodes.values() {
            match &section.part {
                NodePart::Rows { rows } => rows.iter().for_each(|row| counts.add(row)),
                NodePart::Unborn { .. } => {}
                NodePart::NotAnswering { .. } => counts.silent += 1,
                NodePart::Failed { .. } => counts.failed += 1,
            }
        }
        cluster.iter().for_each(|row| counts.add(row));
        counts
    }

    fn add(&mut self, row: &Row) {
        match row.action {
            Action::Create => self.create += 1,
            Action::Change | Action::Run => self.change += 1,
            Action::Remove => self.destroy += 1,
        }
        match row.certainty {
            Certainty::Certain => {}
            Certainty::KnownAfter(_) => self.unknown += 1,
        }
    }

    /// Whether an apply would do anything that is known.
    pub fn any(&self) -> bool {
        self.create + self.change + self.destroy + self.replace > 0
    }
}

impl SavedPlan {
    /// The name of what was shown: two plans that show different rows have different ones, so that neither takes the
    /// other's place. When a node was last seen is no part of it: that says nothing of what would be done.
    pub fn id_of(
        state: u64,
        site: &Digest,
        cloud: &[CloudRow],
        nodes: &BTreeMap<NodeName, NodeSection>,
        cluster_rows: &[Row],
    ) -> String {
        let parts: BTreeMap<_, _> = nodes.iter().map(|(name, section)| (name, section.part.timeless())).collect();
        let shown = serde_json::to_string(&(site, cloud, parts, cluster_rows));
        format!("{state}-{}", Digest::of(shown.expect("rows hold nothing that JSON cannot say")).short())
    }

    /// Whether an apply would change the site or anything else that is known.
    pub fn changes(&self) -> bool {
        self.counts.any()
            || self.stopped.is_some()
            || self.parent.as_ref().is_none_or(|parent| parent.site != self.site)
    }

    /// The nodes with rows, of which an apply with `only` may choose one.
    pub fn touched(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter_map(|(name, section)| match &section.part {
            NodePart::Rows { rows } => (!rows.is_empty()).then_some(name),
            NodePart::Unborn { .. } | NodePart::NotAnswering { .. } | NodePart::Failed { .. } => None,
        })
    }
}
