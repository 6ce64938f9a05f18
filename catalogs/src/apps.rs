//! Applications: a short form that becomes Kubernetes objects.

/// `[app.NAME]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct App {}
