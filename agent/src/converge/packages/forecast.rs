//! What a plan says of its packages: all that differ as one transaction, what comes along, what is refused, and which
//! services are started anew after it.

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::{Catalog, Spec};
use muster_ids::ResourceId;
use muster_plan::kinds::Change;

use super::{
    super::look::Seen,
    foresee::{Wish, foresee, is_unknown, says_no},
};
use crate::{Context, StepError, kinds::package::Look, ports::PackageError};

/// By step.
#[derive(Debug, Default)]
pub struct Forecast {
    /// Lines for a package's row.
    pub detail: BTreeMap<usize, Vec<String>>,
    /// The indexes do not know it yet: what comes of it is known when they were read.
    pub unknown: Vec<usize>,
    /// Services that run, and the package whose upgrade may ask for their restart.
    pub restarts: BTreeMap<usize, ResourceId>,
}

impl Forecast {
    /// Over all packages that differ.
    pub async fn of(ctx: &Context, catalog: &Catalog, seen: &[Seen]) -> Self {
        let mut forecast = Self::default();
        let mut steps = Vec::new();
        let mut wishes = Vec::new();
        for (step, seen) in seen.iter().enumerate() {
            if let (Spec::Package(spec), Seen::Differs(seen)) = (&catalog.resource[step].spec, seen)
                && let Change::Package(change) = &seen.1
            {
                steps.push(step);
                wishes.push(Wish { spec, change: change.clone() });
            }
        }
        // What dpkg knows was just read, for the look.
        let Ok(look) = Look::take(ctx, &BTreeSet::new()).await else { return forecast };
        if wishes.is_empty() {
            return forecast;
        }
        let foreseen = foresee(ctx, catalog, look.known(), &wishes).await;
        for (at, error) in foreseen.refused {
            forecast.refuse(steps[at], error);
        }
        let Some(&first) = foreseen.accepted.first().map(|&at| &steps[at]) else { return forecast };
        let lines = forecast.detail.entry(first).or_default();
        lines.extend(foreseen.company);
        let package = catalog.resource[first].id();
        for step in foreseen.moves.iter().filter(|step| step.replaces()) {
            for unit in ctx.packages.units(&step.name) {
                let runs = ctx.units.state(&unit).await.is_ok_and(|state| state.active == "active");
                if !runs {
                    continue;
                }
                let service = catalog.resource.iter().position(|resource| match &resource.spec {
                    Spec::Service(service) => service.whole_name() == unit,
                    _other => false,
                });
                match service {
                    Some(service) => drop(forecast.restarts.insert(service, package.clone())),
                    None => forecast
                        .detail
                        .entry(first)
                        .or_default()
                        .push(format!("{unit} is restarted, where the new version of {} asks for it", step.name)),
                }
            }
        }
        forecast
    }

    fn refuse(&mut self, step: usize, error: PackageError) {
        if is_unknown(&error) {
            self.unknown.push(step);
        }
        let mut lines = Vec::new();
        let word = if says_no(&error) { "is refused" } else { "cannot be foreseen" };
        lines.push(format!("{word}: {error}"));
        if let StepError::Failed(failure) = StepError::from(error) {
            lines.extend(failure.help.map(|help| format!("help: {help}")));
        }
        self.detail.entry(step).or_default().extend(lines);
    }
}
