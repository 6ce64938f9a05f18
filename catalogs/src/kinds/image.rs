//! `[[image]]`: a container image, pulled ahead of need.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Kind, Need, Owned, Presence, SecretName, Signal};

/// An image in the node's image store. It is right when one of this name is there: a tag that moves in the registry is not followed. No image
/// is ever removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "an image")]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    #[schemars(extend("format" = "image"))]
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

impl Kind for ImageSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("image", &self.name)]
    }

    fn needs(&self) -> Vec<Need> {
        match self.runtime {
            Runtime::Docker => vec![Need::Named("service", "docker".to_owned())],
            Runtime::Kubernetes => {
                vec![Need::Named("service", "containerd".to_owned()), Need::Within("/etc/containerd".to_owned())]
            }
        }
    }

    fn owns(&self) -> Vec<Owned> {
        Vec::new()
    }

    fn presence(&self) -> Presence {
        Presence::Present
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn signals(&self) -> Vec<Signal> {
        match self.runtime {
            Runtime::Docker => vec![Signal::Image(self.name.clone())],
            Runtime::Kubernetes => Vec::new(),
        }
    }
}
