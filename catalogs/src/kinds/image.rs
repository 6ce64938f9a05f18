//! `[[image]]`: a container image, pulled ahead of need.

use serde::{Deserialize, Serialize};

/// An image in the node's image store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// As in `registry.k8s.io/pause:3.10.1`.
    pub name: String,
    #[serde(default)]
    pub runtime: Runtime,
}

/// Which image store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Docker's.
    #[default]
    Docker,
    /// containerd's namespace `k8s.io`, which kubelet uses.
    Kubernetes,
}
