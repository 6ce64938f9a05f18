//! An operator's first certificate, by the right to enter the coordinator's container.
//!
//! Works beside a running daemon: certificates need no daemon, and the record is changed by compare-and-set, which the
//! daemon notices. Only opens what the daemon has made: beside one that is starting, two would make two CAs.

use std::sync::Arc;

use muster_ids::OperatorName;
use muster_proto::{Clock as _, OperatorRole, SystemClock};

use super::{AppError, config::Config};
use crate::{
    backup,
    ca::Authority,
    enrol::OperatorCertificate,
    state::State,
    store::{Sqlite, Store as _},
};

/// Signs an operator's request (PEM) for a role; returns the chain.
pub fn issue_operator(
    config: &Config,
    name: &OperatorName,
    role: OperatorRole,
    csr_pem: &str,
) -> Result<String, AppError> {
    let authority = authority(config)?;
    let store = Sqlite::open_existing(&config.state_dir.join(backup::STORE))?.ok_or(AppError::Starting)?;
    // The first record is the daemon's to write.
    if store.root(&config.environment)?.is_none() {
        return Err(AppError::Starting);
    }
    let state = State::open(Arc::new(store), config.environment.clone())?;
    let issued = authority.issue_operator(role, name.as_str(), csr_pem)?;
    let (now, not_after) = (SystemClock.now(), issued.not_after);
    let certificate = OperatorCertificate { name: name.clone(), role, issued: now, not_after, revoked: None };
    // Recorded before it is handed out: what is out can be revoked.
    state.change(|root| root.identities.issued_operator(issued.serial, certificate.clone()))?;
    Ok(issued.chain_pem)
}

/// The CA's certificate (PEM).
pub fn ca(config: &Config) -> Result<String, AppError> {
    Ok(authority(config)?.ca_pem().to_owned())
}

fn authority(config: &Config) -> Result<Authority, AppError> {
    let made = |name: &str| config.state_dir.join(name).exists();
    if !made(backup::STORE) || !made("ca/root.pem") {
        return Err(AppError::Starting);
    }
    Ok(Authority::open(&config.state_dir, config.realm(), Arc::new(SystemClock))?)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::state::Root;

    fn config(folder: &Path) -> Config {
        toml::from_str(&format!(
            "cluster = \"easypay\"\nenvironment = \"local\"\naddress = \"127.0.0.1\"\nstate_dir = {folder:?}\n\
             node_image = \"n\"\nservices_image = \"s\"\n"
        ))
        .unwrap()
    }

    fn starting<T>(answer: Result<T, AppError>) -> bool {
        answer
            .is_err_and(|error| error.to_string() == "the coordinator is still starting\n  help: try again in a moment")
    }

    #[test]
    fn beside_a_daemon_that_is_starting_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let (key, dana) = (KeyPair::generate().unwrap(), "dana".parse().unwrap());
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let issue = || issue_operator(&config, &dana, OperatorRole::Apply, &csr);
        assert!(starting(ca(&config)) && starting(issue()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        // As the daemon goes on: its CA, the store's file, its tables, the first record.
        let authority = Authority::open_or_create(folder.path(), config.realm(), Arc::new(SystemClock)).unwrap();
        assert!(starting(ca(&config)) && starting(issue()));
        assert!(!folder.path().join(backup::STORE).exists());
        fs::write(folder.path().join(backup::STORE), "").unwrap();
        assert_eq!(ca(&config).unwrap(), authority.ca_pem());
        assert!(starting(issue()));
        let store = Sqlite::open(&folder.path().join(backup::STORE)).unwrap();
        assert!(starting(issue()));
        assert!(store.root(&config.environment).unwrap().is_none());
        store.put_root(&config.environment, &Root::default().to_json(), None).unwrap();
        assert!(issue().unwrap().contains("BEGIN CERTIFICATE"));
        let (text, _) = store.root(&config.environment).unwrap().unwrap();
        let recorded: Vec<_> = Root::from_json(&text).unwrap().identities.operators.into_values().collect();
        let [certificate] = &recorded[..] else { panic!("{recorded:?}") };
        assert_eq!((&certificate.name, certificate.role), (&dana, OperatorRole::Apply));
    }

    #[test]
    fn a_ca_without_its_store_or_a_store_without_its_ca_is_not_completed() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        drop(Sqlite::open(&folder.path().join(backup::STORE)).unwrap());
        assert!(starting(ca(&config)));
        assert!(!folder.path().join("ca").exists());
    }
}
