//! `[[service]]`: systemd over D-Bus.

use muster_catalog::kinds::service::ServiceSpec;
use muster_plan::kinds::service::{Change, Observed, Run};

use super::unread;
use crate::{
    Context, Done, StepError,
    ports::{Owed, UnitError, UnitState},
};

pub async fn observe(ctx: &Context, spec: &ServiceSpec) -> Result<Observed, StepError> {
    let unit = spec.whole_name();
    let state = ctx.units.state(&unit).await?;
    Ok(seen(state, outdated_by(&ctx.packages.owed().await, &unit)))
}

/// The package whose upgrade this unit did not see yet.
pub fn outdated_by(owed: &[Owed], unit: &str) -> Option<String> {
    owed.iter().find(|owed| owed.units.iter().any(|name| name == unit)).map(|owed| owed.package.clone())
}

pub fn seen(state: UnitState, outdated_by: Option<String>) -> Observed {
    let UnitState {
        id: _,
        loaded,
        masked,
        bad,
        active,
        sub,
        file,
        dangling,
        needs_reload,
        can_reload,
        once,
        again,
        left,
    } = state;
    Observed {
        loaded,
        masked,
        bad,
        active,
        sub,
        file,
        dangling,
        needs_reload,
        can_reload,
        once,
        again,
        left,
        outdated_by,
    }
}

pub async fn apply(ctx: &Context, spec: &ServiceSpec, change: &Change) -> Result<Done, StepError> {
    let unit = spec.whole_name();
    let links = change.unmask || change.enable.is_some();
    if links {
        unread::begin(ctx)?;
    }
    if change.unmask {
        ctx.units.unmask(&unit).await?;
    }
    if change.daemon_reload {
        ctx.units.daemon_reload().await?;
    }
    let stops = matches!(change.run, None | Some(Run::Stop | Run::Stand));
    if change.enable == Some(true) || !stops {
        usable(ctx, &unit).await?;
    }
    if change.run == Some(Run::Stop) {
        // An alias goes when its unit is disabled, and then nothing runs under this name.
        ctx.units.stop(&unit).await?;
    }
    match change.enable {
        Some(true) => ctx.units.enable(&unit).await?,
        Some(false) => ctx.units.disable(&unit).await?,
        None => {}
    }
    if links {
        unread::end(ctx)?;
    }
    match change.run {
        Some(Run::Start) => ctx.units.start(&unit).await?,
        Some(Run::Restart) => ctx.units.restart(&unit).await?,
        Some(Run::Reload) => ctx.units.reload(&unit).await?,
        Some(Run::Stop | Run::Stand) | None => {}
    }
    match change.run {
        Some(Run::Start | Run::Restart | Run::Stand) => ctx.units.stands(&unit).await?,
        Some(Run::Stop | Run::Reload) | None => {}
    }
    Ok(Done::default())
}

/// Its unit file is there and can be used; otherwise what is wrong with it.
async fn usable(ctx: &Context, unit: &str) -> Result<(), StepError> {
    let mut state = ctx.units.state(unit).await?;
    if !state.loaded {
        // A unit file that was written a moment ago is not known yet.
        ctx.units.daemon_reload().await?;
        state = ctx.units.state(unit).await?;
    }
    let name = unit.to_owned();
    match state.bad {
        _any if state.masked => Err(UnitError::Masked { name }.into()),
        Some(words) => Err(UnitError::Bad { name, words }.into()),
        None if !state.loaded => Err(UnitError::NotFound { name }.into()),
        None => Ok(()),
    }
}
