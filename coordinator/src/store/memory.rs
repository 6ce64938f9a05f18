//! The store in memory, for tests and simulations: as strict as the real ones, gone with the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_ids::{Digest, EnvName};

use super::port::{Store, StoreError, Version};

/// Cheap to make; share it by reference or `Arc`.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    roots: BTreeMap<EnvName, (String, u64)>,
    objects: BTreeMap<Digest, Vec<u8>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Content> {
        // Every change is one insert: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn root(&self, environment: &EnvName) -> Result<Option<(String, Version)>, StoreError> {
        Ok(self.lock().roots.get(environment).map(|(root, version)| (root.clone(), Version(version.to_string()))))
    }

    fn put_root(&self, environment: &EnvName, root: &str, expected: Option<&Version>) -> Result<Version, StoreError> {
        let mut content = self.lock();
        let current = content.roots.get(environment).map(|(_, version)| *version);
        if current.map(|version| version.to_string()).as_ref() != expected.map(|version| &version.0) {
            return Err(StoreError::Conflict);
        }
        let next = current.unwrap_or(0) + 1;
        content.roots.insert(environment.clone(), (root.to_owned(), next));
        Ok(Version(next.to_string()))
    }

    fn put_object(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.lock().objects.entry(digest).or_insert_with(|| bytes.to_vec());
        Ok(digest)
    }

    fn object(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.lock().objects.get(digest).cloned().ok_or(StoreError::Missing(*digest))
    }
}
