//! The contract: generated messages and services, identity from certificates, TLS that rotates.
//!
//! Coordinator, agents and the command line share this crate and nothing else of each other. It assumes one CA per
//! environment, and that listeners, dialers and the clock are handed in, so that a simulation runs the same code.

pub mod clock;
pub mod identity;
pub mod signed;
pub mod tls;

mod convert;
mod method;
mod operator;

pub use clock::{Clock, ManualClock, SystemClock};
pub use identity::{Identity, Peer, Realm, Revocations, Role, Serial};
pub use method::Method;
pub use operator::{OperatorRole, UnknownRole};

/// Generated from `muster/v1/muster.proto`.
#[expect(clippy::allow_attributes, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}
