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
    /// From the control plane that leads: the site's workloads that are not rolled out (yet).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
}

/// A Deployment, StatefulSet or DaemonSet of the site that is not rolled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// `NAMESPACE/NAME`; `applications` where the cluster could not be asked.
    pub name: String,
    /// What is left: "1 of 2 pods are available".
    pub open: String,
    /// Why one of its pods does not start, where Kubernetes says so; it changes while nothing moves.
    pub why: Option<String>,
    /// That seldom passes by itself: an image that is nowhere, a container that cannot be made.
    pub lasting: bool,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.open)
    }
}

impl Report {
    /// Whether the node's own part is as written, whatever there is to say of the cluster's objects.
    pub fn node_converged(&self) -> bool {
        let mut open = self.steps.iter().filter(|step| !step.outcome.is_well()).peekable();
        self.converged || open.peek().is_some() && open.all(|step| step.resource.kind() == "manifest")
    }

    /// This report, and what is left to tell of an earlier one that nobody took: drift, changes and notes. How things stand
    /// is this one's to say.
    pub fn with_untold(mut self, earlier: &Self) -> Self {
        let new = std::mem::take(&mut self.drift);
        self.drift = earlier.drift.clone();
        self.drift.extend(new.into_iter().filter(|id| !earlier.drift.contains(id)));
        for step in &earlier.steps {
            match self.steps.iter_mut().find(|now| now.resource == step.resource) {
                Some(now) => {
                    let new = std::mem::take(&mut now.notes);
                    now.notes = step.notes.clone();
                    now.notes.extend(new.into_iter().filter(|note| !step.notes.contains(note)));
                }
                None if step.outcome == Outcome::Done => {
                    // It counts as changed, and was right when it was looked at again.
                    self.already_right = self.already_right.saturating_sub(1);
                    self.steps.push(step.clone());
                }
                None => {}
            }
        }
        self
    }
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

impl Outcome {
    /// The resource is as written, or it is another's to do.
    pub fn is_well(&self) -> bool {
        match self {
            Self::AlreadyRight | Self::Done => true,
            Self::Skipped { why: Skip::NotTheLeader { .. } | Skip::Guard } => true,
            Self::Skipped {
                why: Skip::Turn { .. } | Skip::Contested { .. } | Skip::Paused { .. } | Skip::Waits { .. },
            } => false,
            Self::Blocked { .. } | Self::Failed { .. } => false,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, outcome: Outcome, notes: &[&str]) -> StepReport {
        let notes = notes.iter().map(|&note| note.to_owned()).collect();
        StepReport { resource: ResourceId::new("file", name), outcome, detail: vec![], notes, took: 1 }
    }

    #[test]
    fn the_clusters_objects_are_not_the_nodes_own_part() {
        let failed = || Outcome::Failed { error: "no".into(), help: None, retry: false };
        let of = |kind: &str, outcome: Outcome| StepReport {
            resource: ResourceId::new(kind, "a"),
            ..step("a", outcome, &[])
        };
        let report = |steps: Vec<StepReport>| Report { steps, ..Report::default() };
        assert!(Report { converged: true, ..Report::default() }.node_converged());
        assert!(report(vec![of("manifest", failed()), of("file", Outcome::Done)]).node_converged());
        assert!(!report(vec![of("manifest", failed()), of("file", failed())]).node_converged());
        assert!(!report(vec![]).node_converged(), "it does not say why it has not converged");
    }

    #[test]
    fn what_nobody_took_is_told_with_the_next_report() {
        let id = |name: &str| ResourceId::new("file", name);
        let waits = || Outcome::Skipped { why: Skip::Waits { what: "the API server".into() } };
        let earlier = Report {
            drift: vec![id("/a"), id("/b")],
            steps: vec![
                step("/a", Outcome::Done, &["left alone"]),
                step("/c", Outcome::Done, &["one"]),
                step("/d", waits(), &[]),
            ],
            ..Report::default()
        };
        let newest = Report {
            drift: vec![id("/b"), id("/e")],
            steps: vec![step("/c", Outcome::Done, &["one", "two"])],
            already_right: 4,
            converged: true,
            ..Report::default()
        };
        let told = newest.with_untold(&earlier);
        assert_eq!(told.drift, [id("/a"), id("/b"), id("/e")]);
        assert_eq!(told.steps[0].notes, ["one", "two"]);
        assert_eq!(told.steps[1], earlier.steps[0]);
        assert_eq!((told.steps.len(), told.already_right, told.converged), (2, 3, true));
    }
}
