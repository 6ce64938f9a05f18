//! `[[timer]]`: two unit files, and systemd over D-Bus.

use std::time::Duration;

use muster_catalog::kinds::timer::TimerSpec;
use muster_plan::kinds::timer::{Change, Observed};

use super::unread;
use crate::{
    Context, Done, StepError,
    ports::{Invocation, UnitError},
};

/// What systemd remembers of a persistent timer.
const STAMPS: &str = "/var/lib/systemd/timers/stamp-";

pub async fn observe(ctx: &Context, spec: &TimerSpec) -> Result<Observed, StepError> {
    let read = |path: &str| -> Result<Option<String>, StepError> {
        Ok(ctx.files.read(path)?.map(|text| String::from_utf8_lossy(&text).into_owned()))
    };
    let state = ctx.units.state(&spec.timer()).await?;
    let mut needs_reload = state.needs_reload;
    if spec.run.is_some() {
        needs_reload |= ctx.units.state(&spec.starts()).await?.needs_reload;
    }
    Ok(Observed {
        timer: read(&spec.timer_path())?,
        service: read(&spec.service_path())?,
        active: state.active == "active",
        enabled: state.file == "enabled" || state.dangling,
        needs_reload,
    })
}

pub async fn apply(ctx: &Context, spec: &TimerSpec, change: &Change) -> Result<Done, StepError> {
    let timer = spec.timer();
    if !spec.absent {
        understood(ctx, spec).await?;
        startable(ctx, spec).await?;
    }
    unread::begin(ctx)?;
    if change.stop {
        ctx.units.stop(&timer).await?;
    }
    if change.disable {
        ctx.units.disable(&timer).await?;
    }
    for (path, text) in &change.files {
        match text {
            Some(text) => ctx.files.write(path, text.as_bytes(), 0o644, 0, 0)?,
            None => ctx.files.remove(path, false)?,
        }
    }
    if spec.absent {
        // Made again one day it would think that it missed all the times in between.
        ctx.files.remove(&format!("{STAMPS}{timer}"), false)?;
    }
    ctx.units.daemon_reload().await?;
    if let Some(words) = ctx.units.state(&timer).await?.bad {
        return Err(UnitError::Bad { name: timer, words }.into());
    }
    if change.enable {
        ctx.units.enable(&timer).await?;
    }
    unread::end(ctx)?;
    if change.start {
        ctx.units.start(&timer).await?;
    }
    Ok(Done::default())
}

/// Before anything is written: nobody shut the timer, and what it starts is there.
async fn startable(ctx: &Context, spec: &TimerSpec) -> Result<(), StepError> {
    let timer = spec.timer();
    if ctx.units.state(&timer).await?.masked {
        let help =
            format!("somebody ran `systemctl mask {timer}`: unmask it on the node, if it should run all the same");
        let error: StepError = UnitError::Masked { name: timer }.into();
        return Err(error.help(help));
    }
    let (Some(service), starts) = (&spec.service, spec.starts()) else { return Ok(()) };
    if ctx.units.state(&starts).await?.loaded {
        return Ok(());
    }
    // A unit file that was written a moment ago is not known yet.
    ctx.units.daemon_reload().await?;
    if ctx.units.state(&starts).await?.loaded {
        return Ok(());
    }
    Err(StepError::failed(format!("there is no unit {starts}, which the timer is to start"))
        .help(format!("which package brings {service}? add it, or write its unit file, or give the timer `run`")))
}

/// Before anything is written: systemd itself reads the times.
async fn understood(ctx: &Context, spec: &TimerSpec) -> Result<(), StepError> {
    let spans = [&spec.every, &spec.on_boot, &spec.random_delay, &spec.timeout];
    let spans = spans.into_iter().flatten().map(|text| ("timespan", text));
    let calendars = spec.calendars().iter().map(|text| ("calendar", text));
    for (what, text) in calendars.chain(spans) {
        let ask = Invocation::new(["systemd-analyze", what, "--", text]).timeout(Duration::from_secs(20));
        let said = ctx.commands.run(ask).await.map_err(|error| {
            StepError::failed(format!("systemd cannot be asked what it makes of {text:?}")).because(error).retry()
        })?;
        if !said.success() {
            return Err(StepError::failed(format!("systemd does not understand {text:?}: {}", said.tail(1)))
                .help(format!("try it on the node: systemd-analyze {what} {text:?}")));
        }
    }
    Ok(())
}
