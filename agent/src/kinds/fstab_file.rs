//! `/etc/fstab` as it is changed: by one step at a time, as a whole, and made known to systemd.

use muster_plan::fstab::{Edited, PATH};

use super::{editing::editing, unread};
use crate::{Context, StepError};

/// Changes lines, where `edit` finds something to change in the file as it is now. Mode and owner stay.
pub async fn change(ctx: &Context, edit: impl FnOnce(&[u8]) -> Option<Edited>) -> Result<(), StepError> {
    if !replace(ctx, edit)? {
        return Ok(());
    }
    // systemd makes units of the file, and acts on what it read last.
    unread::reload(ctx).await?;
    Ok(unread::end(ctx)?)
}

fn replace(ctx: &Context, edit: impl FnOnce(&[u8]) -> Option<Edited>) -> Result<bool, StepError> {
    let _one = editing(&*ctx.files)?;
    let text = ctx.files.read(PATH)?.unwrap_or_default();
    let Some(edited) = edit(&text) else { return Ok(false) };
    let path = ctx.mounts.resolve(PATH)?;
    let (mode, uid, gid) = ctx.files.stat(&path)?.map_or((0o644, 0, 0), |stat| (stat.mode, stat.uid, stat.gid));
    unread::begin(ctx)?;
    ctx.files.write(&path, &edited.text, mode, uid, gid)?;
    Ok(true)
}
