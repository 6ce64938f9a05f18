//! What only the coordinator gives: turns, secrets, tickets. The link implements these against it; without a
//! coordinator turns are granted at once and the other two say that there is none.

use std::fmt;

/// A turn that has to be taken before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// To disrupt this node, within its pool's budget.
    Disrupt,
    /// To change etcd's membership: one node of the cluster at a time.
    Etcd,
}

impl Turn {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disrupt => "disrupt",
            Self::Etcd => "etcd",
        }
    }
}

/// Hands out turns.
#[async_trait::async_trait]
pub trait Turns: Send + Sync {
    /// Asks once, without waiting. A granted turn is kept alive until it is given back or dropped.
    async fn take(&self, turn: Turn, reason: &str) -> Result<Taken, PortError>;
}

/// The answer to a request for a turn.
pub enum Taken {
    Granted(Box<dyn HeldTurn>),
    /// Another node has it: its name, for people.
    HeldBy(String),
}

/// A turn in hand. Dropping it stops keeping it alive, and it ends with its lease.
#[async_trait::async_trait]
pub trait HeldTurn: Send + Sync {
    /// False once it could not be kept alive: stop before the next disruption.
    fn valid(&self) -> bool;
    async fn give(self: Box<Self>);
}

/// Secrets of the site.
#[async_trait::async_trait]
pub trait Secrets: Send + Sync {
    /// One that was given before is given again while the coordinator is away.
    async fn get(&self, name: &str) -> Result<Vec<u8>, PortError>;
}

/// Tickets to join the cluster as this node.
#[async_trait::async_trait]
pub trait Tickets: Send + Sync {
    /// A fresh ticket; it waits up to a minute for a control plane to mint it.
    async fn join(&self, control_plane: bool) -> Result<JoinTicket, PortError>;
}

/// What `kubeadm join` needs. Lives in memory only.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinTicket {
    pub token: String,
    /// `sha256:…` of the cluster CA's public key.
    pub ca_hash: String,
    /// For control planes.
    pub certificate_key: Option<String>,
    /// Seconds since the epoch.
    pub expires: i64,
}

impl fmt::Debug for JoinTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTicket")
            .field("ca_hash", &self.ca_hash)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The coordinator's help could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// This agent runs without one.
    #[error("{what} comes from a coordinator, and this agent runs without one")]
    NoCoordinator { what: &'static str },
    /// It passes: the network, a restart.
    #[error("the coordinator does not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered no, and says why.
    #[error("the coordinator refuses: {0}")]
    Refused(String),
    /// Not yet: nobody could mint a ticket.
    #[error("{0}")]
    NotYet(String),
}

impl From<PortError> for crate::StepError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::NotYet(what) => Self::waits(what),
            PortError::NoCoordinator { .. } | PortError::Refused(_) => Self::failed(error.to_string()),
            PortError::Unreachable(source) => Self::failed("the coordinator does not answer").because(source).retry(),
        }
    }
}
