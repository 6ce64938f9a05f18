//! A role: resources as written, with their places, not yet resolved for a node.

/// A role file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Role {}
