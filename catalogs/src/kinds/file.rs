//! `[[file]]`: a regular file with exactly this content.

use serde::{Deserialize, Serialize};

/// A regular file. In a compiled catalog `content` is always given: `source` and `template` are resolved by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Absolute path on the node.
    pub path: String,
    /// The content, UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file of the site whose text is copied, relative to the role's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A template of the site (Jinja), relative to the role's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The content is this secret; it is fetched by a call of its own and never in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Octal, as in `0644`.
    #[serde(default = "mode")]
    pub mode: String,
    #[serde(default = "super::root")]
    pub owner: String,
    #[serde(default = "super::root")]
    pub group: String,
    /// True removes the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn mode() -> String {
    "0644".to_owned()
}

