//! Turns by the coordinator: a lease that is kept alive while it is held.
//!
//! A lease is trusted for less than it says, counted on our own clock from before it was asked for: a node that was cut off
//! stops disrupting before the coordinator gives its turn to another.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use muster_proto::v1::TurnRequest;
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use super::{CallError, Link};
use crate::ports::{HeldTurn, PortError, Taken, Turn, Turns};

const LEASE: Duration = Duration::from_secs(60);
const KEEP: Duration = Duration::from_secs(15);
/// What is left for a step to notice that its turn is over.
const MARGIN: Duration = Duration::from_secs(10);

/// The port's adapter.
#[derive(Clone)]
pub struct CoordinatorTurns {
    link: Link,
}

impl CoordinatorTurns {
    pub fn new(link: Link) -> Self {
        Self { link }
    }
}

pub(super) fn port_error(error: CallError) -> PortError {
    match error {
        CallError::Refused(status) => PortError::Refused(status.message().to_owned()),
        CallError::Later(_) => PortError::NotYet(error.to_string()),
        CallError::NotEnrolled | CallError::Unreachable(_) | CallError::Late(_) => {
            PortError::Unreachable(Box::new(error))
        }
    }
}

#[async_trait]
impl Turns for CoordinatorTurns {
    async fn take(&self, turn: Turn, reason: &str) -> Result<Taken, PortError> {
        let request = TurnRequest {
            turn: turn.as_str().to_owned(),
            reason: reason.to_owned(),
            seconds: u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX),
        };
        let asked = Instant::now();
        let reply = self.link.take_turn(request.clone()).await.map_err(port_error)?;
        if !reply.granted {
            return Ok(Taken::HeldBy(reply.held_by));
        }
        let until = Arc::new(Mutex::new(asked + LEASE - MARGIN));
        let keeping = tokio::spawn(keep(self.link.clone(), request.clone(), until.clone()));
        Ok(Taken::Granted(Box::new(Held { link: self.link.clone(), request, until, keeping })))
    }
}

async fn keep(link: Link, request: TurnRequest, until: Arc<Mutex<Instant>>) {
    loop {
        time::sleep(KEEP).await;
        let asked = Instant::now();
        match link.take_turn(request.clone()).await {
            Ok(reply) if reply.granted => *lock(&until) = asked + LEASE - MARGIN,
            Ok(reply) => {
                tracing::warn!(turn = request.turn, held_by = reply.held_by, "the turn was lost");
                *lock(&until) = asked;
                return;
            }
            // The lease runs on meanwhile.
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the turn was not kept alive"),
        }
    }
}

fn lock(until: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    until.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Held {
    link: Link,
    request: TurnRequest,
    until: Arc<Mutex<Instant>>,
    keeping: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

#[async_trait]
impl HeldTurn for Held {
    fn valid(&self) -> bool {
        Instant::now() < *lock(&self.until)
    }

    async fn give(self: Box<Self>) {
        self.keeping.abort();
        if let Err(error) = self.link.give_turn(self.request.clone()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the turn was not given back; it ends with its lease"
            );
        }
    }
}
