//! Where programs and system calls that follow a path by themselves may work: mount(8), swapon(8), an archive's unpacking.
//!
//! In a folder that somebody else than root may write, that somebody swaps a name for a link between two calls, and root then
//! mounts or writes at another place. Files and folders are walked by descriptors and have no need of this.

use crate::{Context, StepError};

/// An error where others than root may swap the path or a folder on it.
pub fn must_be_roots(ctx: &Context, path: &str) -> Result<(), StepError> {
    if ctx.files.private(path)? {
        return Ok(());
    }
    Err(StepError::failed(format!("{path} lies in a folder that others than root may change"))
        .help("they could lead this to any place of the node: choose a path whose folders all are root's and writable by root alone"))
}
