//! An operator's first certificate: signed within the coordinator's container, by the right to use Docker.

use anyhow::bail;
use muster_ids::OperatorName;
use muster_proto::{OperatorRole, identity::Realm};

use super::start;
use crate::cloud::docker::Scope;

/// Its container is not there, or does not run.
#[derive(Debug, thiserror::Error)]
#[error("no coordinator runs for {0} on this machine")]
pub struct NoCoordinator(pub Realm);

/// Signs a request. Returns the chain and the CA.
pub async fn issue(
    realm: &Realm,
    name: &OperatorName,
    role: OperatorRole,
    request_pem: &str,
) -> anyhow::Result<(String, String)> {
    let mut args = vec!["/usr/local/bin/muster", "coordinator", "issue-operator", "--name", name.as_str()];
    if role != OperatorRole::Admin {
        // Unsaid it is admin, which a coordinator from before there were roles understands, too.
        args.extend(["--role", role.as_str()]);
    }
    let chain = exec(realm, &args, request_pem).await?;
    Ok((chain, ca(realm).await?))
}

/// The CA's certificate that the coordinator has now.
pub async fn ca(realm: &Realm) -> anyhow::Result<String> {
    exec(realm, &["/usr/local/bin/muster", "coordinator", "ca"], "").await
}

async fn exec(realm: &Realm, args: &[&str], input: &str) -> anyhow::Result<String> {
    let container = Scope::of(realm).name("coordinator");
    // Who may not use Docker is told so here: it says nothing of the coordinator.
    let engine = start::engine().await?;
    let Some(ran) = engine.exec_if_running(&container, args, input).await? else { bail!(NoCoordinator(realm.clone())) };
    if ran.code != 0 {
        bail!("{} in {container} ended with {}: {}", args[1..].join(" "), ran.code, ran.err.trim());
    }
    Ok(ran.out)
}
