//! Kubernetes objects by server-side apply, on the control plane that leads.

use muster_catalog::kinds::manifest::ManifestSpec;
use muster_plan::{
    Skip,
    kinds::manifest::{Change, Observed},
};

use crate::{
    Context, Done, StepError,
    cluster::{
        lease::{self, Holder},
        sets,
    },
};

pub async fn observe(ctx: &Context, spec: &ManifestSpec) -> Result<Observed, StepError> {
    let client = ctx.kube.client().await?;
    match lease::holder(&client, ctx.scope.node.as_str()).await? {
        Holder::This | Holder::Nobody => {}
        Holder::Other(leader) => return Err(StepError::Skip(Skip::NotTheLeader { leader })),
    }
    match spec.prunes() {
        Some(prune) => sets::left(ctx, &client, &prune).await.map(Observed::Left),
        None => sets::look(ctx, &client, spec).await,
    }
}

pub async fn apply(ctx: &Context, spec: &ManifestSpec, change: &Change) -> Result<Done, StepError> {
    let client = ctx.kube.client().await?;
    if let Holder::Other(leader) = lease::ensure(&client, ctx.scope.node.as_str(), ctx.clock.now()).await? {
        return Err(StepError::Skip(Skip::NotTheLeader { leader }));
    }
    match change {
        Change::Write(writing) => sets::write(ctx, &client, spec, writing).await,
        Change::Prune(left) => sets::prune(ctx, &client, left).await,
    }
}
