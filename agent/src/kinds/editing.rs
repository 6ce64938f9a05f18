//! Files that others write, too (`/etc/fstab`, blocks, `authorized_keys`): read, changed in a part and written, by one step of one
//! process at a time.
//!
//! What is written into goes by what was read. Two steps of a converge, or the daemon and an `apply` by hand, would otherwise each
//! write the file without the other's part.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    StepError,
    ports::{Files, Lock},
};

/// Whoever holds it is the only one on this node.
const LOCK: &str = "/run/muster/edits.lock";

static STEPS: Mutex<()> = Mutex::new(());

/// Held from the reading to the writing. Nothing is awaited meanwhile.
pub struct Editing {
    // Given back in this order: first to other processes.
    _processes: Lock,
    _steps: MutexGuard<'static, ()>,
}

/// Waits for the other steps and processes: each holds it for a few reads and writes.
pub fn editing(files: &dyn Files) -> Result<Editing, StepError> {
    let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Editing { _processes: files.lock(LOCK)?, _steps: steps })
}
