//! `[[package]]`: what dpkg knows of it, and apt to change it. The engine joins what is ready at one time into one
//! transaction ([`transaction`]), looks first what apt would do, and refuses what the site does not say; see
//! [`crate::converge`].

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::{Catalog, Spec, kinds::package::PackageSpec};
use muster_plan::kinds::package::{Change, Observed};

use crate::{
    Context, Done, StepError,
    ports::{Known, PackageError, Transaction},
};

/// Seconds for which read indexes count as new enough to say what the newest version is.
const FRESH: i64 = 24 * 3600;
/// Seconds after which they are asked for again where they could not be read.
const AGAIN: i64 = 3600;
/// When all indexes were read last: seconds since the epoch.
const READ: &str = "/var/lib/muster-agent/indexes-read";

/// What packages are compared with, read once for all of them.
pub struct Look {
    known: std::sync::Arc<Known>,
    candidates: std::sync::Arc<BTreeMap<String, String>>,
}

impl Look {
    /// With the newest versions of these packages; apt is asked only where there are any.
    pub async fn take(ctx: &Context, newest: &BTreeSet<String>) -> Result<Self, PackageError> {
        let known = ctx.packages.installed().await?;
        let candidates = if newest.is_empty() { Default::default() } else { ctx.packages.candidates(newest).await? };
        Ok(Self { known, candidates })
    }

    pub fn known(&self) -> &Known {
        &self.known
    }

    pub fn at(&self, spec: &PackageSpec) -> Observed {
        let candidate = if spec.latest() { self.candidates.get(&spec.name).cloned() } else { None };
        match self.known.get(&spec.name) {
            Some(package) => Observed {
                version: (!package.version.is_empty()).then(|| package.version.clone()),
                complete: package.complete,
                hold: package.hold,
                candidate,
            },
            None => Observed { candidate, ..Observed::default() },
        }
    }
}

/// Those that are to be the newest.
pub fn newest<'a>(specs: impl IntoIterator<Item = &'a PackageSpec>) -> BTreeSet<String> {
    specs.into_iter().filter(|spec| spec.latest() && !spec.absent).map(|spec| spec.name.clone()).collect()
}

pub async fn observe(ctx: &Context, spec: &PackageSpec) -> Result<Observed, StepError> {
    Ok(Look::take(ctx, &newest([spec])).await?.at(spec))
}

/// What apt has to do for one change.
pub fn transaction(spec: &PackageSpec, change: &Change) -> Transaction {
    let mut transaction = Transaction::default();
    let name = spec.name.clone();
    if change.install {
        transaction.install.insert(name.clone(), change.wanted.clone());
    }
    if change.remove {
        transaction.remove.push(name.clone());
        transaction.goes.insert(name.clone());
    }
    match change.hold {
        Some(true) => transaction.hold.push(name),
        Some(false) => transaction.unhold.push(name),
        None if change.keep_hold => transaction.hold.push(name),
        None => {}
    }
    transaction
}

/// Alone, and nothing else may go for it.
pub async fn apply(ctx: &Context, spec: &PackageSpec, change: &Change) -> Result<Done, StepError> {
    ctx.packages.transact(&transaction(spec, change)).await?;
    Ok(Done::default())
}

/// Reads all indexes anew where the catalog asks for a newest version and they were not read for a day. A repository that
/// does not answer holds up nothing: what is known counts, and it is asked again in an hour.
pub async fn refresh(ctx: &Context, catalog: &Catalog) {
    let latest = catalog.resource.iter().any(|resource| match &resource.spec {
        Spec::Package(package) => package.latest() && !package.absent,
        _other => false,
    });
    if !latest {
        return;
    }
    let now = ctx.clock.now();
    let read = ctx.files.read(READ).ok().flatten().and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
    if read.is_some_and(|then: i64| then <= now && now < then + FRESH) {
        return;
    }
    let counts_from = match ctx.packages.update(None).await {
        Ok(()) => now,
        Err(error) => {
            tracing::warn!(%error, "the package indexes stay as they are: they cannot be read anew");
            now - FRESH + AGAIN
        }
    };
    if let Err(error) = ctx.files.write(READ, counts_from.to_string().as_bytes(), 0o644, 0, 0) {
        tracing::warn!(%error, "when the indexes were read cannot be written down");
    }
}
