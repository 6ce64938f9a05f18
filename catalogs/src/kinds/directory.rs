//! `[[directory]]`: a folder with this owner and mode.

use serde::{Deserialize, Serialize};

/// A folder. Parents are made as needed (`0755`, root) and belong to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectorySpec {
    /// Absolute path on the node.
    pub path: String,
    /// Octal, as in `0755`.
    #[serde(default = "mode")]
    pub mode: String,
    #[serde(default = "super::root")]
    pub owner: String,
    #[serde(default = "super::root")]
    pub group: String,
    /// True removes what is in the folder and in no resource.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purge: bool,
    /// True removes the folder; it must be empty or `purge` be set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn mode() -> String {
    "0755".to_owned()
}
