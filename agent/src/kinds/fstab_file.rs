//! `/etc/fstab` as it is changed: by one step at a time, as a whole, and made known to systemd.
//!
//! That systemd has to read it is written down before the change, so that a kill between the two is made good. A boot reads it anyway.

use std::sync::atomic::{AtomicU64, Ordering};

use muster_plan::fstab::{Edited, PATH};

use super::editing::editing;
use crate::{Context, StepError, ports::UnitError};

/// Of this process.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// There while systemd may not have read the file as it is: which change it was.
const UNREAD: &str = "/run/muster/fstab-unread";

/// Changes lines, where `edit` finds something to change in the file as it is now. Mode and owner stay.
pub async fn change(ctx: &Context, edit: impl FnOnce(&[u8]) -> Option<Edited>) -> Result<(), StepError> {
    match replace(ctx, edit)? {
        Some(change) => read_by_systemd(ctx, &change).await,
        None => Ok(()),
    }
}

/// What a change that was cut off left undone.
pub async fn settle(ctx: &Context) -> Result<(), StepError> {
    match ctx.files.read(UNREAD)? {
        Some(change) => read_by_systemd(ctx, &change).await,
        None => Ok(()),
    }
}

/// systemd makes units of the file, and acts on what it read last.
async fn read_by_systemd(ctx: &Context, change: &[u8]) -> Result<(), StepError> {
    match ctx.units.daemon_reload().await {
        Ok(()) | Err(UnitError::Unreachable(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let _one = editing(&*ctx.files)?;
    // A later change is read for itself.
    if ctx.files.read(UNREAD)?.as_deref() == Some(change) {
        ctx.files.remove(UNREAD, false)?;
    }
    Ok(())
}

fn replace(ctx: &Context, edit: impl FnOnce(&[u8]) -> Option<Edited>) -> Result<Option<Vec<u8>>, StepError> {
    let _one = editing(&*ctx.files)?;
    let text = ctx.files.read(PATH)?.unwrap_or_default();
    let Some(edited) = edit(&text) else { return Ok(None) };
    let path = ctx.mounts.resolve(PATH)?;
    let (mode, uid, gid) = ctx.files.stat(&path)?.map_or((0o644, 0, 0), |stat| (stat.mode, stat.uid, stat.gid));
    let change = format!("{} {}", std::process::id(), CHANGES.fetch_add(1, Ordering::Relaxed)).into_bytes();
    ctx.files.write(UNREAD, &change, 0o600, 0, 0)?;
    ctx.files.write(&path, &edited.text, mode, uid, gid)?;
    Ok(Some(change))
}
