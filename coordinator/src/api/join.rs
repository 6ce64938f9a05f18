//! Tickets to join: asked of the control planes one after the other, until one mints.

use std::{sync::Arc, time::Duration};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::NodeName;
use muster_planner::{Blueprint, blueprint::NodeState};
use muster_proto::v1::{JoinTicket, Mint, push};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::report::is_member;
use crate::{context::Context, tickets::Ticket};

/// The caller's patience.
const WAIT: Duration = Duration::from_secs(60);
/// One control plane's turn to answer; the one that is being born takes longer.
const EACH: Duration = Duration::from_secs(20);
const BORN: Duration = Duration::from_secs(55);

/// A ticket for this node; waits until a control plane can mint one.
pub(super) async fn ticket(ctx: &Arc<Context>, node: &NodeName, control_plane: bool) -> Result<JoinTicket, Status> {
    let published = ctx.current().map_err(super::published)?;
    let Some(plan) = published.blueprint.nodes.get(node) else {
        return Err(Status::permission_denied(format!("{node} is not in the blueprint")));
    };
    match (plan.state, plan.member, control_plane) {
        (NodeState::InService, MemberRole::ControlPlane, true) | (NodeState::InService, MemberRole::Worker, false) => {}
        (NodeState::InService, _, _) => {
            return Err(Status::permission_denied(format!("{node} is planned as another sort of member")));
        }
        (NodeState::Draining | NodeState::Lost | NodeState::Revoked | NodeState::Retired, _, _) => {
            return Err(Status::failed_precondition(format!("{node} is leaving: it joins no more")));
        }
    }
    let deadline = Instant::now() + WAIT;
    let mut last = "no control plane is connected".to_owned();
    while Instant::now() < deadline {
        if let Some(ticket) = ctx.tickets.given(node, control_plane, ctx.now(), ctx.instant()) {
            return Ok(wire(ticket));
        }
        let blueprint = ctx.current().map_err(super::published)?.blueprint;
        let candidates = minters(ctx, &blueprint, node)?;
        for (candidate, patience) in candidates {
            let left = deadline.saturating_duration_since(Instant::now());
            match ask(ctx, &candidate, node, control_plane, patience.min(left)).await {
                Ok(ticket) => {
                    ctx.tickets.remember(node, control_plane, &ticket, ctx.now(), ctx.instant());
                    return Ok(wire(ticket));
                }
                Err(why) => last = format!("{candidate}: {why}"),
            }
        }
        sleep(Duration::from_millis(250).min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    Err(Status::unavailable(format!("no control plane could mint a ticket yet ({last})")))
}

/// Control planes that may mint: the leader, then other members; before the birth, the node that starts the cluster.
fn minters(ctx: &Context, blueprint: &Blueprint, asks: &NodeName) -> Result<Vec<(NodeName, Duration)>, Status> {
    let leader = ctx.leader().map_err(super::local)?;
    let mut members = Vec::new();
    let mut unborn = Vec::new();
    for (name, plan) in blueprint.control_planes() {
        if name == asks || !ctx.hub.connected(name) {
            continue;
        }
        let view = ctx.local.node(name).map_err(super::local)?;
        if view.report.as_ref().is_some_and(is_member) {
            members.push((name.clone(), EACH));
        } else if plan.init {
            unborn.push((name.clone(), BORN));
        }
    }
    members.sort_by_key(|(name, _)| Some(name) != leader.as_ref());
    members.extend(unborn);
    Ok(members)
}

/// Control planes that are members, the leader first: who may sign and mint.
pub(super) fn members(ctx: &Context, blueprint: &Blueprint) -> Result<Vec<NodeName>, Status> {
    let leader = ctx.leader().map_err(super::local)?;
    let mut members = Vec::new();
    for (name, _) in blueprint.control_planes() {
        let view = ctx.local.node(name).map_err(super::local)?;
        if ctx.hub.connected(name) && view.report.as_ref().is_some_and(is_member) {
            members.push(name.clone());
        }
    }
    members.sort_by_key(|name| Some(name) != leader.as_ref());
    Ok(members)
}

async fn ask(
    ctx: &Context,
    candidate: &NodeName,
    node: &NodeName,
    control_plane: bool,
    patience: Duration,
) -> Result<Ticket, String> {
    let id = ctx.mints.fresh_id();
    let answer = ctx.mints.open(&id, candidate);
    if !ctx.hub.push(candidate, push::Push::Mint(Mint { id, node: node.to_string(), control_plane })) {
        return Err("is not connected".to_owned());
    }
    match timeout(patience, answer).await {
        Ok(Ok(offer)) => offer,
        Ok(Err(_)) => Err("dropped the question".to_owned()),
        Err(_) => Err(format!("did not answer within {} s", patience.as_secs())),
    }
}

fn wire(ticket: Ticket) -> JoinTicket {
    let Ticket { token, ca_hash, certificate_key, expires } = ticket;
    JoinTicket { token, ca_hash, certificate_key, expires }
}
