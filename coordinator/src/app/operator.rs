//! An operator's first certificate, by the right to enter the coordinator's container.
//!
//! Works beside a running daemon: certificates need no daemon, and the record is changed by compare-and-set, which the
//! daemon notices.

use std::sync::Arc;

use muster_ids::OperatorName;
use muster_proto::{Clock as _, Role, SystemClock};

use super::{AppError, config::Config};
use crate::{backup, ca::Authority, state::State, store::Sqlite};

/// Signs an operator's request (PEM); returns the chain.
pub fn issue_operator(config: &Config, name: &OperatorName, csr_pem: &str) -> Result<String, AppError> {
    let clock = SystemClock;
    let authority = Authority::open_or_create(&config.state_dir, config.realm(), Arc::new(clock))?;
    let store = Arc::new(Sqlite::open(&config.state_dir.join(backup::STORE))?);
    let state = State::open(store, config.environment.clone())?;
    let issued = authority.issue(Role::Operator, name.as_str(), csr_pem)?;
    let now = clock.now();
    // Recorded before it is handed out: what is out can be revoked.
    state.change(|root| {
        root.identities.issued(Role::Operator, name.as_str(), issued.serial, issued.not_after, now);
    })?;
    Ok(issued.chain_pem)
}

/// The CA's certificate (PEM).
pub fn ca(config: &Config) -> Result<String, AppError> {
    let authority = Authority::open_or_create(&config.state_dir, config.realm(), Arc::new(SystemClock))?;
    Ok(authority.ca_pem().to_owned())
}
