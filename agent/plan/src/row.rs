//! One line of a plan: what would change at one resource.

use muster_catalog::kinds::service::Disrupts;
use muster_ids::ResourceId;
use serde::{Deserialize, Serialize};

/// One change that an apply would make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub resource: ResourceId,
    pub action: Action,
    pub certainty: Certainty,
    /// For people: "mode 0600 → 0644", one line each; a text diff has its lines here, `-` and `+` first. Never a secret.
    pub detail: Vec<String>,
    /// Why: "the catalog changed", "notified by file./etc/x".
    pub reason: String,
    pub disrupts: Disrupts,
}

/// What would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Create,
    Change,
    Remove,
    /// Run a command, restart or reload a service.
    Run,
}

/// Whether the row is known for sure before something else was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    Certain,
    /// It can only be seen once this was done (a file that a package brings).
    KnownAfter(ResourceId),
}
