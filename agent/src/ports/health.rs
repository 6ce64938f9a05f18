//! Whether this node is fit again after a disruption, so that the next one may have its turn.

use std::collections::BTreeMap;

use muster_plan::Workload;

/// The node's own judge.
#[async_trait::async_trait]
pub trait Health: Send + Sync {
    /// Whether the Kubernetes node is Ready; none where it is no member (yet). A member whose API cannot be asked is not.
    async fn node_ready(&self) -> Option<bool>;

    /// As [`Health::node_ready`], and kubelet has spoken to the cluster after `since` (seconds since the epoch, on this
    /// node's clock): a dead one leaves its Node Ready for most of a minute.
    async fn ready_since(&self, since: i64) -> Option<bool>;

    /// The node's pods that are not ending, by uid, and whether each takes traffic; none where nobody can say.
    async fn pods(&self) -> Option<BTreeMap<String, bool>>;

    /// The site's workloads that are not rolled out, from the control plane that leads; else empty. Where nobody can
    /// say, one that stands for all of them.
    async fn workloads(&self) -> Vec<Workload>;
}
