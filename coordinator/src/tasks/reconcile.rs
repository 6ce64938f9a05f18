//! The loop: observe the provider, plan, publish the blueprint if it changed, take its steps, look again.
//!
//! One task a coordinator. It may be killed between any two lines: everything that must not be repeated is in the record
//! before it is done, and everything else is decided anew from what is seen.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use muster_ids::NodeName;
use muster_planner::{
    Input,
    blueprint::{NodePlan, NodeState},
    inventory::Made,
    plan, steps,
};
use tokio::time::timeout;

use super::{StateIntents, intents::short};
use crate::{
    cloud::{Bootstrap, CloudError},
    context::{Context, Progress, PublishedError, SILENT},
    events::Level,
    execute::{IntentError, Intents as _, Outcome, execute},
    library::Published,
    publish::{self, ApplyError, Cause},
    state::{LocalError, RolloutState, StateError},
};

/// Renders a node's user-data.
pub type Boot = Arc<dyn Fn(&NodeName, &NodePlan) -> Bootstrap + Send + Sync>;

/// While something is not as written, and afterwards.
const BUSY: Duration = Duration::from_secs(2);
const CALM: Duration = Duration::from_secs(15);
/// A node that tries a new catalog has this long to converge. Seconds.
const TRY: i64 = 600;

