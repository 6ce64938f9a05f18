//! Many packages, one run of apt: starting it costs more than most packages do.
//!
//! What apt would do is looked at first ([`foresee`]): a transaction that removes what the site does not want gone, or changes
//! what is held, is refused before anything is done. What a package did in the transaction is told of that package alone.

mod forecast;
mod foresee;
mod restarts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::Catalog;
use muster_plan::kinds::{Describe, package};

use self::foresee::{Wish, foresee};
pub use self::{forecast::Forecast, restarts::settle};
use super::step::{Ended, Step};
use crate::{
    Context, StepError,
    kinds::package::{Look, newest},
    ports::{PackageError, Transaction},
};

/// How the steps of a batch ended.
#[derive(Default)]
pub struct Batch {
    pub ends: Vec<(usize, Result<Ended, StepError>)>,
    /// Removals that others of the catalog may make possible: they come again with these.
    pub deferred: Vec<usize>,
}

/// Takes the steps of `batch`, packages all of them, and tells how each ended. With `more` other packages are still to come.
pub async fn run(catalog: &Catalog, batch: Vec<(usize, Step<'_>)>, more: bool) -> Batch {
    let Some((_, first)) = batch.first() else { return Batch::default() };
    let ctx = first.ctx.clone();
    let newest = newest(batch.iter().filter_map(|(_, work)| work.package()));
    let look = match Look::take(&ctx, &newest).await {
        Ok(look) => look,
        Err(error) => {
            let ends = batch.into_iter().map(|(step, _)| (step, Err(error.clone().into()))).collect();
            return Batch { ends, ..Batch::default() };
        }
    };
    let mut run = Run {
        ctx: &ctx,
        catalog,
        ends: Vec::new(),
        deferred: Vec::new(),
        todo: Vec::new(),
        more,
        fresh: false,
        stale: None,
        one_by_one: false,
    };
    for (step, work) in batch {
        let Some(spec) = work.package() else { continue };
        match package::diff(spec, &look.at(spec)) {
            Some(change) => match work.is_drift() {
                Ok(drift) => {
                    let drift = drift && !package::is_newer(spec, &change);
                    run.todo.push(Item { step, work, change, drift });
                }
                Err(error) => run.ends.push((step, Err(error))),
            },
            None => run.ends.push((step, work.heard().map(|()| Ended::default()))),
        }
    }
    drop(look);
    run.finish().await;
    while !run.todo.is_empty() {
        run.round().await;
    }
    Batch { ends: run.ends, deferred: run.deferred }
}

struct Run<'a> {
    ctx: &'a Context,
    catalog: &'a Catalog,
    ends: Vec<(usize, Result<Ended, StepError>)>,
    deferred: Vec<usize>,
    todo: Vec<Item<'a>>,
    more: bool,
    /// The indexes were read again, because they did not know a package.
    fresh: bool,
    /// Why they could not be.
    stale: Option<PackageError>,
    /// apt failed for all without saying for which: each by itself shows it.
    one_by_one: bool,
}

struct Item<'a> {
    step: usize,
    work: Step<'a>,
    change: package::Change,
    drift: bool,
}

impl<'a> Run<'a> {
    /// Ends what an interrupted run of dpkg left, before anything new is begun.
    async fn finish(&mut self) {
        let changing: BTreeSet<String> = self
            .todo
            .iter()
            .filter(|item| item.change.install || item.change.remove)
            .map(|item| item.name().to_owned())
            .collect();
        if let Err(error) = self.ctx.packages.finish(&changing).await {
            for item in self.todo.drain(..) {
                self.ends.push((item.step, Err(error.clone().into())));
            }
        }
    }

