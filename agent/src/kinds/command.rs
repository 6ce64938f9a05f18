//! `[[command]]`: guards that look without a way to write, and the program itself.
//!
//! A program that an agent began and did not see the end of is waited for, and how it ended is unknown: the guards, asked again,
//! say whether it is still due. That is the one decision that is taken here while applying, by the same pure functions.

use std::time::Duration;

use muster_catalog::kinds::command::CommandSpec;
use muster_plan::kinds::command::{Change, Observed, diff, on_notify};

use super::program;
use crate::{
    Context, Done, StepError,
    ports::{CommandError, Invocation, Once},
};

#[cfg(test)]
mod tests;

/// A guard looks, and looking is quick.
const GUARD: Duration = Duration::from_secs(60);

pub async fn observe(ctx: &Context, spec: &CommandSpec) -> Result<Observed, StepError> {
    if let Some(run) = ctx.commands.under_way(&spec.name).await? {
        // What the guards say of work that is half done is worth nothing.
        return Ok(Observed { under_way: Some(run.pid), ..Observed::default() });
    }
    let creates = match &spec.creates {
        Some(path) => Some(ctx.files.stat(path)?.is_some()),
        None => None,
    };
    Ok(Observed {
        unless: guard(ctx, spec, "unless", spec.unless.as_deref()).await?,
        only_if: guard(ctx, spec, "only_if", spec.only_if.as_deref()).await?,
        creates,
        under_way: None,
    })
}

async fn guard(
    ctx: &Context,
    spec: &CommandSpec,
    key: &str,
    argv: Option<&[String]>,
) -> Result<Option<bool>, StepError> {
    let Some(argv) = argv else { return Ok(None) };
    let mut run = Invocation::new(argv).timeout(GUARD).read_only();
    run.environment = spec.environment.clone();
    let program = run.program().to_owned();
    let unasked = |why: String| StepError::failed(format!("the guard `{key}` gives no answer: {why}")).retry();
    match ctx.commands.run(run).await {
        Ok(output) => match output.status {
            0 => Ok(Some(true)),
            // What shells and env say of a program that they cannot start.
            126 | 127 => {
                let said = output.tail(1);
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                Err(unasked(format!("`{program}` ended with status {}{said}", output.status))
                    .help("126 and 127 say that a program in it is not there or not executable"))
            }
            killed @ 129..=192 => Err(unasked(format!("`{program}` was ended by signal {}", killed - 128))),
            _no => Ok(Some(false)),
        },
        Err(error @ CommandError::NotFound { .. }) => Err(unasked(error.to_string()).help(format!(
            "correct it, or name the package that brings it in `after`; where `run` itself makes the program, write \
             creates = \"{}\" instead",
            if program.starts_with('/') { &program } else { "/usr/…" }
        ))),
        Err(error) => {
            let why = error.to_string();
            let of_it = StepError::from(error);
            let StepError::Failed(failure) = of_it else { return Err(of_it) };
            let step = unasked(why);
            let step = if let Some(help) = failure.help { step.help(help) } else { step };
            Err(if let Some(source) = failure.source { step.because(source) } else { step })
        }
    }
}

pub async fn apply(ctx: &Context, spec: &CommandSpec, change: &Change) -> Result<Done, StepError> {
    let mut notes = Vec::new();
    let mut waits = change.waits_for.is_some();
    loop {
        if waits {
            wait(ctx, spec, &mut notes).await?;
            let observed = observe(ctx, spec).await?;
            let due = if change.told { on_notify(spec, &observed) } else { diff(spec, &observed) };
            if due.is_none() {
                return Ok(Done { notes });
            }
        }
        let mut run = Invocation::new(&spec.run).timeout(Duration::from_secs(spec.timeout.into()));
        run.environment = spec.environment.clone();
        match ctx.commands.once(&spec.name, run).await? {
            Once::Ended(output) if output.success() => return Ok(Done { notes }),
            Once::Ended(output) => return Err(program::failed(&spec.run, &output)),
            // Another agent was quicker.
            Once::UnderWay(_) => waits = true,
        }
    }
}

/// Waits for what runs already, as long as it has left.
async fn wait(ctx: &Context, spec: &CommandSpec, notes: &mut Vec<String>) -> Result<(), StepError> {
    let Some(run) = ctx.commands.under_way(&spec.name).await? else { return Ok(()) };
    let all = Duration::from_secs(spec.timeout.into());
    if ctx.commands.ended(&run, all.saturating_sub(Duration::from_secs(run.age))).await? {
        notes.push(format!("process {} ran it already and was waited for", run.pid));
        return Ok(());
    }
    let program = spec.run.first().cloned().unwrap_or_default();
    Err(CommandError::TimedOut { program, after: all, tail: String::new() }.into())
}
