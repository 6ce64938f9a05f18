//! What the executor must not forget, written to the root record before or at once after the provider is asked.
//!
//! An enrolment token follows from the master key, the node and the instance's token: asked again after a crash, the same
//! instance gets the same one, so that the one already on its way to the machine stays good; and it works once.

use std::sync::Arc;

use muster_ids::{Digest, DiskName, NodeName};
use muster_planner::inventory::Made;

use crate::{
    cloud::Proof,
    context::Context,
    events::Level,
    execute::{IntentError, Intents},
    state::Root,
};

/// Intents over the root record.
pub struct StateIntents(pub Arc<Context>);

impl StateIntents {
    fn write<T>(&self, change: impl FnMut(&mut Root) -> T) -> Result<T, IntentError> {
        self.0.state.change(change).map_err(|error| IntentError(Box::new(error)))
    }
}

impl Intents for StateIntents {
    fn begin(&self, node: &NodeName, token: &str) -> Result<Proof, IntentError> {
        let proof = self.0.master.derive("enrolment", &format!("{node}/{token}"));
        let (hash, now) = (Digest::of(&proof), self.0.now());
        if self.write(|root| root.begin_instance(node, token, hash, now))? {
            // What the instance before it said last is not about this one.
            self.0.local.forget(node).map_err(|error| IntentError(Box::new(error)))?;
        }
        Ok(Proof { token: proof })
    }

    fn made(&self, node: &NodeName, token: &str, id: &str) -> Result<(), IntentError> {
        let made = Made { token: token.to_owned(), id: id.to_owned() };
        let new = self.write(|root| root.made.insert(node.clone(), made.clone()).as_ref() != Some(&made))?;
        if new {
            self.0.event(Level::Info, Some(node), "instance", format!("made: {}", short(id)));
        }
        Ok(())
    }

    fn disk_made(&self, disk: &DiskName, id: &str) -> Result<(), IntentError> {
        if self.write(|root| root.disks.insert(disk.clone()))? {
            self.0.event(Level::Info, None, "disk", format!("{disk} made: {id}"));
        }
        Ok(())
    }

    fn removed(&self, node: &NodeName, id: &str) -> Result<(), IntentError> {
        self.write(|root| {
            if root.made.get(node).is_some_and(|made| made.id == id) {
                root.made.remove(node);
            }
        })?;
        self.0.event(Level::Info, Some(node), "instance", format!("removed: {}", short(id)));
        Ok(())
    }

    fn stepped(&self) -> Result<(), IntentError> {
        let now = self.0.now();
        self.write(|root| root.last_step = root.last_step.max(now))
    }
}

/// Container ids are 64 digits long; twelve tell them apart, as Docker itself shows them.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
