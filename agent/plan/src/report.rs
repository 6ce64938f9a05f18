//! How a converge ended, step by step: what agents report and users see.

use muster_ids::ResourceId;
use serde::{Deserialize, Serialize};

/// The end of one converge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What woke the agent: "push", "drift", "timer", "start". For people; steps act on state alone.
    pub woken_by: String,
    /// Seconds since the epoch.
    pub started: i64,
    /// Milliseconds.
    pub took: u64,
    /// Every step but those already right.
    pub steps: Vec<StepReport>,
    pub already_right: u32,
    /// Resources changed on the node and put back in this converge.
    pub drift: Vec<ResourceId>,
    /// True when every resource is as written.
    pub converged: bool,
    /// The Kubernetes node's readiness as its kubelet sees it, where it is a member.
    pub node_ready: Option<bool>,
}

/// The end of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub resource: ResourceId,
    pub outcome: Outcome,
    /// What was or would have been changed; never a secret.
    pub detail: Vec<String>,
    /// What people should hear of it: an object that was left alone, a member that was removed. Never a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Milliseconds.
    pub took: u64,
}

/// How a step ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Outcome {
    AlreadyRight,
    Done,
    Skipped {
        why: Skip,
    },
    /// Something that it depends on failed or was skipped.
    Blocked {
        by: ResourceId,
    },
    Failed {
        error: String,
        /// What to do, where the agent knows.
        help: Option<String>,
        /// Whether the agent tries again by itself.
        retry: bool,
    },
}

/// Why a step was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "for")]
pub enum Skip {
    /// It disrupts, and another node has the turn.
    Turn { held_by: String },
    /// Another control plane holds the cluster's Lease.
    NotTheLeader { leader: String },
    /// Put back five times in an hour: slowed down.
    Contested { until: i64 },
    /// The node is paused by an operator.
    Paused { until: i64 },
    /// A guard says that it need not run.
    Guard,
    /// Waits for something outside: "the API server to answer".
    Waits { what: String },
}
