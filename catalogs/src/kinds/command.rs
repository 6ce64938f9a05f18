//! `[[command]]`: a program to run until its guard says that it need not. The last resort among the kinds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::service::Disrupts;

/// A program, given as an argument vector (never a shell line). At least one guard or `on_notify` is required,
/// or it would run at every converge. Guards run without write access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    pub name: String,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// Skipped when this succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Vec<String>>,
    /// Skipped when this fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<Vec<String>>,
    /// Skipped when this path exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<String>,
    /// Runs only when notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_notify: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Seconds until it is ended and counted as failed.
    #[serde(default = "timeout")]
    pub timeout: u32,
    #[serde(default)]
    pub disrupts: Disrupts,
}

fn timeout() -> u32 {
    300
}
