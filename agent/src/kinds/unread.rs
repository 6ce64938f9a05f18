//! Changes that systemd has to read before they count: a line of fstab, the links that enable a unit.
//!
//! That there is one is written down before it is made, so that a kill before systemd read it is made good by the next agent. A boot reads
//! all anyway, and empties the folder.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    Context, StepError,
    ports::{FileError, UnitError},
    temporary::is_an_agent,
};

const FOLDER: &str = "/run/muster";
/// With the number of the agent's process.
const NAME: &str = "unread-";

/// Changes of this process under way.
static CHANGES: Mutex<usize> = Mutex::new(0);

fn changes() -> MutexGuard<'static, usize> {
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path() -> String {
    format!("{FOLDER}/{NAME}{}", std::process::id())
}

/// Before a change.
pub fn begin(ctx: &Context) -> Result<(), FileError> {
    let mut changes = changes();
    if *changes == 0 {
        ctx.files.write(&path(), b"", 0o600, 0, 0)?;
    }
    *changes += 1;
    Ok(())
}

/// After systemd read it. A change that failed before that stays written down.
pub fn end(ctx: &Context) -> Result<(), FileError> {
    let mut changes = changes();
    *changes = changes.saturating_sub(1);
    if *changes == 0 { ctx.files.remove(&path(), false) } else { Ok(()) }
}

/// Reads what a killed agent changed.
pub async fn settle(ctx: &Context) -> Result<(), StepError> {
    let names = ctx.files.list(FOLDER)?.unwrap_or_default();
    let of = |name: &str| name.strip_prefix(NAME)?.parse().ok();
    let gone = |process: u32| process != std::process::id() && !is_an_agent(process);
    let left: Vec<_> = names.into_iter().filter(|name| of(name).is_some_and(gone)).collect();
    if left.is_empty() {
        return Ok(());
    }
    reload(ctx).await?;
    for name in left {
        ctx.files.remove(&format!("{FOLDER}/{name}"), false)?;
    }
    Ok(())
}

/// Where there is no systemd, nothing is to be read.
pub async fn reload(ctx: &Context) -> Result<(), StepError> {
    match ctx.units.daemon_reload().await {
        Ok(()) | Err(UnitError::Unreachable(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
