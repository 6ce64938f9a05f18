//! What a killed agent left undone and no step would see: seen to before the first look.

use crate::{
    Context, StepError,
    kinds::unread,
    temporary::{self, SCRATCH},
};

/// Programs that go on are waited for, temporary folders go, systemd reads what was written. What cannot be seen to is said and holds up
/// nothing: the steps themselves say what is wrong.
pub async fn settle(ctx: &Context) {
    let programs = ctx.commands.settled().await.map_err(StepError::from);
    for done in [programs, scratch(ctx), unread::settle(ctx).await] {
        if let Err(error) = done {
            tracing::warn!(%error, "what a killed agent left cannot be seen to");
        }
    }
}

fn scratch(ctx: &Context) -> Result<(), StepError> {
    for name in ctx.files.list(SCRATCH)?.unwrap_or_default() {
        if temporary::is_left(&name) {
            ctx.files.remove(&format!("{SCRATCH}/{name}"), true)?;
        }
    }
    Ok(())
}
