//! Puts the status together from the record, the last reports and the reconcile task's progress.

use std::collections::BTreeSet;

use muster_catalog::Site;
use muster_ids::{EndpointName, NodeName};
use muster_plan::{Outcome, Report, Skip, StepReport};
use muster_planner::{
    Blueprint,
    blueprint::{LoadBalancerPlan, NodePlan, NodeState},
};

use super::{
    AppStatus, ControlPlaneStatus, EndpointStatus, NodeLife, NodeStatus, PoolStatus, Problem, RolloutStatus, Status,
    TurnStatus,
};
use crate::{
    cluster::Says,
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
        applied_by: None,
        as_written: false,
        born: root.born,
        pools: vec![],
        nodes: vec![],
        endpoints: vec![],
        apps: vec![],
        api: None,
        control_plane: None,
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
        status.applied_by.clone_from(&publication.by);
        // A birth that the blueprint does not know yet is about to become a newer generation.
        status.settled &= root.born == blueprint.born;
        let leader = ctx.cluster.fresh(now).map(|told| told.from);
        for (name, plan) in &blueprint.nodes {
            let view = ctx.local.node(name)?;
            let node = node(ctx, &root, name, plan, &view, now);
            // Who does not answer any more led in the past.
            let leads = view.report.filter(|_| node.connected);
            for workload in leads.into_iter().flat_map(|report| report.workloads) {
                // One that led before says it, too, for a while: who leads now knows better.
                match status.workloads.iter_mut().find(|told| told.name == workload.name) {
                    Some(told) if leader.as_ref() == Some(name) => *told = workload,
                    Some(_) => {}
                    None => status.workloads.push(workload),
                }
            }
            status.nodes.push(node);
        }
        status.nodes.sort_by(|one, other| (&one.pool, one.name.ordinal()).cmp(&(&other.pool, other.name.ordinal())));
        status.control_plane = control_plane(ctx, &blueprint, now)?;
        for (of, text) in status.control_plane.iter().flat_map(ControlPlaneStatus::troubles) {
            let Some(node) = of.and_then(|of| status.nodes.iter_mut().find(|node| node.name == of)) else { continue };
            node.unready.get_or_insert(text);
            if node.state == NodeLife::Written {
                node.state = NodeLife::Unready;
            }
        }
        status.pools = pools(&site, &status.nodes);
        let ready: BTreeSet<&NodeName> = status.nodes.iter().filter(|node| node.ready).map(|node| &node.name).collect();
        status.endpoints = endpoints(ctx, &site, &blueprint, &ready);
        status.api = blueprint.load_balancers.values().find(|balancer| balancer.tls).map(url);
        status.apps = apps(&site, &blueprint);
    }
    status.as_written = status.written();
    Ok(status)
}

