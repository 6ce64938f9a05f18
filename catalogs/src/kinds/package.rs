//! `[[package]]`: a Debian package, by apt.

use serde::{Deserialize, Serialize};

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageSpec {
    pub name: String,
    /// A version or a pattern with `*` at its end, as in `1.34.4-*`. Absent: any installed version will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// True marks it held, so that nothing else upgrades it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// True removes the package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}
