//! Errors of a site: all at once, each with place, what was expected, and the way out.

use serde::{Deserialize, Serialize};

/// A place in a file of the site. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
    /// Characters that the mark covers.
    pub width: u32,
    /// The line's text.
    pub text: String,
    /// What stands at the mark: "a file has: path, content, …".
    pub label: String,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub message: String,
    pub places: Vec<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// At least one error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics(pub Vec<Diagnostic>);
