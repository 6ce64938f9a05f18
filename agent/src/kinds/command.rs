//! `[[command]]`: guards that look without a way to write, and the program itself.

use std::time::Duration;

use muster_catalog::kinds::command::CommandSpec;
use muster_plan::kinds::command::{Change, Observed};

use super::program;
use crate::{
    Context, Done, StepError,
    ports::{CommandError, Invocation},
};

/// A guard looks, and looking is quick.
const GUARD: Duration = Duration::from_secs(60);

pub async fn observe(ctx: &Context, spec: &CommandSpec) -> Result<Observed, StepError> {
    let creates = match &spec.creates {
        Some(path) => Some(ctx.files.stat(path)?.is_some()),
        None => None,
    };
    Ok(Observed {
        unless: guard(ctx, spec, spec.unless.as_deref()).await?,
        only_if: guard(ctx, spec, spec.only_if.as_deref()).await?,
        creates,
    })
}

async fn guard(ctx: &Context, spec: &CommandSpec, argv: Option<&[String]>) -> Result<Option<bool>, StepError> {
    let Some(argv) = argv else { return Ok(None) };
    let mut run = Invocation::new(argv).timeout(GUARD).read_only();
    run.environment = spec.environment.clone();
    match ctx.commands.run(run).await {
        Ok(output) => Ok(Some(output.success())),
        // A program that is not there yet says no.
        Err(CommandError::NotFound { .. }) => Ok(Some(false)),
        Err(error) => Err(error.into()),
    }
}

pub async fn apply(ctx: &Context, spec: &CommandSpec, _change: &Change) -> Result<Done, StepError> {
    let mut run = Invocation::new(&spec.run).timeout(Duration::from_secs(spec.timeout.into()));
    run.environment = spec.environment.clone();
    let output = ctx.commands.run(run).await?;
    if !output.success() {
        return Err(program::failed(&spec.run, &output));
    }
    Ok(Done::default())
}
