//! `[[service]]`: systemd over D-Bus.

use muster_catalog::kinds::service::ServiceSpec;
use muster_plan::kinds::service::{Change, Observed, Run};

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
    let UnitState { loaded, masked, active, sub, file, needs_reload } = state;
    Observed { loaded, masked, active, sub, file, needs_reload, outdated_by }
}

pub async fn apply(ctx: &Context, spec: &ServiceSpec, change: &Change) -> Result<Done, StepError> {
    let unit = spec.whole_name();
    if change.daemon_reload {
        ctx.units.daemon_reload().await?;
    }
    let wants_more = change.enable == Some(true) || change.run.is_some();
    if wants_more {
        // A unit file that was written a moment ago is not known yet.
        let mut state = ctx.units.state(&unit).await?;
        if !state.loaded && !state.masked {
            ctx.units.daemon_reload().await?;
            state = ctx.units.state(&unit).await?;
        }
        if state.masked {
            return Err(StepError::failed(format!("{unit} is masked"))
                .help(format!("`systemctl unmask {unit}`, if it should run")));
        }
        if !state.loaded {
            return Err(UnitError::NotFound { name: unit }.into());
        }
    }
    match change.enable {
        Some(true) => ctx.units.enable(&unit).await?,
        Some(false) => ctx.units.disable(&unit).await?,
        None => {}
    }
    match change.run {
        Some(Run::Start) => ctx.units.start(&unit).await?,
        Some(Run::Stop) => ctx.units.stop(&unit).await?,
        Some(Run::Restart) => ctx.units.restart(&unit).await?,
        Some(Run::Reload) => ctx.units.reload(&unit).await?,
        None => {}
    }
    Ok(Done::default())
}
