//! Puts the status together from the record, the last reports and the reconcile task's progress.

use std::collections::BTreeSet;

use muster_catalog::Site;
use muster_ids::NodeName;
use muster_plan::{Outcome, Report, Skip, StepReport};
use muster_planner::{
    Blueprint,
    blueprint::{LoadBalancerPlan, NodePlan, NodeState},
};

use super::{AppStatus, EndpointStatus, NodeLife, NodeStatus, PoolStatus, Problem, RolloutStatus, Status, TurnStatus};
use crate::{
    context::{Context, PublishedError, SILENT},
    library::{LibraryError, Published},
    state::{LocalError, NodeView, Root},
};

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("the local state cannot be read")]
    Local(#[from] LocalError),
    #[error("what was applied cannot be read")]
    Library(#[from] LibraryError),
}

/// How things are now.
pub fn of(ctx: &Context) -> Result<Status, StatusError> {
    let root = ctx.state.snapshot();
    let published = match ctx.current() {
        Ok(published) => Some(published),
        Err(PublishedError::Nothing) => None,
        Err(PublishedError::Library(error)) => return Err(error.into()),
    };
    let progress = ctx.progress.borrow().clone();
    let now = ctx.now();
    let turns = {
        let turns = ctx.turns();
        let held = turns.held(ctx.instant());
        held.map(|(turn, node, lease)| TurnStatus {
            turn: turn.to_string(),
            node: node.clone(),
            reason: lease.reason.clone(),
        })
        .collect()
    };
    let mut status = Status {
        cluster: ctx.realm.cluster.clone(),
        environment: ctx.realm.environment.clone(),
        time: now,
        kubernetes: None,
        catalog: None,
        generation: None,
        born: root.born,
        pools: vec![],
        nodes: vec![],
        endpoints: vec![],
        apps: vec![],
        api: None,
        waits: progress.waits,
        workloads: vec![],
        failing: progress
            .failing
            .into_iter()
            .map(|(what, text, help)| {
                let help = (!help.is_empty()).then_some(help);
                Problem { what, text, help, fails: true, lasting: false }
            })
            .collect(),
        settled: progress.settled,
        rollout: root.rollout.as_ref().map(|rollout| RolloutStatus {
            only: rollout.only.clone(),
            catalog: rollout.next.site.short(),
            state: rollout.state.clone(),
        }),
        turns,
    };
    if let Some(Published { publication, site, blueprint }) = published {
        status.kubernetes = Some(site.kubernetes.clone());
        status.catalog = Some(publication.site.short());
        status.generation = Some(publication.generation);
        // A birth that the blueprint does not know yet is about to become a newer generation.
        status.settled &= root.born == blueprint.born;
        for (name, plan) in &blueprint.nodes {
            let view = ctx.local.node(name)?;
            let node = node(ctx, &root, name, plan, &view, now);
            // Who does not answer any more led in the past.
            let leads = view.report.filter(|_| node.connected);
            for workload in leads.into_iter().flat_map(|report| report.workloads) {
                // Several may say that nobody answers them.
                if !status.workloads.contains(&workload) {
                    status.workloads.push(workload);
                }
            }
            status.nodes.push(node);
        }
        status.nodes.sort_by(|one, other| (&one.pool, one.name.ordinal()).cmp(&(&other.pool, other.name.ordinal())));
        status.pools = pools(&site, &status.nodes);
        let ready: BTreeSet<&NodeName> = status.nodes.iter().filter(|node| node.ready).map(|node| &node.name).collect();
        status.endpoints = endpoints(ctx, &blueprint, &ready);
        status.api = blueprint.load_balancers.values().find(|balancer| balancer.tls).map(url);
        status.apps = apps(&site, &blueprint);
    }
    Ok(status)
}

fn node(ctx: &Context, root: &Root, name: &NodeName, plan: &NodePlan, view: &NodeView, now: i64) -> NodeStatus {
    let wanted = root.generation_for(name);
    let connected = ctx.hub.connected(name);
    let report = view.report.as_ref();
    let converged = report.is_some_and(|report| report.converged) && view.generation == wanted;
    let problems = report.map(problems).unwrap_or_default();
    let paused = root.pause_of(name, now).cloned();
    let exists = root.made.get(name).is_some_and(|made| made.token == plan.token);
    let state = match plan.state {
        NodeState::Draining => NodeLife::Draining,
        NodeState::Lost | NodeState::Retired => NodeLife::Retired,
        NodeState::InService => {
            life(view, Life { exists, connected, converged, paused: paused.is_some(), now }, &problems)
        }
    };
    NodeStatus {
        name: name.clone(),
        pool: plan.pool.clone(),
        address: plan.address.to_string(),
        state,
        ready: ctx.serves(name, view, now),
        converged,
        connected,
        wanted,
        generation: report.map(|_| view.generation),
        last_seen: (view.seen > 0).then_some(view.seen),
        last_converge: report.map(|report| report.started),
        already_right: report.map_or(0, |report| report.already_right),
        changed: report.map_or(0, |report| {
            let done = report.steps.iter().filter(|step| step.outcome == Outcome::Done).count();
            u32::try_from(done).unwrap_or(u32::MAX)
        }),
        usage: view.metrics,
        problems,
        drift: report.map(|report| report.drift.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        paused,
    }
}

struct Life {
    exists: bool,
    connected: bool,
    converged: bool,
    paused: bool,
    now: i64,
}

fn life(view: &NodeView, Life { exists, connected, converged, paused, now }: Life, problems: &[Problem]) -> NodeLife {
    if !exists && !connected {
        return NodeLife::Planned;
    }
    if view.seen == 0 {
        return NodeLife::Booting;
    }
    if !connected && now - view.seen >= SILENT {
        return NodeLife::Silent;
    }
    if paused {
        NodeLife::Paused
    } else if converged {
        NodeLife::Written
    } else if problems.iter().any(|problem| problem.fails) {
        NodeLife::Failing
    } else {
        NodeLife::Converging
    }
}

/// Steps that are not done, failed ones first.
fn problems(report: &Report) -> Vec<Problem> {
    let mut problems: Vec<_> = report.steps.iter().filter_map(problem).collect();
    problems.sort_by_key(|problem| !problem.fails);
    problems
}

fn problem(step: &StepReport) -> Option<Problem> {
    let waits = |text: String| {
        Some(Problem { what: step.resource.to_string(), text, help: None, fails: false, lasting: false })
    };
    match &step.outcome {
        Outcome::AlreadyRight | Outcome::Done => None,
        Outcome::Failed { error, help, retry } => Some(Problem {
            what: step.resource.to_string(),
            text: if *retry { format!("{error} (tried again)") } else { error.clone() },
            help: help.clone(),
            fails: true,
            lasting: !retry,
        }),
        Outcome::Blocked { by } => waits(format!("waits for {by}")),
        Outcome::Skipped { why } => match why {
            // Not this node's work: nothing is wrong here.
            Skip::NotTheLeader { .. } | Skip::Guard => None,
            Skip::Turn { held_by } => waits(format!("waits for its turn: {held_by}")),
            Skip::Contested { until } => waits(format!("put back five times in an hour; left alone until {until}")),
            Skip::Paused { .. } => waits("the node is paused".to_owned()),
            Skip::Waits { what } => waits(format!("waits for {what}")),
        },
    }
}

fn pools(site: &Site, nodes: &[NodeStatus]) -> Vec<PoolStatus> {
    let ready = |name: &muster_ids::PoolName| nodes.iter().filter(|node| node.pool == *name && node.ready).count();
    let in_service = |name: &muster_ids::PoolName| {
        let lives = |state| !matches!(state, NodeLife::Draining | NodeLife::Retired);
        nodes.iter().filter(|node| node.pool == *name && lives(node.state)).count()
    };
    let pool = |name: &muster_ids::PoolName| PoolStatus {
        name: name.clone(),
        wanted: u32::try_from(in_service(name)).unwrap_or(u32::MAX),
        ready: u32::try_from(ready(name)).unwrap_or(u32::MAX),
    };
    site.pools.keys().map(pool).collect()
}

fn endpoints(ctx: &Context, blueprint: &Blueprint, ready: &BTreeSet<&NodeName>) -> Vec<EndpointStatus> {
    let readings = ctx.readings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let endpoint = |(name, plan): (&muster_ids::EndpointName, &LoadBalancerPlan)| {
        let runs = readings.latest.load_balancers.get(name).is_some_and(|balancer| balancer.running);
        let ready = plan.targets.keys().filter(|node| ready.contains(node)).count();
        EndpointStatus {
            name: name.clone(),
            url: url(plan),
            ok: runs && ready > 0,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            targets: u32::try_from(plan.targets.len()).unwrap_or(u32::MAX),
        }
    };
    blueprint.load_balancers.iter().map(endpoint).collect()
}

fn url(plan: &LoadBalancerPlan) -> String {
    match (plan.tls, plan.listen) {
        (true, port) => format!("https://{}:{port}", plan.address),
        (false, 80) => format!("http://{}/", plan.address),
        (false, port) => format!("http://{}:{port}/", plan.address),
    }
}

fn apps(site: &Site, blueprint: &Blueprint) -> Vec<AppStatus> {
    let app = |(name, app): (&muster_ids::AppName, &muster_catalog::apps::App)| {
        let endpoint = app.endpoints.first();
        AppStatus {
            name: name.clone(),
            url: endpoint.and_then(|endpoint| blueprint.load_balancers.get(endpoint)).map(url),
            path: endpoint
                .and_then(|endpoint| site.endpoints.get(endpoint))
                .map_or_else(|| "/".to_owned(), |endpoint| endpoint.check.clone()),
        }
    };
    site.apps.iter().map(app).collect()
}
