//! `[[manifest]]`: Kubernetes objects, by server-side apply; what leaves the site is pruned.

use serde::{Deserialize, Serialize};

/// Objects that the cluster must hold. Only the control-plane agent that holds the Lease applies them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestSpec {
    /// Names the set; objects that leave the set are pruned.
    pub name: String,
    /// YAML documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file of the site, resolved to `content` when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A template of the site, resolved to `content` when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Secrets by name that an object's `data` refers to as `muster-secret:NAME`; fetched by a call of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}
