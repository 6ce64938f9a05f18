//! Where programs that follow a path by themselves may work: mount(8), mkswap(8), swapon(8).
//!
//! In a folder that somebody else than root may write, that somebody swaps a name for a link between two calls, and root then
//! mounts or writes at another place. Files, folders and archives are walked by descriptors and have no need of this.

use crate::{Context, StepError};

/// An error where others than root may swap the path or a folder on it, as it is written and where its links lead.
pub fn must_be_roots(ctx: &Context, path: &str) -> Result<(), StepError> {
    match not_roots(ctx, path)? {
        None => Ok(()),
        Some(why) => Err(StepError::failed(why)
            .help("they could lead this to any place of the node: choose a path whose folders all are root's and writable by root alone")),
    }
}

/// The same as words.
pub fn not_roots(ctx: &Context, path: &str) -> Result<Option<String>, StepError> {
    // The link itself may be theirs, or the place that root's own link leads to.
    for place in [path, &ctx.mounts.resolve(path)?] {
        if !ctx.files.private(place)? {
            return Ok(Some(format!("{place} lies in a folder that others than root may change")));
        }
    }
    Ok(None)
}
