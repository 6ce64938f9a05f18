//! The table, and the decision as a pure function.
//!
//! [`rule`] matches over every method that the contract has: one without a role does not compile. It is the one place that
//! says which role of operators a call needs.

use muster_proto::{Method, OperatorRole, Peer, Revocations, Role, tls::server::Connection};
use tonic::Status;

use super::ControlPlanes;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Without any certificate: the request itself carries a proof.
    Anyone,
    /// Any node's agent, its certificate expired or not: only to get a new one. No operator, whose stolen key would be
    /// renewed for ever: a new one is issued in the coordinator's container.
    Renewal,
    /// Any node's agent, acting for its own node.
    Agent,
    /// The agent of a node that is a control plane.
    ControlPlane,
    /// An operator with this role, or one that may more.
    Operator(OperatorRole),
}

/// The one table.
pub const fn rule(method: Method) -> Rule {
    match method {
        Method::EnrolmentEnrol => Rule::Anyone,
        Method::EnrolmentRenew => Rule::Renewal,
        Method::AgentPull
        | Method::AgentWatch
        | Method::AgentReport
        | Method::AgentAnswerDraft
        | Method::AgentTakeTurn
        | Method::AgentGiveTurn
        | Method::AgentRequestJoin
        | Method::AgentGetSecret => Rule::Agent,
        Method::AgentOfferJoin | Method::AgentOfferSigned | Method::AgentReportCluster => Rule::ControlPlane,
        Method::OperatorStatus | Method::OperatorEvents | Method::OperatorPlan | Method::OperatorListOperators => {
            Rule::Operator(OperatorRole::Read)
        }
        // Of a kubeconfig this is the lesser one; `sign::may` asks for more where its user is to be an administrator.
        Method::OperatorApply | Method::OperatorPauseNode | Method::OperatorKubeconfig => {
            Rule::Operator(OperatorRole::Apply)
        }
        // A backup holds every secret.
        Method::OperatorBackup
        | Method::OperatorRevokeNode
        | Method::OperatorReadmitNode
        | Method::OperatorRevokeOperator => Rule::Operator(OperatorRole::Admin),
    }
}

/// What the command line does on this machine by the right to use Docker, and no coordinator can refuse: the role keeps from
/// mistakes here, and from nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    TakeDown,
    Restore,
}

/// The table's part for these.
pub const fn role_for(deed: Deed) -> OperatorRole {
    match deed {
        Deed::TakeDown | Deed::Restore => OperatorRole::Admin,
    }
}

/// Whether this connection may call this method now, at `now` seconds since the epoch.
pub fn decide(
    method: Method,
    connection: &Connection,
    revocations: &Revocations,
    control_planes: &dyn ControlPlanes,
    now: i64,
) -> Result<(), Status> {
    let rule = rule(method);
    if rule == Rule::Anyone {
        return Ok(());
    }
    let Some(peer) = &connection.peer else {
        return Err(Status::unauthenticated("this call needs a certificate"));
    };
    let Peer { role, name, not_after, expired, .. } = peer;
    if revocations.covers_peer(peer) {
        return Err(Status::permission_denied(format!("the certificate of {role} {name} was revoked")));
    }
    if (*expired || now > *not_after) && (rule, *role) != (Rule::Renewal, Role::Agent) {
        let way_out = match role {
            Role::Agent => "it can only be renewed",
            Role::Operator | Role::Coordinator => "a new one has to be issued",
        };
        return Err(Status::unauthenticated(format!("the certificate of {role} {name} has expired; {way_out}")));
    }
    let right = match (rule, role) {
        (Rule::Anyone, _) => true,
        (Rule::Renewal | Rule::Agent, Role::Agent) => true,
        (Rule::Operator(needed), Role::Operator) => {
            let theirs = peer.operator_role();
            if theirs < Some(needed) {
                let theirs = theirs.map_or("none", OperatorRole::as_str);
                return Err(Status::permission_denied(format!(
                    "this call needs the role {needed}, and the certificate of operator {name} has {theirs}\n  \
                     help: ask an admin for another; where you may use the coordinator's Docker: add --role {needed}"
                )));
            }
            true
        }
        (Rule::ControlPlane, Role::Agent) => {
            if !peer.node().is_some_and(|node| control_planes.is_control_plane(&node)) {
                return Err(Status::permission_denied(format!("{name} is no control plane")));
            }
            true
        }
        (Rule::Renewal | Rule::Agent | Rule::ControlPlane, Role::Operator | Role::Coordinator)
        | (Rule::Operator(_), Role::Agent | Role::Coordinator) => false,
    };
    if right { Ok(()) } else { Err(Status::permission_denied(format!("this call is not for the role {role}"))) }
}
