//! What the executor must remember across a crash: implemented over the environment's root record.

use muster_ids::{DiskName, NodeName};

use crate::cloud::Proof;

/// The state could not be written; nothing was asked of the provider then.
#[derive(Debug, thiserror::Error)]
#[error("the state could not be written")]
pub struct IntentError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Each call is durable when it returns. Synchronous: it is one write to the store.
pub trait Intents: Send + Sync {
    /// The instance with this token is about to be asked for. Returns what it enrols with; after a crash a new
    /// proof takes the old one's place.
    fn begin(&self, node: &NodeName, token: &str) -> Result<Proof, IntentError>;
    /// The provider has it, under this id.
    fn made(&self, node: &NodeName, token: &str, id: &str) -> Result<(), IntentError>;
    fn disk_made(&self, disk: &DiskName, id: &str) -> Result<(), IntentError>;
    /// The provider has it no more.
    fn removed(&self, node: &NodeName, id: &str) -> Result<(), IntentError>;
    /// A step that may have changed the provider ended just now: readings before it prove nothing.
    fn stepped(&self) -> Result<(), IntentError>;
}
