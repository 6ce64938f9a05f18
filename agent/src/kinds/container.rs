//! `[[container]]`: by Docker's daemon. The label with the specification's digest says what it was made from.

use std::collections::BTreeMap;

use muster_catalog::kinds::container::ContainerSpec;
use muster_plan::kinds::container::{Change, Current, LABEL, Observed, digest};

use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &ContainerSpec) -> Result<Observed, StepError> {
    let current = ctx
        .docker
        .container(&spec.name)
        .await?
        .map(|state| Current { running: state.running, digest: state.labels.get(LABEL).cloned() });
    Ok(Observed { current })
}

pub async fn apply(ctx: &Context, spec: &ContainerSpec, change: &Change) -> Result<Done, StepError> {
    let labels = || BTreeMap::from([(LABEL.to_owned(), digest(spec))]);
    match change {
        Change::Create => ctx.docker.run(spec, &labels()).await?,
        Change::Replace { .. } => {
            // The image first: a registry that does not answer must not cost the old container.
            if ctx.docker.image(&spec.image).await?.is_none() {
                ctx.docker.pull(&spec.image).await?;
            }
            ctx.docker.remove(&spec.name).await?;
            ctx.docker.run(spec, &labels()).await?;
        }
        Change::Start => ctx.docker.start(&spec.name).await?,
        Change::Restart => ctx.docker.restart(&spec.name).await?,
        Change::Remove { .. } => ctx.docker.remove(&spec.name).await?,
    }
    Ok(Done::default())
}
