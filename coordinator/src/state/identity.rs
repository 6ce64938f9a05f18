//! Enrolment's view of the root record: tokens, certificates and revocations are a part of it.

use super::writer::{State, StateError};
use crate::{
    enrol::{Identities, IdentityStore},
    store::StoreError,
};

impl IdentityStore for State {
    fn read(&self) -> Result<Identities, StoreError> {
        Ok(self.snapshot().identities.clone())
    }

    fn change(&self, change: &mut dyn FnMut(&mut Identities) -> bool) -> Result<(), StoreError> {
        let changed = State::change(self, |root| {
            let mut identities = root.identities.clone();
            if change(&mut identities) {
                root.identities = identities;
            }
        });
        changed.map_err(|error| match error {
            StateError::Store(error) => error,
            other @ (StateError::Root(_) | StateError::Contended(_)) => StoreError::Backend(Box::new(other)),
        })
    }
}
