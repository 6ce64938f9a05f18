//! `[[package]]`: what dpkg knows of it, and apt to change it. The engine joins what is ready at one time into one
//! transaction ([`transaction`]); a single change goes through [`apply`].

use muster_catalog::kinds::package::PackageSpec;
use muster_plan::kinds::package::{Change, Observed};

use crate::{
    Context, Done, StepError,
    ports::{Installed, PackageError, Transaction},
};

pub async fn observe(ctx: &Context, spec: &PackageSpec) -> Result<Observed, StepError> {
    let installed = ctx.packages.installed().await?;
    Ok(seen(installed.get(&spec.name)))
}

pub fn seen(installed: Option<&Installed>) -> Observed {
    match installed {
        Some(package) => Observed {
            version: (!package.version.is_empty()).then(|| package.version.clone()),
            complete: package.complete,
            hold: package.hold,
        },
        None => Observed::default(),
    }
}

/// What apt has to do for one change.
pub fn transaction(spec: &PackageSpec, change: &Change) -> Transaction {
    let mut transaction = Transaction::default();
    let name = spec.name.clone();
    if change.install {
        transaction.install.insert(name.clone(), spec.version.clone());
    }
    if change.remove {
        transaction.remove.push(name.clone());
    }
    match change.hold {
        Some(true) => transaction.hold.push(name),
        Some(false) => transaction.unhold.push(name),
        None => {}
    }
    transaction
}

/// One run of apt. Where it knows no such package or version the indexes may be old: they are read again, once.
pub async fn transact(ctx: &Context, transaction: &Transaction) -> Result<(), PackageError> {
    match ctx.packages.transact(transaction).await {
        Err(PackageError::NotFound { .. }) => {
            ctx.packages.update(None).await?;
            ctx.packages.transact(transaction).await
        }
        other => other,
    }
}

pub async fn apply(ctx: &Context, spec: &PackageSpec, change: &Change) -> Result<Done, StepError> {
    transact(ctx, &transaction(spec, change)).await?;
    Ok(Done::default())
}