fn node(ctx: &Context, root: &Root, name: &NodeName, plan: &NodePlan, view: &NodeView, now: i64) -> NodeStatus {
    let wanted = root.generation_for(name);
    let connected = ctx.hub.connected(name);
    let report = view.report.as_ref();
    let converged = report.is_some_and(|report| report.converged) && view.generation == wanted;
    let problems = report.map(problems).unwrap_or_default();
    let paused = root.pause_of(name, now).cloned();
    let ready = ctx.serves(name, view, now);
    let (unready, cordoned) = says(ctx, root, name, view, now);
    let exists = root.made.get(name).is_some_and(|made| made.token == plan.token);
    let state = match plan.state {
        NodeState::Draining => NodeLife::Draining,
        NodeState::Revoked => NodeLife::Revoked,
        NodeState::Lost | NodeState::Retired => NodeLife::Retired,
        NodeState::InService => {
            let silent = ctx.silence(name, view, now).unwrap_or_default();
            life(view, &Life { exists, connected, converged, ready, paused: paused.is_some(), silent }, &problems)
        }
    };
    NodeStatus {
        name: name.clone(),
        pool: plan.pool.clone(),
        address: plan.address.to_string(),
        state,
        unready: unready.filter(|_| !ready),
        ready,
        cordoned,
        locked_out: root.identities.too_late_since(name, now).filter(|_| !connected),
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

/// Why the node may not serve, and whether it takes no new pods.
fn says(ctx: &Context, root: &Root, name: &NodeName, view: &NodeView, now: i64) -> (Option<String>, bool) {
    let stopped = {
        let readings = ctx.readings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        readings.latest.instances.get(name).is_some_and(|instance| !instance.running)
    };
    let silent = ctx.silence(name, view, now).filter(|_| view.seen > 0);
    let unheard = silent.map(|seconds| format!("its agent was last heard {} ago", crate::plan::ago(seconds)));
    let member = view.report.as_ref().is_some_and(|report| report.node_ready.is_some());
    let (said, cordoned) = match ctx.cluster.says(name, now) {
        Says::Node(node) => (node.why, node.cordoned),
        Says::Absent if member => {
            (Some("the cluster has no Node of it; its agent registers it again".to_owned()), false)
        }
        Says::Absent => (None, false),
        Says::Unknown if root.born && member => {
            let own = view.report.as_ref().and_then(|report| report.node_ready) == Some(false);
            (own.then(|| "the API server does not say that it is ready".to_owned()), false)
        }
        Says::Unknown => (None, false),
    };
    let stopped = stopped.then(|| "its machine does not run".to_owned());
    let all: Vec<String> = stopped.into_iter().chain(unheard).chain(said).collect();
    ((!all.is_empty()).then(|| all.join("; ")), cordoned)
}

/// What the control plane that leads tells of etcd and cluster DNS.
fn control_plane(ctx: &Context, blueprint: &Blueprint, now: i64) -> Result<Option<ControlPlaneStatus>, LocalError> {
    let Some(told) = ctx.cluster.fresh(now) else { return Ok(None) };
    let mut missing = Vec::new();
    for (name, plan) in blueprint.control_planes() {
        let listed = |members: &Vec<muster_plan::cluster::Member>| {
            let address = plan.address.to_string();
            members.iter().any(|member| member.node == name.as_str() || member.node == address)
        };
        let member = ctx.local.node(name)?.report.is_some_and(|report| report.node_ready.is_some());
        let in_service = plan.state == NodeState::InService;
        if in_service && member && !told.report.members.as_ref().is_none_or(listed) {
            missing.push(name.clone());
        }
    }
    Ok(Some(ControlPlaneStatus { leader: told.from, members: told.report.members, missing, dns: told.report.dns }))
}

struct Life {
    exists: bool,
    connected: bool,
    converged: bool,
    ready: bool,
    paused: bool,
    silent: i64,
}

fn life(view: &NodeView, life: &Life, problems: &[Problem]) -> NodeLife {
    let &Life { exists, connected, converged, ready, paused, silent } = life;
    if !exists && !connected {
        return NodeLife::Planned;
    }
    if view.seen == 0 {
        return NodeLife::Booting;
    }
    if !connected && silent >= SILENT {
        return NodeLife::Silent;
    }
    if paused {
        NodeLife::Paused
    } else if converged && ready {
        NodeLife::Written
    } else if converged {
        NodeLife::Unready
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
    let takes = |name: &muster_ids::PoolName| {
        let all = nodes.iter().filter(|node| node.pool == *name && node.ready);
        all.filter(|node| !node.cordoned && node.state != NodeLife::Draining).count()
    };
    let in_service = |name: &muster_ids::PoolName| {
        let lives = |state| !matches!(state, NodeLife::Draining | NodeLife::Revoked | NodeLife::Retired);
        nodes.iter().filter(|node| node.pool == *name && lives(node.state)).count()
    };
    let pool = |name: &muster_ids::PoolName| PoolStatus {
        name: name.clone(),
        wanted: u32::try_from(in_service(name)).unwrap_or(u32::MAX),
        ready: u32::try_from(ready(name)).unwrap_or(u32::MAX),
        takes_pods: u32::try_from(takes(name)).unwrap_or(u32::MAX),
    };
    site.pools.keys().map(pool).collect()
}

fn endpoints(ctx: &Context, site: &Site, blueprint: &Blueprint, ready: &BTreeSet<&NodeName>) -> Vec<EndpointStatus> {
    let endpoint = |(name, plan): (&EndpointName, &LoadBalancerPlan)| {
        let runs = {
            let readings = ctx.readings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            readings.latest.load_balancers.get(name).is_some_and(|balancer| balancer.running)
        };
        let served = ctx.served(name);
        let to = match &served {
            Some(served) => served.to.len(),
            None => plan.targets.keys().filter(|node| ready.contains(node)).count(),
        };
        let trouble = match served.and_then(|served| served.trouble) {
            _ if !runs => Some("its load balancer does not run".to_owned()),
            None if to == 0 => Some("its load balancer sends to no node".to_owned()),
            trouble => trouble,
        };
        // Where nothing is to answer yet, nobody misses it.
        let used = plan.tls || site.apps.values().any(|app| app.endpoints.contains(name));
        EndpointStatus {
            name: name.clone(),
            url: url(plan),
            ok: trouble.is_none(),
            ready: u32::try_from(to).unwrap_or(u32::MAX),
            targets: u32::try_from(plan.targets.len()).unwrap_or(u32::MAX),
            trouble: trouble.filter(|_| used),
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
