//! Many packages, one run of apt: starting it costs more than most packages do.

use muster_catalog::{Catalog, Spec};
use muster_plan::kinds::{Change, Observed, diff, package};

use super::step::{Ended, Step};
use crate::{
    StepError,
    kinds::package::{seen, transact, transaction},
    ports::{PackageError, Transaction},
};

/// Takes the steps of `batch`, packages all of them, and tells how each ended.
pub async fn run(catalog: &Catalog, batch: Vec<(usize, Step<'_>)>) -> Vec<(usize, Result<Ended, StepError>)> {
    let mut ends = Vec::new();
    let mut todo = Vec::new();
    let Some((_, first)) = batch.first() else { return ends };
    let ctx = first.ctx.clone();
    let installed = match ctx.packages.installed().await {
        Ok(installed) => installed,
        Err(error) => return batch.into_iter().map(|(step, _)| (step, Err(error.clone().into()))).collect(),
    };
    for (step, work) in batch {
        let spec = &catalog.resource[step].spec;
        let Spec::Package(package) = spec else { continue };
        let observed = Observed::Package(seen(installed.get(&package.name)));
        match diff(spec, &observed) {
            Some(Change::Package(change)) => {
                let announced = work.is_drift().and_then(|drift| work.announce().map(|()| drift));
                match announced {
                    Ok(drift) => todo.push(Item { step, work, change, drift }),
                    Err(error) => ends.push((step, Err(error))),
                }
            }
            Some(_) | None => ends.push((step, Ok(Ended::default()))),
        }
    }
    drop(installed);
    while !todo.is_empty() {
        let mut all = Transaction::default();
        for item in &todo {
            let Spec::Package(package) = &catalog.resource[item.step].spec else { continue };
            all.merge(transaction(package, &item.change));
        }
        match transact(&ctx, &all).await {
            Ok(()) => {
                for item in todo.drain(..) {
                    let end = item.work.verify().await.map(|()| item.ended());
                    ends.push((item.step, end));
                }
            }
            Err(error) => {
                let guilty = match &error {
                    // Those that it names fail, the others go on without them.
                    PackageError::NotFound { name, .. }
                    | PackageError::Untrusted { name }
                    | PackageError::Altered { name, .. } => todo.iter().position(|item| item.work.id.name() == name),
                    PackageError::Failed { .. }
                    | PackageError::Unsigned { .. }
                    | PackageError::NoSignature { .. }
                    | PackageError::Unreachable { .. }
                    | PackageError::DiskFull
                    | PackageError::Locked { .. }
                    | PackageError::NoApt => None,
                };
                match (guilty, &error) {
                    (Some(at), _) => ends.push((todo.swap_remove(at).step, Err(error.into()))),
                    // apt says no to the whole: each by itself shows which ones it is.
                    (
                        None,
                        PackageError::Failed { .. } | PackageError::Untrusted { .. } | PackageError::Altered { .. },
                    ) if todo.len() > 1 => {
                        for item in todo.drain(..) {
                            ends.push(item.alone(catalog).await);
                        }
                    }
                    (None, _) => {
                        for item in todo.drain(..) {
                            ends.push((item.step, Err(error.clone().into())));
                        }
                    }
                }
            }
        }
    }
    ends
}

struct Item<'a> {
    step: usize,
    work: Step<'a>,
    change: package::Change,
    drift: bool,
}

impl Item<'_> {
    fn ended(&self) -> Ended {
        use muster_plan::kinds::Describe;
        Ended { done: Some(self.change.detail()), notes: Vec::new(), repaired: self.drift }
    }

    async fn alone(self, catalog: &Catalog) -> (usize, Result<Ended, StepError>) {
        let Spec::Package(package) = &catalog.resource[self.step].spec else {
            return (self.step, Ok(Ended::default()));
        };
        let end = match transact(self.work.ctx, &transaction(package, &self.change)).await {
            Ok(()) => self.work.verify().await.map(|()| self.ended()),
            Err(error) => Err(error.into()),
        };
        (self.step, end)
    }
}
