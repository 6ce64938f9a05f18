//! The agents that are connected: one stream a node, and what is pushed on it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use muster_ids::NodeName;
use muster_proto::v1::{Push, push};
use tokio::sync::mpsc;

/// Pushes that wait for one agent; more means that it does not read, and the rest is dropped: it asks again.
const WAITING: usize = 64;

/// The connected agents.
#[derive(Default)]
pub struct Hub {
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    last: u64,
    open: BTreeMap<NodeName, Stream>,
    /// When the last one of a node ended, seconds since the epoch.
    lost: BTreeMap<NodeName, i64>,
}

struct Stream {
    number: u64,
    push: mpsc::Sender<Push>,
}

impl Hub {
    /// Opens a node's stream. Its stream before, if any, ends: the receiver sees its channel close.
    pub fn open(&self, node: &NodeName) -> (u64, mpsc::Receiver<Push>) {
        let (push, receive) = mpsc::channel(WAITING);
        let mut streams = self.lock();
        streams.last += 1;
        let number = streams.last;
        streams.open.insert(node.clone(), Stream { number, push });
        (number, receive)
    }

    /// Closes a stream, unless a newer one took its place.
    pub fn close(&self, node: &NodeName, number: u64, now: i64) {
        let mut streams = self.lock();
        if streams.open.get(node).is_some_and(|stream| stream.number == number) {
            streams.open.remove(node);
            streams.lost.insert(node.clone(), now);
        }
    }

    /// When the node's last stream ended, seconds since the epoch; none where none was open since the start.
    pub fn lost(&self, node: &NodeName) -> Option<i64> {
        self.lock().lost.get(node).copied()
    }

    pub fn connected(&self, node: &NodeName) -> bool {
        self.lock().open.get(node).is_some_and(|stream| !stream.push.is_closed())
    }

    /// All connected nodes.
    pub fn nodes(&self) -> Vec<NodeName> {
        self.lock().open.keys().cloned().collect()
    }

    /// Pushes; false where no agent takes it.
    pub fn push(&self, node: &NodeName, push: push::Push) -> bool {
        self.lock().open.get(node).is_some_and(|stream| stream.push.try_send(Push { push: Some(push) }).is_ok())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stream_ends_the_first() {
        let hub = Hub::default();
        let node: NodeName = "workers-1".parse().unwrap();
        let (first, mut first_pushes) = hub.open(&node);
        let (second, mut second_pushes) = hub.open(&node);
        assert!(matches!(first_pushes.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        hub.close(&node, first, 1);
        assert!(hub.push(&node, push::Push::PauseUntil(3)), "the late end of the first closes nothing");
        assert!(second_pushes.try_recv().is_ok());
        assert_eq!(hub.lost(&node), None);
        hub.close(&node, second, 7);
        assert!(!hub.connected(&node));
        assert_eq!(hub.lost(&node), Some(7));
    }
}
