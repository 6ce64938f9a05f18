//! What the loop asks of the rest of the agent. A trait, so that the loop is tested, and simulated, without a node.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use muster_catalog::{Catalog, compile::Facts};
use muster_ids::{NodeName, ResourceId};
use muster_plan::{Report, Row};
use tokio_util::sync::CancellationToken;

use crate::ports::JoinTicket;

/// One converge.
#[derive(Debug, Clone)]
pub struct Converge {
    pub catalog: Arc<Catalog>,
    /// "start", "push", "drift", "timer", "retry", "asked".
    pub woken_by: &'static str,
    /// Only these: the quick path after drift.
    pub only: Option<BTreeSet<ResourceId>>,
    /// Seconds since the epoch.
    pub paused_until: Option<i64>,
    /// Ends it at the next step's end.
    pub stop: CancellationToken,
}

/// An operator's signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub certificate_pem: String,
    pub ca_pem: String,
}

/// What a user of the Kubernetes API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    Admin,
    /// Look at everything but Secrets.
    View,
}

/// The engine, and what a control plane does for others. Errors are lines for people.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    async fn converge(&self, converge: Converge) -> Result<Report, String>;
    /// Without any way to write; after the converge under way.
    async fn plan(&self, draft: Arc<Catalog>) -> Result<Vec<Row>, String>;
    /// Resources that somebody else changed, as it happens. It may end; it is started anew with each catalog.
    fn drift(&self, catalog: Arc<Catalog>) -> BoxStream<'static, ResourceId>;
    async fn facts(&self) -> Facts;
    async fn mint(&self, node: &NodeName, control_plane: bool) -> Result<JoinTicket, String>;
    async fn sign(&self, csr_pem: &str, user: &str, rights: Rights) -> Result<Signed, String>;
}
