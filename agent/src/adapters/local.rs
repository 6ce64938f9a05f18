//! An agent without a coordinator: nobody to share turns with, nobody to ask for secrets or tickets.

use crate::ports::{HeldTurn, JoinTicket, PortError, Secrets, Taken, Tickets, Turn, Turns};

pub struct Alone;

struct OwnTurn;

#[async_trait::async_trait]
impl HeldTurn for OwnTurn {
    fn valid(&self) -> bool {
        true
    }

    async fn give(self: Box<Self>) {}
}

#[async_trait::async_trait]
impl Turns for Alone {
    async fn take(&self, _turn: Turn, _reason: &str) -> Result<Taken, PortError> {
        Ok(Taken::Granted(Box::new(OwnTurn)))
    }
}

#[async_trait::async_trait]
impl Secrets for Alone {
    async fn get(&self, _name: &str) -> Result<Vec<u8>, PortError> {
        Err(PortError::NoCoordinator { what: "a secret" })
    }
}

#[async_trait::async_trait]
impl Tickets for Alone {
    async fn join(&self, _control_plane: bool) -> Result<JoinTicket, PortError> {
        Err(PortError::NoCoordinator { what: "a ticket to join the cluster" })
    }
}
