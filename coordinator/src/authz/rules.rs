//! The table, and the decision as a pure function.
//!
//! [`rule`] matches over every method that the contract has: one without a role does not compile.

use muster_proto::{Method, Peer, Revocations, Role, tls::server::Connection};
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
    Operator,
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
        Method::OperatorPlan
        | Method::OperatorApply
        | Method::OperatorStatus
        | Method::OperatorEvents
        | Method::OperatorKubeconfig
        | Method::OperatorPauseNode
        | Method::OperatorRevokeNode
        | Method::OperatorBackup => Rule::Operator,
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
    let Peer { role, name, serial, not_after, expired, .. } = peer;
    if revocations.covers(*role, name, serial) {
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
        (Rule::Renewal | Rule::Agent, Role::Agent) | (Rule::Operator, Role::Operator) => true,
        (Rule::ControlPlane, Role::Agent) => {
            if !peer.node().is_some_and(|node| control_planes.is_control_plane(&node)) {
                return Err(Status::permission_denied(format!("{name} is no control plane")));
            }
            true
        }
        (Rule::Renewal | Rule::Agent | Rule::ControlPlane, Role::Operator | Role::Coordinator)
        | (Rule::Operator, Role::Agent | Role::Coordinator) => false,
    };
    if right { Ok(()) } else { Err(Status::permission_denied(format!("this call is not for the role {role}"))) }
}
