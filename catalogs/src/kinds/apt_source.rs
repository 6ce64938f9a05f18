//! `[[apt_source]]`: a signed package repository.

use serde::{Deserialize, Serialize};

/// A package repository in deb822 form, with the key that must have signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AptSourceSpec {
    /// Names the files `/etc/apt/sources.list.d/NAME.sources` and `/etc/apt/keyrings/NAME.asc`.
    pub name: String,
    pub url: String,
    /// Suites; a flat repository is `/`.
    pub suites: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// The signing key, ASCII-armoured: the text itself, or a URL of `http`/`https`, fetched once and kept.
    pub key: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}