/// Why a round ended early. The next one begins from the start.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the provider cannot be read")]
    Cloud(#[from] CloudError),
    #[error("what was applied cannot be used")]
    Published(#[from] PublishedError),
    #[error("the local state cannot be used")]
    Local(#[from] LocalError),
    #[error("the state cannot be changed")]
    State(#[from] StateError),
    #[error("the site cannot be planned for")]
    Policy(#[from] muster_planner::policy::PolicyError),
    #[error("the blueprint was not published")]
    Publish(#[from] ApplyError),
    #[error("an intent was not written")]
    Intent(#[from] IntentError),
}

/// What was told already, so that a lasting trouble makes one event and not one a round.
#[derive(Default)]
struct Told {
    round: Option<String>,
    steps: BTreeSet<(String, String)>,
    /// Whether catalogs were compared with what nodes were given by the coordinator before this one.
    compared: bool,
    silent: BTreeSet<NodeName>,
}

/// Runs until it is dropped.
pub async fn reconcile(ctx: Arc<Context>, boot: Boot) {
    let mut told = Told::default();
    loop {
        let settled = match round(&ctx, &boot, &mut told).await {
            Ok(settled) => {
                told.round = None;
                settled
            }
            Err(error) => {
                let text = chain(&error);
                if told.round.as_ref() != Some(&text) {
                    ctx.event(Level::Error, None, "reconcile", text.clone());
                    told.round = Some(text.clone());
                }
                let failing = vec![("reconcile".to_owned(), text, String::new())];
                ctx.progress.send_modify(|progress| (progress.settled, progress.failing) = (false, failing));
                false
            }
        };
        // Being woken early is fine, sleeping too long is not: the timer is the promise, the wake a courtesy.
        let _ = timeout(if settled { CALM } else { BUSY }, ctx.wake.notified()).await;
    }
}

/// One round; true when nothing is left to do.
async fn round(ctx: &Arc<Context>, boot: &Boot, told: &mut Told) -> Result<bool, RoundError> {
    ctx.state.refresh()?;
    let published = match ctx.current() {
        Ok(published) => published,
        Err(PublishedError::Nothing) => {
            ctx.progress.send_replace(Progress { settled: true, ..Progress::default() });
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    ctx.read_provider().await?;
    remember(ctx, &published.blueprint)?;
    let seen = ctx.seen()?;
    let policy = ctx.policy(&published)?;
    let root = ctx.state.snapshot();
    let parent = &*published.blueprint;
    let (next, report) = plan(Input {
        policy: &policy,
        seen: &seen,
        parent: Some(parent),
        revoked: &root.identities.revocations.nodes,
        seed: root.seed,
    });
    let waits: Vec<String> = report.waits().map(ToString::to_string).collect();
    let mut changed = false;
    if next != *parent {
        let Published { publication, .. } = &published;
        let site = (publication.site, publication.site_object);
        match publish::write(ctx, next.clone(), site, Some(publication), Cause::Planner).await? {
            // An apply came between: it is what counts.
            None => return Ok(false),
            Some(generation) => {
                changed = true;
                for did in report.did() {
                    ctx.event(Level::Info, None, "planned", format!("{did} (generation {generation})"));
                }
            }
        }
    }
    // From here on the published one is followed, with the generation that it got.
    let blueprint = ctx.current()?.blueprint;
    let steps_left = steps(&blueprint, &seen).len();
    let intents = StateIntents(ctx.clone());
    let reports = execute(&blueprint, &seen, &*ctx.cloud, &intents, &|node, plan| boot(node, plan)).await;
    let failing = tell_steps(ctx, told, &reports);
    retire(ctx, &blueprint)?;
    watch_silence(ctx, told, &blueprint)?;
    watch_rollout(ctx)?;
    if !told.compared {
        compare(ctx)?;
        told.compared = true;
    }
    let settled = steps_left == 0 && !changed;
    ctx.progress.send_replace(Progress { settled, failing, waits: waits.clone() });
    let converged = all_converged(ctx, &blueprint)?;
    Ok(settled && waits.is_empty() && converged)
}

/// A new version of this program, or another key of the package repository, may compile other catalogs from the same
/// site: then nodes are told of a newer generation.
fn compare(ctx: &Context) -> Result<(), RoundError> {
    let root = ctx.state.snapshot();
    for (name, view) in ctx.local.nodes()? {
        let (Some(facts), Some(issued)) = (view.facts, view.issued) else { continue };
        let Some(Ok(catalog)) = ctx.catalog(&root, &name, facts)? else { continue };
        if catalog.generation == issued.generation && catalog.content_digest() != issued.content {
            ctx.state.change(crate::state::Root::republish)?;
            ctx.event(Level::Info, Some(&name), "catalog", "compiles to another one than before: published anew");
            break;
        }
    }
    Ok(())
}

/// What was made for us and never confirmed, because the answer was lost or we were killed: seen with our own token, it
/// counts as made. And what was made and never enrolled in time, because it was off, may enrol all the same.
fn remember(ctx: &Arc<Context>, blueprint: &muster_planner::Blueprint) -> Result<(), RoundError> {
    let seen = ctx.seen()?.latest;
    // As it was before this reading: an id that is new to the record proves nothing yet.
    let before = ctx.state.snapshot();
    ctx.state.change(|root| {
        for (name, instance) in &seen.instances {
            if blueprint.nodes.get(name).is_some_and(|plan| plan.token == instance.token) {
                let made = Made { token: instance.token.clone(), id: instance.id.clone() };
                root.made.insert(name.clone(), made);
            }
        }
        root.disks.extend(seen.disks.keys().filter(|disk| blueprint.disks.contains_key(*disk)).cloned());
    })?;
    let root = ctx.state.snapshot();
    let intents = StateIntents(ctx.clone());
    for (name, instance) in &seen.instances {
        let Some(plan) = blueprint.nodes.get(name).filter(|plan| plan.token == instance.token) else { continue };
        if plan.state == NodeState::Retired || root.identities.revocations.nodes.contains(name) {
            continue;
        }
        if root.begun.get(name) != Some(&instance.token) {
            // Made after the backup that this record is from: its machine may not have enrolled yet, and holds a token
            // that the record does not know.
            intents.begin(name, &instance.token)?;
        } else if before.waits_in_vain(name, instance, ctx.now()) && ctx.local.node(name)?.seen == 0 {
            // Its user-data cannot change: the token that it holds is granted once more, single-use as before.
            intents.begin(name, &instance.token)?;
            let id = short(&instance.id);
            let text = format!("{id} runs and has not enrolled within a day: its token is good for another");
            ctx.event(Level::Warn, Some(name), "enrolment", text);
        }
    }
    Ok(())
}

fn tell_steps(ctx: &Context, told: &mut Told, reports: &[crate::execute::StepReport]) -> Vec<(String, String, String)> {
    let mut failing = Vec::new();
    let mut now = BTreeSet::new();
    for report in reports {
        let step = report.step.to_string();
        match &report.outcome {
            Outcome::Done => ctx.event(Level::Info, None, "provider", format!("did: {step}")),
            // What blocks it is told.
            Outcome::Blocked { .. } => {}
            Outcome::Failed { error, hint, retry } => {
                let level = if *retry { Level::Warn } else { Level::Error };
                if !told.steps.contains(&(step.clone(), error.clone())) {
                    let hint = hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
                    ctx.event(level, None, "provider", format!("could not {step}: {error}{hint}"));
                }
                now.insert((step.clone(), error.clone()));
                failing.push((step, error.clone(), hint.clone().unwrap_or_default()));
            }
        }
    }
    told.steps = now;
    failing
}

/// Names that have left the blueprint, or are leaving it for good, are refused from now on and never used again.
fn retire(ctx: &Context, blueprint: &muster_planner::Blueprint) -> Result<(), RoundError> {
    let root = ctx.state.snapshot();
    let gone = |node: &NodeName| {
        !root.identities.revocations.nodes.contains(node)
            && blueprint.nodes.get(node).is_none_or(|plan| plan.state >= NodeState::Revoked)
    };
    let retired: Vec<NodeName> = root.begun.keys().filter(|node| gone(node)).cloned().collect();
    for node in retired {
        ctx.state.change(|root| {
            root.revoke_node(&node);
            root.begun.remove(&node);
        })?;
        ctx.turns().forget(&node);
        ctx.tickets.forget(&node);
        ctx.local.forget(&node)?;
        ctx.event(Level::Info, Some(&node), "retired", "its name is never used again");
    }
    Ok(())
}

/// Tells once when a node falls silent, and once when it is back.
fn watch_silence(ctx: &Context, told: &mut Told, blueprint: &muster_planner::Blueprint) -> Result<(), RoundError> {
    let now = ctx.now();
    for name in blueprint.nodes.keys() {
        let view = ctx.local.node(name)?;
        let silent = view.seen > 0 && !ctx.hub.connected(name) && now - view.seen.max(ctx.started) >= SILENT;
        if silent && told.silent.insert(name.clone()) {
            ctx.event(Level::Warn, Some(name), "silent", format!("not heard of for {} s", now - view.seen));
        } else if !silent && told.silent.remove(name) {
            ctx.event(Level::Info, Some(name), "back", "heard of again");
        }
    }
    Ok(())
}

fn watch_rollout(ctx: &Context) -> Result<(), RoundError> {
    let root = ctx.state.snapshot();
    if let Some(rollout) = &root.rollout
        && rollout.state == RolloutState::Trying
        && ctx.now() - rollout.since > TRY
    {
        publish::stop(ctx, &format!("it did not converge within {} minutes", TRY / 60))?;
    }
    Ok(())
}

fn all_converged(ctx: &Context, blueprint: &muster_planner::Blueprint) -> Result<bool, RoundError> {
    let root = ctx.state.snapshot();
    for name in blueprint.nodes.keys() {
        let view = ctx.local.node(name)?;
        let good = view.report.as_ref().is_some_and(|report| report.converged);
        if !good || view.generation != root.generation_for(name) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
