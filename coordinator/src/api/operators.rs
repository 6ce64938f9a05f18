//! Operators' certificates: who holds one, and which are refused from now on. They are issued by another process, so that
//! the record is read again first.

use std::sync::Arc;

use muster_ids::OperatorName;
use muster_proto::{
    Serial,
    v1::{self, revoke_operator_request as request},
};
use tonic::Status;

use crate::{
    context::Context,
    enrol::{NotRevoked, OperatorCertificate, Whose},
    events::Level,
};

/// All that the record keeps, by name and age.
pub(super) fn list(ctx: &Context) -> Result<v1::ListOperatorsReply, Status> {
    ctx.state.refresh().map_err(super::state)?;
    let root = ctx.state.snapshot();
    let mut all: Vec<_> = root.identities.operators.iter().collect();
    all.sort_by(|(_, one), (_, other)| (&one.name, one.issued).cmp(&(&other.name, other.issued)));
    Ok(v1::ListOperatorsReply { certificates: all.into_iter().map(|(serial, one)| sent(serial, one)).collect() })
}

/// Revokes for `by`. The record tells the listener, which cuts open connections, and the gate.
pub(super) fn revoke(
    ctx: &Arc<Context>,
    by: &OperatorName,
    asked: v1::RevokeOperatorRequest,
) -> Result<v1::RevokeOperatorReply, Status> {
    let whose = match asked.whose {
        Some(request::Whose::Name(name)) => Whose::Name(name.parse().map_err(invalid)?),
        Some(request::Whose::Serial(serial)) => Whose::Serial(serial.parse().map_err(invalid)?),
        None => return Err(Status::invalid_argument("a revocation names an operator or a serial number")),
    };
    ctx.state.refresh().map_err(super::state)?;
    let now = ctx.now();
    let gone = ctx.state.change(|root| root.identities.revoke_operator(&whose, by, asked.force, now));
    let gone = gone.map_err(super::state)?.map_err(|refusal| match refusal {
        NotRevoked::Unknown(_) => Status::not_found(refusal.to_string()),
        NotRevoked::LastAdmin => Status::failed_precondition(refusal.to_string()),
    })?;
    ctx.event(Level::Warn, None, "operator revoked", told(&whose, &gone, by));
    Ok(v1::RevokeOperatorReply { revoked: gone.iter().map(|(serial, one)| sent(serial, one)).collect() })
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The event: `erin by dana: 01ab… (read)`.
fn told(whose: &Whose, gone: &[(Serial, OperatorCertificate)], by: &OperatorName) -> String {
    let who = match (whose, gone) {
        (_, [(_, one), ..]) => one.name.to_string(),
        (Whose::Name(name), []) => name.to_string(),
        (Whose::Serial(serial), []) => serial.to_string(),
    };
    let each: Vec<String> = gone.iter().map(|(serial, one)| format!("{serial} ({})", one.role)).collect();
    match each[..] {
        [] => format!("{who} by {by}, who is not in the record"),
        _ => format!("{who} by {by}: {}", each.join(", ")),
    }
}

fn sent(serial: &Serial, one: &OperatorCertificate) -> v1::OperatorCertificate {
    let revoked = one.revoked.as_ref();
    v1::OperatorCertificate {
        name: one.name.to_string(),
        role: one.role.to_string(),
        serial: serial.to_string(),
        issued: one.issued,
        not_after: one.not_after,
        revoked_at: revoked.map_or(0, |revoked| revoked.at),
        revoked_by: revoked.map_or(String::new(), |revoked| revoked.by.to_string()),
    }
}
