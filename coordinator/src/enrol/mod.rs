//! How a machine becomes a node, and stays one: a token that works once, for a certificate that is renewed for as long as
//! the node is not revoked.

mod identities;
mod operators;
mod service;
mod store;

pub use identities::{Identities, Made, Member, Refusal, Token, Use};
pub use operators::{NotRevoked, OperatorCertificate, Revoked, Whose};
pub use service::{Enrolment, Vouch};
pub use store::{IdentityStore, MemoryIdentities};

#[cfg(test)]
mod tests;
