//! A coordinator that gives turns as told, and secrets and tickets as put in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::ports::{HeldTurn, JoinTicket, PortError, Secrets, Taken, Tickets, Turn, Turns};

#[derive(Default)]
pub struct FakeCoordinator {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    held_by: BTreeMap<Turn, String>,
    away: bool,
    /// The time that passed, which only a test lets pass.
    now: Duration,
    /// Of turns in hand, by number: until when each is believed in.
    leases: BTreeMap<u32, (Turn, Duration)>,
    most_held: u32,
    given_back: u32,
    taken: Vec<(Turn, String)>,
    secrets: BTreeMap<String, Vec<u8>>,
    /// Names of the secrets that were given once.
    given: BTreeSet<String>,
    ticket: Option<JoinTicket>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeCoordinator {
    /// Another node has this turn from now on, or nobody.
    pub fn turn_held_by(&self, turn: Turn, node: Option<&str>) {
        let held_by = &mut lock(&self.state).held_by;
        match node {
            Some(node) => held_by.insert(turn, node.to_owned()),
            None => held_by.remove(&turn),
        };
    }

    /// It does not answer from now on, or does.
    pub fn away(&self, away: bool) {
        lock(&self.state).away = away;
    }

    /// So much time passes. While the coordinator answers, turns in hand are kept alive, unless another node has them.
    pub fn passes(&self, time: Duration) {
        let mut state = lock(&self.state);
        state.now += time;
        let State { now, leases, held_by, away, .. } = &mut *state;
        for (turn, until) in leases.values_mut() {
            match (*away, held_by.contains_key(turn)) {
                (true, _) => {}
                (false, true) => *until = *now,
                (false, false) => *until = *now + BELIEVED,
            }
        }
    }

    pub fn put_secret(&self, name: &str, value: &[u8]) {
        lock(&self.state).secrets.insert(name.to_owned(), value.to_vec());
    }

    pub fn put_ticket(&self, ticket: JoinTicket) {
        lock(&self.state).ticket = Some(ticket);
    }

    /// Turns that were granted, with their reasons.
    pub fn taken(&self) -> Vec<(Turn, String)> {
        lock(&self.state).taken.clone()
    }

    /// Turns in hand now, and the most there ever were at once.
    pub fn held(&self) -> (u32, u32) {
        let state = lock(&self.state);
        (u32::try_from(state.leases.len()).unwrap_or(u32::MAX), state.most_held)
    }

    /// How often a turn was given back, and did not just end.
    pub fn given(&self) -> u32 {
        lock(&self.state).given_back
    }

    fn here(&self) -> Result<MutexGuard<'_, State>, PortError> {
        let state = lock(&self.state);
        if state.away { Err(PortError::Unreachable("connection refused".into())) } else { Ok(state) }
    }
}

/// How long a turn is believed in without word from the coordinator: less than its lease of a minute.
const BELIEVED: Duration = Duration::from_secs(50);

struct Held {
    state: Arc<Mutex<State>>,
    number: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.state).leases.remove(&self.number);
    }
}

#[async_trait::async_trait]
impl HeldTurn for Held {
    fn valid(&self) -> bool {
        let state = lock(&self.state);
        state.leases.get(&self.number).is_some_and(|(_, until)| state.now < *until)
    }

    async fn give(self: Box<Self>) {
        lock(&self.state).given_back += 1;
    }
}

#[async_trait::async_trait]
impl Turns for FakeCoordinator {
    async fn take(&self, turn: Turn, reason: &str) -> Result<Taken, PortError> {
        let mut state = self.here()?;
        if let Some(node) = state.held_by.get(&turn) {
            return Ok(Taken::HeldBy(node.clone()));
        }
        let number = u32::try_from(state.taken.len()).unwrap_or(u32::MAX);
        state.taken.push((turn, reason.to_owned()));
        let until = state.now + BELIEVED;
        state.leases.insert(number, (turn, until));
        state.most_held = state.most_held.max(u32::try_from(state.leases.len()).unwrap_or(u32::MAX));
        Ok(Taken::Granted(Box::new(Held { state: Arc::clone(&self.state), number })))
    }
}

#[async_trait::async_trait]
impl Secrets for FakeCoordinator {
    async fn get(&self, name: &str) -> Result<Vec<u8>, PortError> {
        let mut state = match self.here() {
            Ok(state) => state,
            Err(away) => {
                let state = lock(&self.state);
                return state.given.get(name).and_then(|name| state.secrets.get(name)).cloned().ok_or(away);
            }
        };
        let secret = state.secrets.get(name).cloned();
        let secret = secret.ok_or_else(|| PortError::Refused(format!("there is no secret {name}")))?;
        state.given.insert(name.to_owned());
        Ok(secret)
    }
}

#[async_trait::async_trait]
impl Tickets for FakeCoordinator {
    async fn join(&self, control_plane: bool) -> Result<JoinTicket, PortError> {
        let ticket = self.here()?.ticket.clone();
        let ticket = ticket.ok_or_else(|| PortError::NotYet("a control plane to mint a ticket".to_owned()))?;
        Ok(JoinTicket { certificate_key: ticket.certificate_key.filter(|_| control_plane), ..ticket })
    }
}
