//! Tickets to join the cluster: asked for when they are needed, kept in memory alone.

use async_trait::async_trait;
use tonic::Code;

use super::{CallError, Link, calls::said_by_coordinator, turns::port_error};
use crate::ports::{JoinTicket, PortError, Tickets};

/// The port's adapter.
#[derive(Clone)]
pub struct CoordinatorTickets {
    link: Link,
}

impl CoordinatorTickets {
    pub fn new(link: Link) -> Self {
        Self { link }
    }
}

#[async_trait]
impl Tickets for CoordinatorTickets {
    async fn join(&self, control_plane: bool) -> Result<JoinTicket, PortError> {
        match self.link.request_join(control_plane).await {
            Ok(ticket) => Ok(JoinTicket {
                token: ticket.token,
                ca_hash: ticket.ca_hash,
                certificate_key: (!ticket.certificate_key.is_empty()).then_some(ticket.certificate_key),
                expires: ticket.expires,
            }),
            // The coordinator is there, and no control plane minted one in time.
            Err(CallError::Unreachable(status)) if said_by_coordinator(&status) => {
                Err(PortError::NotYet(format!("a ticket to join the cluster: {}", status.message())))
            }
            Err(CallError::Refused(status)) if status.code() == Code::FailedPrecondition => {
                Err(PortError::NotYet(status.message().to_owned()))
            }
            Err(error) => Err(port_error(error)),
        }
    }
}
