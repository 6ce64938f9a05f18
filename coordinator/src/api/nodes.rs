//! What operators decide on a node's trust: that it is over, and that it begins anew.

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::{NodeName, OperatorName};
use muster_planner::{NotRevocable, blueprint::NodeState, may_revoke};
use tonic::Status;

use super::{broken, local, published, state};
use crate::{context::Context, events::Level};

/// Revokes a node, for good, and returns whether it is a control plane. Refused, with nothing done, where the cluster would
/// not go on without it. What follows (out of the cluster, machine stopped, another in its place) is the planner's.
pub(super) fn revoke(ctx: &Context, node: &NodeName, by: &OperatorName) -> Result<bool, Status> {
    let blueprint = ctx.current().map_err(published)?.blueprint;
    may_revoke(node, &blueprint, &ctx.ready().map_err(local)?).map_err(|refusal| refuse(&refusal))?;
    ctx.state.change(|root| root.revoke_node(node)).map_err(state)?;
    ctx.turns().forget(node);
    ctx.tickets.forget(node);
    ctx.event(
        Level::Warn,
        Some(node),
        "revoked",
        format!("by {by}: its agent is refused; it is taken out of the cluster, and its machine stopped"),
    );
    ctx.wake.notify_one();
    Ok(blueprint.nodes.get(node).is_some_and(|plan| plan.member == MemberRole::ControlPlane))
}

fn refuse(refusal: &NotRevocable) -> Status {
    let text = format!("{refusal}\n  help: {}", refusal.help());
    match refusal {
        NotRevocable::Unknown(_) => Status::not_found(text),
        NotRevocable::Unborn(_) | NotRevocable::LastControlPlane(_) | NotRevocable::Quorum { .. } => {
            Status::failed_precondition(text)
        }
    }
}

/// Lets a node renew the certificate that ended too long ago, and returns the provider's id of its machine. There are two
/// proofs: it has the key of its newest certificate, as ever, and the provider shows now, running, the very instance that was
/// made for it. The cluster is not asked, for it may be what was off.
pub(super) async fn readmit(ctx: &Context, node: &NodeName, by: &OperatorName) -> Result<String, Status> {
    let blueprint = ctx.current().map_err(published)?.blueprint;
    let root = ctx.state.snapshot();
    let refused = |text: String| Err(Status::failed_precondition(text));
    let plan = blueprint.nodes.get(node).filter(|plan| plan.state < NodeState::Revoked);
    let Some(plan) = plan.filter(|_| !root.identities.revocations.nodes.contains(node)) else {
        return refused(format!(
            "{node} is out of service for good, and nobody can take that back\n  help: its pool has another: muster nodes"
        ));
    };
    if ctx.hub.connected(node) {
        return refused(format!("{node} is connected: its certificate is good\n  help: muster node why {node}"));
    }
    let seen = ctx.cloud.observe().await.map_err(|error| broken("the provider cannot be read", &error))?;
    let made = root.made.get(node);
    let Some(instance) = seen.instances.get(node) else {
        return refused(format!(
            "the provider has no machine of {node}\n  help: one that is gone is made anew by itself: muster status --watch"
        ));
    };
    if instance.token != plan.token || made.is_none_or(|made| made.id != instance.id) {
        return refused(format!(
            "machine {} carries the name {node} and is not the one that was made for it\n  help: remove it at the provider; \
             another is made by itself",
            instance.id
        ));
    }
    if !instance.running {
        return refused(format!(
            "machine {} of {node} does not run\n  help: it is started by itself: muster status --watch, then the same again",
            instance.id
        ));
    }
    let now = ctx.now();
    ctx.state.change(|root| root.identities.readmit(node.clone(), now)).map_err(state)?;
    let id = instance.id.clone();
    ctx.event(
        Level::Warn,
        Some(node),
        "readmitted",
        format!("by {by}: its machine {id} may renew its certificate within a day"),
    );
    Ok(id)
}
