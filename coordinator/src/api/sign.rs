//! An operator's certificate for the Kubernetes API: a control plane signs, the name ends in a number that is never
//! reused, and the private key never leaves the command line.

use std::{sync::Arc, time::Duration};

use muster_ids::OperatorName;
use muster_proto::{
    OperatorRole,
    v1::{KubeconfigReply, KubeconfigRequest, Sign, push},
};
use tokio::time::timeout;
use tonic::Status;

use super::join::members;
use crate::{context::Context, events::Level};

const EACH: Duration = Duration::from_secs(20);

/// Whether this role may have such a user: the gate lets in who may have the lesser one.
pub(super) fn may(role: Option<OperatorRole>, viewer: bool) -> Result<(), Status> {
    if viewer || role >= Some(OperatorRole::Admin) {
        return Ok(());
    }
    let text = "an administrator of the cluster needs the role admin\n  help: for a user who may look, add --viewer";
    Err(Status::permission_denied(text))
}

/// Has the request signed under a fresh user name.
pub(super) async fn kubeconfig(
    ctx: &Arc<Context>,
    operator: &OperatorName,
    asked: KubeconfigRequest,
) -> Result<KubeconfigReply, Status> {
    let published = ctx.current().map_err(super::published)?;
    let balancer = published.blueprint.load_balancers.values().find(|balancer| balancer.tls);
    let balancer = balancer.ok_or_else(|| Status::failed_precondition("the site has no endpoint for the API"))?;
    let server = format!("https://{}:{}", balancer.address, balancer.listen);
    let now = ctx.now();
    let user = ctx.state.change(|root| root.issue_user(operator, now)).map_err(super::state)?;
    let what = if asked.viewer { "who may look" } else { "an administrator of the cluster" };
    let mut last = "no control plane is connected and a member".to_owned();
    for candidate in members(ctx, &published.blueprint)? {
        let id = ctx.signatures.fresh_id();
        let answer = ctx.signatures.open(&id, &candidate);
        let sign = Sign { id, csr_pem: asked.csr_pem.clone(), user: user.clone() };
        let ask = if asked.viewer { push::Push::SignViewer(sign) } else { push::Push::Sign(sign) };
        if !ctx.hub.push(&candidate, ask) {
            continue;
        }
        match timeout(EACH, answer).await {
            Ok(Ok(Ok(signed))) => {
                ctx.event(Level::Info, Some(&candidate), "certificate", format!("signed one for {user}, {what}"));
                let (certificate_pem, ca_pem) = (signed.certificate_pem, signed.ca_pem);
                return Ok(KubeconfigReply { certificate_pem, ca_pem, server, user });
            }
            Ok(Ok(Err(error))) => last = format!("{candidate}: {error}"),
            Ok(Err(_)) => last = format!("{candidate} dropped the question"),
            Err(_) => last = format!("{candidate} did not answer within {} s", EACH.as_secs()),
        }
    }
    Err(Status::unavailable(format!("nobody could sign ({last})")))
}
