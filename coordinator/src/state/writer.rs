//! The one writer of the root record: each change is a compare-and-set under one lock, and readers get snapshots.
//!
//! A change is a closure over the record that may run again after a conflict, so it must have no other effect. Another
//! process may write the same store (`muster coordinator issue-operator`): a conflict reads again. A change lasts as
//! long as one durable SQLite write, a few milliseconds, and so runs where it is called.

use std::sync::{Arc, Mutex, PoisonError};

use muster_ids::EnvName;
use tokio::sync::watch;

use super::root::{Root, RootError};
use crate::store::{Store, StoreError, Version};

/// Why the state could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the root record cannot be used")]
    Root(#[from] RootError),
    #[error("another coordinator kept changing the state: {0} attempts")]
    Contended(u32),
}

/// As many conflicts in a row mean that something writes in a loop.
const ATTEMPTS: u32 = 50;

/// A handle on the root record. Cheap to clone.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    environment: EnvName,
    version: Mutex<Option<Version>>,
    snapshot: watch::Sender<Arc<Root>>,
}

impl State {
    /// Reads the record, or begins with an empty one.
    pub fn open(store: Arc<dyn Store>, environment: EnvName) -> Result<Self, StateError> {
        let (root, version) = read(&*store, &environment)?;
        let (snapshot, _) = watch::channel(Arc::new(root));
        Ok(Self { shared: Arc::new(Shared { store, environment, version: Mutex::new(version), snapshot }) })
    }

    /// The newest record that was read or written.
    pub fn snapshot(&self) -> Arc<Root> {
        Arc::clone(&self.shared.snapshot.borrow())
    }

    /// Wakes when the record changed.
    pub fn changes(&self) -> watch::Receiver<Arc<Root>> {
        self.shared.snapshot.subscribe()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    pub fn environment(&self) -> &EnvName {
        &self.shared.environment
    }

    /// Changes the record and returns once it is durable. A closure that leaves the record as it was writes nothing.
    pub fn change<T>(&self, mut change: impl FnMut(&mut Root) -> T) -> Result<T, StateError> {
        let shared = &*self.shared;
        let mut version = shared.version.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..ATTEMPTS {
            let before = Arc::clone(&shared.snapshot.borrow());
            let mut root = Root::clone(&before);
            let value = change(&mut root);
            if root == *before {
                return Ok(value);
            }
            match shared.store.put_root(&shared.environment, &root.to_json(), version.as_ref()) {
                Ok(written) => {
                    *version = Some(written);
                    shared.snapshot.send_replace(Arc::new(root));
                    return Ok(value);
                }
                Err(StoreError::Conflict) => {
                    let (root, found) = read(&*shared.store, &shared.environment)?;
                    *version = found;
                    shared.snapshot.send_replace(Arc::new(root));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StateError::Contended(ATTEMPTS))
    }

    /// Reads the record again where another process wrote it.
    pub fn refresh(&self) -> Result<(), StateError> {
        let shared = &*self.shared;
        let mut version = shared.version.lock().unwrap_or_else(PoisonError::into_inner);
        let (root, found) = read(&*shared.store, &shared.environment)?;
        if found != *version {
            *version = found;
            shared.snapshot.send_replace(Arc::new(root));
        }
        Ok(())
    }
}

fn read(store: &dyn Store, environment: &EnvName) -> Result<(Root, Option<Version>), StateError> {
    Ok(match store.root(environment)? {
        Some((text, version)) => (Root::from_json(&text)?, Some(version)),
        None => (Root::default(), None),
    })
}
