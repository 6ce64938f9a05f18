//! The first look: everything cheap, before the walk.
//!
//! Files and folders are read on blocking threads in a few long runs, because ten thousand of them cost more in task switches
//! than in system calls; packages and units are asked for in one call each. What costs a program or a network call is left for
//! the walk, unless a plan wants it all.

use std::sync::Arc;

use futures::{StreamExt, stream};
use muster_catalog::{
    Catalog, Resource, Spec,
    kinds::{Cost, service::ServiceSpec},
};
use muster_plan::kinds::{Change, Observed, diff};

use crate::{
    Context, StepError,
    kinds::{
        self,
        accounts::{Accounts, Foreign},
        directory, file, link, package, service,
    },
};

/// What the first look saw.
#[derive(Debug, Default)]
pub enum Seen {
    #[default]
    Nothing,
    Right,
    /// Boxed, because most are right and there are many.
    Differs(Box<(Observed, Change)>),
    Error(Box<StepError>),
}

impl Seen {
    pub fn of(spec: &Spec, observed: Result<Observed, StepError>) -> Self {
        match observed {
            Ok(observed) => match diff(spec, &observed) {
                Some(change) => Self::Differs(Box::new((observed, change))),
                None => Self::Right,
            },
            Err(error) => Self::Error(Box::new(error)),
        }
    }
}

/// How many looks that cost a program or a call are under way at once.
const AT_ONCE: usize = 8;
/// Fewer than this many files are not worth another thread.
const CHUNK: usize = 512;
/// So few are read where we are: the quick path after drift looks at one or two.
const FEW: usize = 8;

/// Looks at the steps `wanted`. With `all` also at what is not cheap.
pub async fn look(ctx: &Context, catalog: &Arc<Catalog>, wanted: &[usize], all: bool) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    seen.resize_with(catalog.resource.len(), Seen::default);
    let (mut files, mut packages, mut services, mut rest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &step in wanted {
        match catalog.resource[step].spec.cost() {
            Cost::File => files.push(step),
            Cost::Package => packages.push(step),
            Cost::Unit => services.push(step),
            Cost::Reading => rest.push(step),
            Cost::Call if all => rest.push(step),
            Cost::Call => {}
        }
    }
    let (files, packages, services, rest) = tokio::join!(
        look_at_files(ctx, catalog, files),
        look_at_packages(ctx, catalog, packages),
        look_at_services(ctx, catalog, services),
        look_at_each(ctx, catalog, rest),
    );
    for (step, one) in files.into_iter().chain(packages).chain(services).chain(rest) {
        seen[step] = one;
    }
    seen
}

async fn look_at_files(ctx: &Context, catalog: &Arc<Catalog>, steps: Vec<usize>) -> Vec<(usize, Seen)> {
    if steps.is_empty() {
        return Vec::new();
    }
    let foreign = foreign(ctx, catalog, &steps).await;
    if steps.len() <= FEW {
        let accounts = Accounts::with(&*ctx.files, foreign);
        return steps
            .into_iter()
            .map(|step| (step, look_at_file(ctx, &accounts, &catalog.resource[step].spec)))
            .collect();
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = steps.len().div_ceil(threads).max(CHUNK);
    let runs: Vec<_> = steps
        .chunks(chunk)
        .map(|steps| {
            let (ctx, catalog, steps) = (ctx.clone(), Arc::clone(catalog), steps.to_vec());
            let foreign = foreign.clone();
            tokio::task::spawn_blocking(move || {
                let accounts = Accounts::with(&*ctx.files, foreign);
                let one = |&step: &usize| (step, look_at_file(&ctx, &accounts, &catalog.resource[step].spec));
                // Those that are right, the most by far, need no place of their own.
                steps.iter().map(one).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut all = Vec::with_capacity(steps.len());
    for run in runs {
        match run.await {
            Ok(part) => all.extend(part),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime goes down: nobody will look at the result.
            Err(_cancelled) => {}
        }
    }
    all
}

/// Owners that only a directory service knows, asked for once for all files.
async fn foreign(ctx: &Context, catalog: &Catalog, steps: &[usize]) -> Foreign {
    let owned = steps.iter().filter_map(|&step| match &catalog.resource[step].spec {
        Spec::File(file) => Some((file.owner.as_str(), file.group.as_str())),
        Spec::Directory(folder) => Some((folder.owner.as_str(), folder.group.as_str())),
        _other => None,
    });
    // What cannot be read is said by each look.
    Foreign::of(ctx, owned.collect::<Vec<_>>()).await.unwrap_or_default()
}

fn look_at_file(ctx: &Context, accounts: &Accounts<'_>, spec: &Spec) -> Seen {
    match spec {
        Spec::File(file) => match file::look(&*ctx.files, accounts, file) {
            Ok(observed) if muster_plan::kinds::file::diff(file, &observed).is_none() => Seen::Right,
            observed => {
                let closer = observed.and_then(|observed| file::look_closer(&*ctx.files, file, observed));
                Seen::of(spec, closer.map(Observed::File))
            }
        },
        Spec::Directory(folder) => {
            let observed = directory::look(&*ctx.files, accounts, &ctx.scope, folder);
            Seen::of(spec, observed.map(Observed::Directory))
        }
        Spec::Link(one) => Seen::of(spec, link::look(&*ctx.files, one).map(Observed::Link)),
        // Of another kind: it is looked at when its turn comes.
        _other => Seen::Nothing,
    }
}

async fn look_at_packages(ctx: &Context, catalog: &Catalog, steps: Vec<usize>) -> Vec<(usize, Seen)> {
    if steps.is_empty() {
        return Vec::new();
    }
    let packages = steps.iter().filter_map(|&step| match &catalog.resource[step].spec {
        Spec::Package(package) => Some(package),
        _other => None,
    });
    let newest = package::newest(packages);
    let look = package::Look::take(ctx, &newest).await;
    let at = |step: usize| {
        let spec = &catalog.resource[step].spec;
        let Spec::Package(package) = spec else { return (step, Seen::Nothing) };
        let observed = match &look {
            Ok(look) => Ok(Observed::Package(look.at(package))),
            Err(error) => Err(error.clone().into()),
        };
        (step, Seen::of(spec, observed))
    };
    steps.into_iter().map(at).collect()
}

async fn look_at_services(ctx: &Context, catalog: &Catalog, steps: Vec<usize>) -> Vec<(usize, Seen)> {
    if steps.is_empty() {
        return Vec::new();
    }
    let specs: Vec<&ServiceSpec> = steps
        .iter()
        .filter_map(|&step| if let Spec::Service(spec) = &catalog.resource[step].spec { Some(spec) } else { None })
        .collect();
    let names: Vec<String> = specs.iter().map(|spec| spec.whole_name()).collect();
    let (states, owed) = tokio::join!(ctx.units.states(&names), ctx.packages.owed());
    match states {
        Ok(states) => steps
            .into_iter()
            .zip(names.iter().zip(states))
            .map(|(step, (name, state))| {
                let observed = Observed::Service(service::seen(state, service::outdated_by(&owed, name)));
                (step, Seen::of(&catalog.resource[step].spec, Ok(observed)))
            })
            .collect(),
        // Each says so itself when it is reached: systemd may come with a package.
        Err(_) => look_at_each(ctx, catalog, steps).await,
    }
}

async fn look_at_each(ctx: &Context, catalog: &Catalog, steps: Vec<usize>) -> Vec<(usize, Seen)> {
    stream::iter(steps)
        .map(|step| async move {
            let Resource { spec, .. } = &catalog.resource[step];
            (step, Seen::of(spec, kinds::observe(ctx, spec).await))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}