    /// One transaction. At least one item ends, or what is tried next is another thing.
    async fn round(&mut self) {
        let later = if self.one_by_one { self.todo.split_off(1) } else { Vec::new() };
        let look = match Look::take(self.ctx, &BTreeSet::new()).await {
            Ok(look) => look,
            Err(error) => return self.end_all(&error, later),
        };
        let wishes: Vec<Wish<'_>> = self
            .todo
            .iter()
            .filter_map(|item| Some(Wish { spec: item.work.package()?, change: item.change.clone() }))
            .collect();
        let seen = foresee(self.ctx, self.catalog, look.known(), &wishes).await;
        if !self.fresh && seen.refused.iter().any(|(_, error)| foresee::is_unknown(error)) {
            self.fresh = true;
            match self.ctx.packages.update(None).await {
                Ok(()) => return self.todo.extend(later),
                Err(error) => {
                    tracing::warn!(%error, "the package indexes cannot be read again");
                    self.stale = Some(error);
                }
            }
        }
        let mut refused: BTreeMap<usize, PackageError> = seen.refused.into_iter().collect();
        let mut accepted = Vec::new();
        for (at, item) in std::mem::take(&mut self.todo).into_iter().enumerate() {
            let refusal = refused.remove(&at);
            if self.more && item.change.remove && refusal.as_ref().is_some_and(foresee::takes_others_along) {
                self.deferred.push(item.step);
                continue;
            }
            let refusal = refusal.map(|error| match &self.stale {
                // It may be there, and the repository that has it is not read.
                Some(stale) if foresee::is_unknown(&error) => {
                    StepError::from(error).because(format!("its indexes could not be read anew: {stale}"))
                }
                Some(_) | None => error.into(),
            });
            match refusal.map_or_else(|| item.work.announce(), Err) {
                Ok(()) => accepted.push(item),
                Err(error) => self.ends.push((item.step, Err(error))),
            }
        }
        if accepted.len() == seen.accepted.len() && !accepted.is_empty() {
            self.transact(accepted, &seen.transaction, seen.company).await;
        } else {
            // One could not be written down: the others are looked at again without it.
            self.todo.extend(accepted);
        }
        self.todo.extend(later);
    }

    async fn transact(&mut self, items: Vec<Item<'a>>, transaction: &Transaction, company: Vec<String>) {
        let result = self.ctx.packages.transact(transaction).await;
        let many = items.len() > 1;
        let before = self.ends.len();
        let mut company = Some(company);
        let mut open = Vec::new();
        for item in items {
            match (item.work.verify().await, &result) {
                (Ok(()), _) => {
                    let mut ended = item.ended();
                    ended.done.get_or_insert_default().extend(company.take().unwrap_or_default());
                    self.ends.push((item.step, item.work.heard().map(|()| ended)));
                }
                (Err(error), Ok(())) => self.ends.push((item.step, Err(error))),
                (Err(_), Err(_)) => open.push(item),
            }
        }
        let Err(error) = result else { return };
        if open.is_empty() {
            // It went wrong at a package that nobody wrote.
            if let Some((_, Ok(ended))) = self.ends.last_mut() {
                ended.notes.push(error.to_string());
            }
            return;
        }
        let mut left = Vec::new();
        for item in open {
            match foresee::of(&error, item.name()) {
                Some(error) => self.ends.push((item.step, Err(error.into()))),
                None => left.push(item),
            }
        }
        // Those that ended are out of the way of the others.
        let fewer = self.ends.len() > before;
        if foresee::says_no(&error) && (fewer || (many && !self.one_by_one)) {
            self.one_by_one |= !fewer;
            self.todo.extend(left);
        } else {
            for item in left {
                self.ends.push((item.step, Err(error.clone().into())));
            }
        }
    }

    fn end_all(&mut self, error: &PackageError, later: Vec<Item<'a>>) {
        for item in self.todo.drain(..).chain(later) {
            self.ends.push((item.step, Err(error.clone().into())));
        }
    }
}

impl Item<'_> {
    fn name(&self) -> &str {
        self.work.package().map_or("", |package| &package.name)
    }

    fn ended(&self) -> Ended {
        Ended { done: Some(self.change.detail()), notes: Vec::new(), repaired: self.drift }
    }
}
