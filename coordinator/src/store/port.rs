//! What every backend promises, and no more: history follows from root records that name their parents.
//!
//! A write that returned is durable: a crash right after loses nothing. Only decisions belong here.

use muster_ids::{Digest, EnvName};

/// The version of a root record; opaque but for equality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another coordinator changed the state meanwhile")]
    Conflict,
    #[error("object {0} is not in the store")]
    Missing(Digest),
    /// The bytes under this digest have another one: the disk lies, or a hand was in it.
    #[error("object {0} is damaged: restore a backup")]
    Damaged(Digest),
    #[error("the store was written by a newer muster (format {found}, this one knows {known})")]
    Newer { found: u32, known: u32 },
    #[error("the store does not answer")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Synchronous: SQLite answers in microseconds; remote backends bring their own runtime.
pub trait Store: Send + Sync {
    /// The root record (JSON) and its version; absent before the first write.
    fn root(&self, environment: &EnvName) -> Result<Option<(String, Version)>, StoreError>;
    /// Writes the root if it still has `expected` (absent: if there is none), else [`StoreError::Conflict`].
    fn put_root(&self, environment: &EnvName, root: &str, expected: Option<&Version>) -> Result<Version, StoreError>;
    /// Keeps bytes under their digest; writing the same twice is one object.
    fn put_object(&self, bytes: &[u8]) -> Result<Digest, StoreError>;
    /// The bytes of that digest, checked.
    fn object(&self, digest: &Digest) -> Result<Vec<u8>, StoreError>;
}
