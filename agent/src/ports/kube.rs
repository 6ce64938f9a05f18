//! The cluster's API, where this node may reach it.

use crate::StepError;

/// A client of the Kubernetes API.
#[async_trait::async_trait]
pub trait Kube: Send + Sync {
    /// With this node's credentials: `admin.conf` on control planes. Waits (as a skip) where there are none yet.
    async fn client(&self) -> Result<kube::Client, StepError>;
}
