//! The operator's certificate and the connection to the coordinator.
//!
//! The private key is made here and never leaves. On this machine the right to use Docker is the right to be an
//! operator, so a missing or old certificate is simply issued again, through the coordinator's container.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use muster_catalog::{Site, site::Provider};
use muster_ids::OperatorName;
use muster_proto::{
    OperatorRole,
    clock::{Clock, SystemClock},
    identity::{Leaf, Realm},
    tls::{self, Credentials, Trust},
    v1::operator_client::OperatorClient,
};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{advice::Advice, args::Global, remembered};
use crate::{
    authz::{Deed, role_for},
    cloud::docker::Scope,
    local::{self, operator::NoCoordinator, start},
};

/// A certificate with less than this left is issued again: no command should outlive it.
const LEFT: i64 = 3600;

pub type Client = OperatorClient<Channel>;

/// Connects to the coordinator of the site's environment, with a certificate of the role that is asked for. Where none runs
/// the error says what to do.
pub async fn connect(global: &Global, site: &Site) -> anyhow::Result<Client> {
    let realm = Realm { cluster: site.cluster.clone(), environment: site.environment.clone() };
    let (address, credentials) = match &site.provider {
        Provider::Docker { subnet } => {
            let address = local::addresses::Addresses::of(*subnet)?.coordinator;
            (format!("{address}:{}", local::GRPC_PORT), credentials(global, &start::scope(site), &realm).await?)
        }
        Provider::Aws { .. } => {
            anyhow::bail!("AWS is not offered yet\n  help: use an environment with [provider.docker]")
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let trust = Trust::Ca(credentials.ca.clone());
    let config = tls::client::config(Some(credentials), trust, &realm, clock)?;
    // The sender may go: this connection keeps the certificate it was made with.
    let (_, config) = watch::channel(config);
    let channel = tls::client::channel(&address, config, tls::io::tcp())?;
    Ok(OperatorClient::new(channel).max_decoding_message_size(64 << 20))
}

async fn credentials(global: &Global, scope: &Scope, realm: &Realm) -> anyhow::Result<Credentials> {
    match current(&remembered::folder(scope)?, realm, global.role).await {
        Err(error) if error.is::<NoCoordinator>() => Err(Advice::new(global, scope).no_coordinator().await),
        credentials => credentials,
    }
}

/// The kept credentials where they are good, else new ones.
async fn current(folder: &Path, realm: &Realm, role: Option<OperatorRole>) -> anyhow::Result<Credentials> {
    if let Some(credentials) = kept(folder, realm, role).await? {
        return Ok(credentials);
    }
    let key = rcgen::KeyPair::generate().context("no key could be made")?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
    let role = role.unwrap_or(OperatorRole::Admin);
    let (chain, ca) = local::operator::issue(realm, &operator_name()?, role, &request).await?;
    let credentials = Credentials::from_pem(&chain, &key.serialize_pem(), &ca)?;
    for (name, text) in [("key.pem", key.serialize_pem()), ("chain.pem", chain), ("ca.pem", ca)] {
        remembered::keep(folder, name, text.as_bytes())?;
    }
    Ok(credentials)
}

/// The kept credentials, if they are good for a while, of the role that is asked for, and of the CA that the coordinator has
/// now.
async fn kept(folder: &Path, realm: &Realm, role: Option<OperatorRole>) -> anyhow::Result<Option<Credentials>> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (Some(chain), Some(key), Some(ca)) = (read("chain.pem"), read("key.pem"), read("ca.pem")) else {
        return Ok(None);
    };
    let Ok(credentials) = Credentials::from_pem(&chain, &key, &ca) else { return Ok(None) };
    let Ok(leaf) = Leaf::read(credentials.leaf()).and_then(|leaf| leaf.of(realm)) else { return Ok(None) };
    if leaf.not_after < SystemClock.now() + LEFT || !suits(&leaf, role) {
        return Ok(None);
    }
    // After `down` and `up` there is another CA.
    let now = local::operator::ca(realm).await?;
    Ok((now.trim() == ca.trim()).then_some(credentials))
}

/// Refuses what needs more than the role that is asked for, or that of the kept certificate. Without either there is nothing
/// to go by.
pub fn may(global: &Global, scope: &Scope, deed: Deed) -> anyhow::Result<()> {
    let kept = || {
        let chain = fs::read_to_string(remembered::folder(scope).ok()?.join("chain.pem")).ok()?;
        let leaf = Leaf::read(&tls::certificate_from_pem(&chain).ok()?).ok()?;
        (leaf.not_after >= SystemClock.now()).then_some(leaf.identity.operator.unwrap_or(OperatorRole::Admin))
    };
    enough(global.role.or_else(kept), deed)
}

fn enough(role: Option<OperatorRole>, deed: Deed) -> anyhow::Result<()> {
    let needed = role_for(deed);
    match role {
        Some(role) if role < needed => {
            anyhow::bail!(
                "this needs the role {needed}, and yours is {role}\n  help: add --role {needed} if you mean it"
            )
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether a certificate is of the role that is asked for, where one is.
fn suits(leaf: &Leaf, role: Option<OperatorRole>) -> bool {
    // One without a role is from before there were any, an admin's.
    role.is_none_or(|role| leaf.identity.operator.unwrap_or(OperatorRole::Admin) == role)
}

/// The user's name as far as it can be a name; the certificate says it, the events repeat it.
fn operator_name() -> anyhow::Result<OperatorName> {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default().to_lowercase();
    Ok(user.parse().or_else(|_| "operator".parse())?)
}

/// Writes a file that only its owner reads, without a moment in which others could.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_down_and_restoring_are_an_admins() {
        for deed in [Deed::TakeDown, Deed::Restore] {
            for role in [OperatorRole::Read, OperatorRole::Apply] {
                let refused = enough(Some(role), deed).unwrap_err().to_string();
                assert!(
                    refused.starts_with(&format!("this needs the role admin, and yours is {role}\n  help: ")),
                    "{refused}"
                );
            }
            assert!(enough(Some(OperatorRole::Admin), deed).is_ok() && enough(None, deed).is_ok());
        }
    }
}
