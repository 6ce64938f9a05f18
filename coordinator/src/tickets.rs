//! Join tickets: asked for by a new node, minted by a control plane's agent, kept in memory for at most ten minutes.
//!
//! A ticket is bound to the node that asked, and never written down. Who mints is chosen among living members that are
//! connected; one that fails or keeps silent is passed over. Many nodes may wait at once: only the etcd step of a join
//! takes turns, and the agents see to that.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use muster_ids::NodeName;
use tokio::sync::oneshot;

/// A ticket as kubeadm needs it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    pub token: String,
    pub ca_hash: String,
    /// Only for control planes.
    pub certificate_key: String,
    /// Seconds since the epoch.
    pub expires: i64,
}

/// No ticket lives longer in memory.
pub const KEPT: Duration = Duration::from_secs(600);
/// A ticket with less than this left is not given again: a join takes a minute or two.
const ENOUGH: Duration = Duration::from_secs(180);

/// What a control plane answered.
pub type Offer<T> = Result<T, String>;

struct Waiting<T> {
    /// Only this node's agent may answer.
    asked: NodeName,
    answer: oneshot::Sender<Offer<T>>,
}

/// Questions under way to control-plane agents, by id: for tickets and for signatures.
pub struct Questions<T> {
    waiting: Mutex<BTreeMap<String, Waiting<T>>>,
}

impl<T> Default for Questions<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<T> Questions<T> {
    /// An id that no question had before: an answer to an old one never counts for a new one.
    pub fn fresh_id(&self) -> String {
        let random: [u8; 16] = rand::random();
        hex::encode(random)
    }

    /// Opens a question to `asked` under this id.
    pub fn open(&self, id: &str, asked: &NodeName) -> oneshot::Receiver<Offer<T>> {
        let (answer, receive) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, question| !question.answer.is_closed());
        waiting.insert(id.to_owned(), Waiting { asked: asked.clone(), answer });
        receive
    }

    /// Answers it, if it is `from` that was asked and someone still waits.
    pub fn answer(&self, id: &str, from: &NodeName, offer: Offer<T>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(id).is_none_or(|question| question.asked != *from) {
            return false;
        }
        waiting.remove(id).is_some_and(|question| question.answer.send(offer).is_ok())
    }
}

/// Tickets given, so that a node that asks again (its answer was lost) gets the same one.
#[derive(Default)]
pub struct Tickets {
    given: Mutex<BTreeMap<(NodeName, bool), (Ticket, Instant)>>,
}

impl Tickets {
    /// The ticket given to this node for this purpose, while it is worth using: by both clocks, because only the wall's
    /// goes on while a machine sleeps.
    pub fn given(&self, node: &NodeName, control_plane: bool, wall: i64, now: Instant) -> Option<Ticket> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, (_, until)| *until > now);
        let (ticket, until) = given.get(&(node.clone(), control_plane))?;
        let left = u64::try_from(ticket.expires - wall).unwrap_or(0);
        (*until > now + ENOUGH && left > ENOUGH.as_secs()).then(|| ticket.clone())
    }

    /// Remembers a ticket until it expires, at most ten minutes.
    pub fn remember(&self, node: &NodeName, control_plane: bool, ticket: &Ticket, wall: i64, now: Instant) {
        let left = Duration::from_secs(u64::try_from(ticket.expires - wall).unwrap_or(0)).min(KEPT);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.insert((node.clone(), control_plane), (ticket.clone(), now + left));
    }

    /// Forgets a node's tickets: it joined, or is no more.
    pub fn forget(&self, node: &NodeName) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|(holder, _), _| holder != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn only_who_was_asked_may_answer() {
        let questions = Questions::<u8>::default();
        let mut receive = questions.open("q1", &node("control-plane-1"));
        assert!(!questions.answer("q1", &node("workers-1"), Ok(1)));
        assert!(!questions.answer("q2", &node("control-plane-1"), Ok(1)));
        assert!(questions.answer("q1", &node("control-plane-1"), Ok(2)));
        assert_eq!(receive.try_recv().unwrap(), Ok(2));
        assert!(!questions.answer("q1", &node("control-plane-1"), Ok(3)), "answered once");
    }

    #[test]
    fn a_ticket_is_given_again_only_to_its_node_and_while_it_lasts() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket =
            Ticket { token: "t".into(), ca_hash: "sha256:0".into(), certificate_key: String::new(), expires: 5_000 };
        tickets.remember(&node("workers-1"), false, &ticket, 1_000, now);
        assert!(tickets.given(&node("workers-1"), false, 1_000, now).is_some());
        assert!(tickets.given(&node("workers-1"), false, 4_900, now).is_none(), "the machine slept for an hour");
        assert!(tickets.given(&node("workers-1"), true, 1_000, now).is_none(), "another purpose");
        assert!(tickets.given(&node("workers-2"), false, 4_999, now).is_none(), "another node");
        assert!(
            tickets.given(&node("workers-1"), false, 1_000, now + KEPT - ENOUGH).is_none(),
            "too late to join with"
        );
        tickets.remember(&node("workers-2"), false, &ticket, 4_999, now);
        assert!(tickets.given(&node("workers-2"), false, 4_999, now).is_none(), "expires at once");
        tickets.forget(&node("workers-1"));
        assert!(tickets.given(&node("workers-1"), false, 1_000, now).is_none());
    }
}
