//! Where [`Identities`] are kept: the state implements it on the root record.

use std::sync::Mutex;

use super::Identities;
use crate::store::StoreError;

/// Reads, and changes by compare-and-set. Called where calls are served: it answers in microseconds, as the store port says.
pub trait IdentityStore: Send + Sync + 'static {
    fn read(&self) -> Result<Identities, StoreError>;

    /// Changes them; `change` is called again where another writer was faster. Nothing is written when it returns false.
    fn change(&self, change: &mut dyn FnMut(&mut Identities) -> bool) -> Result<(), StoreError>;
}

/// In memory: for tests and simulations.
#[derive(Debug, Default)]
pub struct MemoryIdentities(Mutex<Identities>);

impl IdentityStore for MemoryIdentities {
    fn read(&self) -> Result<Identities, StoreError> {
        Ok(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    fn change(&self, change: &mut dyn FnMut(&mut Identities) -> bool) -> Result<(), StoreError> {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut copy = held.clone();
        if change(&mut copy) {
            *held = copy;
        }
        Ok(())
    }
}
