//! Publishing: the moment at which a plan becomes what nodes follow. One compare-and-set on the root record.

use std::time::Duration;

use muster_ids::{Generation, NodeName};
use muster_planner::{Blueprint, Finding};

use crate::{
    context::Context,
    events::Level,
    library::LibraryError,
    plan::{self, PlanError, Planned, SavedPlan, differences, overtaken},
    secrets::{self, SecretError},
    state::{LocalError, Publication, Rollout, RolloutState, Root, StateError},
};

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("there is no plan {0}; the last 50 are kept")]
    NoPlan(String),
    #[error("the saved plan {0} cannot be read")]
    Damaged(String, #[source] serde_json::Error),
    #[error("the plan could not be made again")]
    Plan(#[source] Box<PlanError>),
    #[error("{0} is not among the nodes that this plan changes")]
    NoSuchNode(NodeName),
    #[error("nothing has been applied yet: there is no node to try it on")]
    NothingToTry,
    #[error("the planner made a blueprint that its own checker refuses: {}", list(.0))]
    Unsafe(Vec<Finding>),
    #[error("the local state cannot be used")]
    Local(#[from] LocalError),
    #[error("what was planned cannot be read or kept")]
    Library(#[from] LibraryError),
    #[error("the state cannot be changed")]
    State(#[from] StateError),
    #[error("a secret could not be made")]
    Secret(#[from] SecretError),
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How an apply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Published: nodes are told now. With the first digits of the site's digest.
    Published(Generation, String),
    /// Nodes follow this site already.
    Already(Generation, String),
    /// What would happen now is not what was shown. Nothing was applied.
    Stale(Vec<String>),
}

/// Plans again, and publishes if the rows are those that were shown.
pub async fn apply(ctx: &Context, id: &str, only: Option<&NodeName>, by: &str) -> Result<Applied, ApplyError> {
    let root = ctx.state.snapshot();
    let shown = match kept(ctx, id) {
        Ok(shown) => shown,
        // Whatever became of it, it is of before.
        Err(ApplyError::NoPlan(_) | ApplyError::Damaged(..)) if is_older(id, &root) => {
            let now = overtaken(None, root.current.as_ref()).into_iter();
            return Ok(Applied::Stale(now.chain(["the plan itself is not kept any more".to_owned()]).collect()));
        }
        Err(error) => return Err(error),
    };
    if let Some(current) = &root.current
        && current.site == shown.site
        && root.rollout.is_none()
    {
        // Whatever differs is drift, and agents repair that by themselves: nothing is left to publish.
        ctx.wake.notify_one();
        return Ok(Applied::Already(current.generation, current.site.short()));
    }
    // Before anything else that is wrong with it by now.
    if let Some(line) = overtaken(shown.parent.as_ref(), root.current.as_ref()) {
        return Ok(Applied::Stale(vec![line]));
    }
    if let Some(only) = only {
        let current = root.current.as_ref().ok_or(ApplyError::NothingToTry)?;
        let blueprint = ctx.library.blueprint(&current.blueprint)?;
        if !shown.nodes.contains_key(only) || !blueprint.nodes.contains_key(only) {
            return Err(ApplyError::NoSuchNode(only.clone()));
        }
    }
    let files = ctx.library.files(&shown.site_object)?;
    let planned = plan::plan(ctx, &files, Duration::from_secs(10), &|_| {})
        .await
        .map_err(|error| ApplyError::Plan(Box::new(error)))?;
    let stale = differences(&shown, &planned.saved);
    if !stale.is_empty() {
        return Ok(Applied::Stale(stale));
    }
    make_secrets(ctx, &planned)?;
    let generation = match only {
        None => publish(ctx, &planned, by).await?,
        Some(only) => try_first(ctx, &planned, only, by).await?,
    };
    let Some(generation) = generation else {
        let root = ctx.state.snapshot();
        let line = overtaken(planned.saved.parent.as_ref(), root.current.as_ref());
        return Ok(Applied::Stale(vec![line.unwrap_or_else(|| "another apply came between".to_owned())]));
    };
    let short = planned.saved.site.short();
    let text = match only {
        None => format!("{by} applied catalog {short} as generation {generation}"),
        Some(only) => format!(
            "{by} applied catalog {short} as generation {generation}, on {only} first: the other nodes and the cluster's \
             objects stay as they are until it has converged"
        ),
    };
    ctx.event(Level::Info, only, "applied", text);
    ctx.wake.notify_one();
    Ok(Applied::Published(generation, short))
}

fn kept(ctx: &Context, id: &str) -> Result<SavedPlan, ApplyError> {
    let json = ctx.local.plan(id)?.ok_or_else(|| ApplyError::NoPlan(id.to_owned()))?;
    serde_json::from_str(&json).map_err(|error| ApplyError::Damaged(id.to_owned(), error))
}

/// Whether a plan's name says that it starts from an older state than this one ([`SavedPlan::id_of`]).
fn is_older(id: &str, root: &Root) -> bool {
    let state = id.split_once('-').and_then(|(state, _)| state.parse::<u64>().ok());
    root.current.is_some() && state.is_some_and(|state| state < root.highest.counter)
}

/// Secrets that the site generates and that are not there yet. Made before anything refers to them.
fn make_secrets(ctx: &Context, planned: &Planned) -> Result<(), ApplyError> {
    let have = ctx.state.snapshot();
    let names = planned.site.secrets.iter().filter(|(_, secret)| secret.generate).map(|(name, _)| name);
    for name in names.filter(|name| !have.secrets.contains_key(*name)) {
        make_secret(ctx, name)?;
    }
    Ok(())
}

/// One generated secret; an existing one stays.
pub(crate) fn make_secret(ctx: &Context, name: &str) -> Result<(), ApplyError> {
    let sealed = ctx.master.seal(name, secrets::generate()?.as_bytes())?;
    ctx.state.change(|root| {
        root.secrets.entry(name.to_owned()).or_insert_with(|| sealed.clone());
    })?;
    Ok(())
}

/// Publishes for all nodes. Nothing where another publication came between.
async fn publish(ctx: &Context, planned: &Planned, by: &str) -> Result<Option<Generation>, ApplyError> {
    let site = (planned.saved.site, planned.saved.site_object);
    let parent = planned.saved.parent.as_ref();
    write(ctx, planned.blueprint.clone(), site, parent, Cause::Apply { by }).await
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause<'a> {
    /// An operator: what was being tried on one node is over.
    Apply { by: &'a str },
    /// The planner, for the same site: what is being tried goes on with the new blueprint.
    Planner,
}

/// Writes a blueprint and a site as what nodes follow, if they still follow `parent`.
pub(crate) async fn write(
    ctx: &Context,
    mut blueprint: Blueprint,
    (site, site_object): (muster_ids::Digest, muster_ids::Digest),
    parent: Option<&Publication>,
    cause: Cause<'_>,
) -> Result<Option<Generation>, ApplyError> {
    let findings = muster_planner::check(&blueprint);
    if !findings.is_empty() {
        return Err(ApplyError::Unsafe(findings));
    }
    let by = match cause {
        Cause::Apply { by } => Some(by.to_owned()),
        Cause::Planner => parent.and_then(|parent| parent.by.clone()),
    };
    let _one = ctx.publishing.lock().await;
    loop {
        // The blueprint carries the generation, and is kept before the record that names it.
        let generation = ctx.state.snapshot().highest.next();
        blueprint.generation = generation;
        let object = ctx.library.keep_blueprint(&blueprint)?;
        let wrote = ctx.state.change(|root| {
            let still = match (&root.current, parent) {
                (None, None) => true,
                (Some(now), Some(parent)) => (now.site, now.blueprint) == (parent.site, parent.blueprint),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !still {
                return Written::Overtaken;
            }
            if root.highest.next() != generation {
                return Written::Again;
            }
            root.highest = generation;
            root.current = Some(Publication { generation, site, site_object, blueprint: object, by: by.clone() });
            match cause {
                Cause::Apply { .. } => root.rollout = None,
                Cause::Planner if root.rollout.is_some() => {
                    let ahead = root.next_generation();
                    if let Some(rollout) = &mut root.rollout {
                        rollout.next.generation = ahead;
                        rollout.next.blueprint = object;
                    }
                }
                Cause::Planner => {}
            }
            Written::Done
        })?;
        match wrote {
            Written::Done => return Ok(Some(generation)),
            Written::Overtaken => return Ok(None),
            Written::Again => {}
        }
    }
}

enum Written {
    Done,
    /// Another publication came between.
    Overtaken,
    /// The generation was given to a republication meanwhile.
    Again,
}

/// Publishes for one node; the blueprint stays, and so does the cloud, until that node has converged.
async fn try_first(
    ctx: &Context,
    planned: &Planned,
    only: &NodeName,
    by: &str,
) -> Result<Option<Generation>, ApplyError> {
    let (site, site_object) = (planned.saved.site, planned.saved.site_object);
    let _one = ctx.publishing.lock().await;
    let parent = planned.saved.parent.clone();
    let since = ctx.now();
    let tried = ctx.state.change(|root| {
        let current = root.current.clone()?;
        if parent.as_ref().is_none_or(|parent| (parent.site, parent.blueprint) != (current.site, current.blueprint)) {
            return None;
        }
        let generation = root.next_generation();
        let next = Publication { generation, site, site_object, blueprint: current.blueprint, by: Some(by.to_owned()) };
        root.rollout = Some(Rollout { only: only.clone(), next, since, state: RolloutState::Trying });
        Some(generation)
    })?;
    Ok(tried)
}

/// `node` has converged on `generation`, which it tries: the others follow. The blueprint follows from the next planning.
pub(crate) fn widen(ctx: &Context, node: &NodeName, generation: Generation) -> Result<(), StateError> {
    let widened = ctx.state.change(|root| {
        // Another apply may have come between: what that one tries is not proven.
        root.rollout.as_ref().filter(|rollout| {
            rollout.only == *node && rollout.state == RolloutState::Trying && rollout.next.generation == generation
        })?;
        let (rollout, blueprint) = (root.rollout.take()?, root.current.as_ref()?.blueprint);
        // A generation of its own: with the cluster's part the tried node has another content, too.
        let generation = root.next_generation();
        root.current = Some(Publication { blueprint, generation, ..rollout.next });
        Some(rollout.only)
    })?;
    if let Some(only) = widened {
        let text = format!("converged on generation {generation}; the other nodes follow, and the cluster's objects");
        ctx.event(Level::Info, Some(&only), "tried", text);
        ctx.wake.notify_one();
    }
    Ok(())
}

/// The tried node failed: nobody else gets it.
pub(crate) fn stop(ctx: &Context, why: &str) -> Result<(), StateError> {
    let stopped = ctx.state.change(|root| {
        let rollout = root.rollout.as_mut().filter(|rollout| rollout.state == RolloutState::Trying)?;
        rollout.state = RolloutState::Stopped { why: why.to_owned() };
        Some(rollout.only.clone())
    })?;
    if let Some(only) = stopped {
        let text = format!("the new catalog failed here and goes no further: {why}");
        ctx.event(Level::Error, Some(&only), "try failed", text);
    }
    Ok(())
}
