//! One turn for all disrupting steps that are under way at once, given back when the node is fit again.
//!
//! A step that failed, or a node that stays unfit, keeps the turn for the rest of the converge and then until its lease
//! ends: by then the coordinator has the report, and no other node of the pool is broken the same way.
//!
//! A kubelet that was started anew takes its pods out of their Services for some seconds, a moment after its node is Ready: so
//! the turn is kept until those that served before have served for a while.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use muster_plan::Skip;
use tokio::sync::Mutex;

use crate::{
    Context, StepError,
    ports::{Health, HeldTurn, Taken, Turn},
};

/// How long a node may take to be Ready again before it is said aloud.
const FIT_AGAIN: Duration = Duration::from_secs(90);

/// How long all pods that served before must serve on end. Seen: from 2 s after a kubelet's start they are away for up to
/// 3.7 s.
const CALM: Duration = Duration::from_secs(8);

/// The turn of this converge.
pub struct Disruption {
    ctx: Context,
    health: Arc<dyn Health>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    turn: Option<Box<dyn HeldTurn>>,
    /// Steps that disrupt just now. The coordinator knows one turn of this node, however many use it.
    users: u32,
    /// Something went wrong under it: it is not given back.
    spoiled: bool,
    /// The pods that served when the turn began, by uid.
    serving: BTreeSet<String>,
}

/// How a disrupting step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    Badly,
    Well,
    /// Well, and its pods may have felt it. The node counts as fit when its kubelet was heard of after this: seconds since
    /// the epoch.
    OfTheNode {
        beats_after: Option<i64>,
    },
}

impl Disruption {
    pub fn new(ctx: Context, health: Arc<dyn Health>) -> Self {
        Self { ctx, health, held: Mutex::new(Held::default()) }
    }

    /// Takes the turn, or shares the one that is held. Pair with [`Disruption::end`].
    pub async fn begin(&self, reason: &str) -> Result<(), StepError> {
        let mut held = self.held.lock().await;
        if held.turn.as_ref().is_none_or(|turn| !turn.valid()) {
            match self.ctx.turns.take(Turn::Disrupt, reason).await {
                Ok(Taken::Granted(turn)) => {
                    held.turn = Some(turn);
                    let pods = self.health.pods().await.unwrap_or_default();
                    held.serving = pods.into_iter().filter(|(_, serves)| *serves).map(|(uid, _)| uid).collect();
                }
                Ok(Taken::HeldBy(held_by)) => return Err(StepError::Skip(Skip::Turn { held_by })),
                // Without the coordinator nobody knows who else is disrupted: it waits.
                Err(error) => return Err(StepError::waits(format!("a turn to disrupt ({error})"))),
            }
        }
        held.users += 1;
        Ok(())
    }

    /// Waits until the node is fit; the last user then gives the turn back. A step that begins meanwhile shares it, and
    /// gives it back in its place.
    pub async fn end(&self, went: Went) -> Result<(), StepError> {
        let (since, calm) = match went {
            Went::Badly => {
                let mut held = self.held.lock().await;
                held.users = held.users.saturating_sub(1);
                held.spoiled = true;
                return Ok(());
            }
            Went::Well => (None, Duration::ZERO),
            Went::OfTheNode { beats_after } => (beats_after, CALM),
        };
        let fit = self.fit_again(since, calm).await;
        let mut held = self.held.lock().await;
        held.users = held.users.saturating_sub(1);
        held.spoiled |= !fit;
        if held.users == 0
            && !held.spoiled
            && let Some(turn) = held.turn.take()
        {
            // Under the lock: what begins next takes a turn of its own after this one is back.
            turn.give().await;
        }
        if fit {
            return Ok(());
        }
        Err(StepError::failed("the node is not Ready again after the disruption")
            .help("its turn is kept until it is, or its lease ends: see `muster node why` and the kubelet's log")
            .retry())
    }

    async fn fit_again(&self, since: Option<i64>, calm: Duration) -> bool {
        let pause = Duration::from_secs(1);
        let serving = self.held.lock().await.serving.clone();
        let (mut waited, mut calm_for) = (Duration::ZERO, Duration::ZERO);
        loop {
            let ready = match since {
                Some(since) => self.health.ready_since(since).await,
                None => self.health.node_ready().await,
            };
            let serves = calm.is_zero() || serving.is_empty() || self.serve(&serving).await;
            match ready {
                None => return true,
                Some(true) if serves && (serving.is_empty() || calm_for >= calm) => return true,
                Some(_) if waited >= FIT_AGAIN => return false,
                Some(_) => {}
            }
            self.ctx.clock.sleep(pause).await;
            waited += pause;
            calm_for = if serves { calm_for + pause } else { Duration::ZERO };
        }
    }

    /// Whether all of these pods that are still here serve; true where nobody can say.
    async fn serve(&self, pods: &BTreeSet<String>) -> bool {
        let Some(now) = self.health.pods().await else { return true };
        pods.iter().all(|uid| now.get(uid).copied().unwrap_or(true))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, VecDeque},
        sync::Mutex as StdMutex,
    };

    use tokio::sync::Notify;

    use super::*;
    use crate::{Scope, adapters::fake::FakeMachine, ports::Clock};

    /// A kubelet that beat at this time for the last time, on a node that says Ready whatever happens. A question about its
    /// beat is answered when it is let.
    #[derive(Default)]
    struct Node {
        beat: StdMutex<i64>,
        asked: Notify,
        answer: Option<Notify>,
        /// What is said of its one pod, asked again and again; nothing: it has none.
        pod: StdMutex<VecDeque<bool>>,
    }

    #[async_trait::async_trait]
    impl Health for Node {
        async fn node_ready(&self) -> Option<bool> {
            Some(true)
        }

        async fn ready_since(&self, since: i64) -> Option<bool> {
            self.asked.notify_one();
            if let Some(answer) = &self.answer {
                answer.notified().await;
            }
            Some(*self.beat.lock().unwrap() > since)
        }

        async fn pods(&self) -> Option<BTreeMap<String, bool>> {
            let mut pod = self.pod.lock().unwrap();
            let says = if pod.len() > 1 { pod.pop_front() } else { pod.front().copied() };
            Some(says.map(|serves| ("web".to_owned(), serves)).into_iter().collect())
        }

        async fn workloads(&self) -> Vec<muster_plan::Workload> {
            Vec::new()
        }
    }

    fn disruption(machine: &FakeMachine, node: &Arc<Node>) -> Disruption {
        let scope = Scope {
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            node: "n-1".parse().unwrap(),
            generation: Default::default(),
            owned: Default::default(),
            keys: Default::default(),
            groups: Default::default(),
            objects: Vec::new(),
        };
        Disruption::new(machine.context(scope), Arc::clone(node) as _)
    }

    #[tokio::test]
    async fn a_step_that_failed_keeps_the_turn_though_the_node_still_says_ready() {
        let (machine, node) = (FakeMachine::new(), Arc::new(Node::default()));
        let turn = disruption(&machine, &node);
        turn.begin("restart containerd").await.unwrap();
        turn.end(Went::Badly).await.unwrap();
        assert_eq!((machine.coordinator.given(), machine.coordinator.held().0), (0, 1));
        // Nor does a later step that goes well give it back.
        turn.begin("restart docker").await.unwrap();
        turn.end(Went::Well).await.unwrap();
        assert_eq!((machine.coordinator.given(), machine.coordinator.taken().len()), (0, 1));
        drop(turn);
        assert_eq!((machine.coordinator.given(), machine.coordinator.held().0), (0, 0), "it ends with its lease");
    }

    #[tokio::test]
    async fn a_kubelet_that_does_not_beat_again_keeps_the_turn() {
        let (machine, node) = (FakeMachine::new(), Arc::new(Node::default()));
        let turn = disruption(&machine, &node);
        turn.begin("restart kubelet").await.unwrap();
        assert!(turn.end(Went::OfTheNode { beats_after: Some(100) }).await.is_err());
        assert_eq!((machine.coordinator.given(), machine.coordinator.held().0), (0, 1));

        let turn = disruption(&machine, &node);
        *node.beat.lock().unwrap() = 101;
        turn.begin("restart kubelet").await.unwrap();
        turn.end(Went::OfTheNode { beats_after: Some(100) }).await.unwrap();
        assert_eq!(machine.coordinator.given(), 1);
    }

    #[tokio::test]
    async fn a_turn_that_has_ended_is_not_disrupted_under() {
        let (machine, node) = (FakeMachine::new(), Arc::new(Node::default()));
        let turn = disruption(&machine, &node);
        turn.begin("restart containerd").await.unwrap();
        turn.end(Went::Badly).await.unwrap();
        // Cut off: the lease is not kept alive, and another node may have the turn by now.
        machine.coordinator.away(true);
        machine.coordinator.passes(Duration::from_secs(60));
        assert!(turn.begin("restart docker").await.is_err());
        machine.coordinator.away(false);
        machine.coordinator.turn_held_by(Turn::Disrupt, Some("n-2"));
        let held = turn.begin("restart docker").await;
        assert!(matches!(&held, Err(StepError::Skip(Skip::Turn { held_by })) if held_by == "n-2"), "{held:?}");
        machine.coordinator.turn_held_by(Turn::Disrupt, None);
        turn.begin("restart docker").await.unwrap();
        assert_eq!(machine.coordinator.taken().len(), 2);
    }

    /// Seconds that a turn was kept for a pod that says this, one question a second, after the first before the disruption.
    async fn kept_for(pod: &[bool]) -> (bool, u64) {
        let (machine, node) = (FakeMachine::new(), Arc::new(Node::default()));
        *node.pod.lock().unwrap() = pod.iter().copied().collect();
        let turn = disruption(&machine, &node);
        turn.begin("restart kubelet").await.unwrap();
        let began = machine.clock.now();
        let fit = turn.end(Went::OfTheNode { beats_after: None }).await.is_ok();
        (fit, u64::try_from(machine.clock.now() - began).unwrap())
    }

    #[tokio::test]
    async fn pods_that_served_before_serve_for_a_while_before_the_turn_is_given_back() {
        assert_eq!(kept_for(&[true]).await, (true, 8));
        // Away two seconds after the start, for two seconds.
        assert_eq!(kept_for(&[true, true, true, false, false, true]).await, (true, 12));
        assert_eq!(kept_for(&[true, false]).await, (false, 90), "it does not come back");
        assert_eq!(kept_for(&[false]).await, (true, 0), "it did not serve before either");
        assert_eq!(kept_for(&[]).await, (true, 0));
    }

    #[tokio::test]
    async fn a_turn_is_not_given_back_under_a_step_that_began_while_the_node_became_fit() {
        let machine = FakeMachine::new();
        let node = Arc::new(Node { beat: StdMutex::new(9), answer: Some(Notify::new()), ..Node::default() });
        let turn = disruption(&machine, &node);
        turn.begin("restart kubelet").await.unwrap();
        let first = turn.end(Went::OfTheNode { beats_after: Some(1) });
        let second = async {
            node.asked.notified().await;
            turn.begin("restart containerd").await.unwrap();
            node.answer.as_ref().unwrap().notify_one();
        };
        let (ended, ()) = tokio::join!(first, second);
        ended.unwrap();
        assert_eq!((machine.coordinator.given(), machine.coordinator.held()), (0, (1, 1)), "the second holds it");
        turn.end(Went::Well).await.unwrap();
        assert_eq!((machine.coordinator.given(), machine.coordinator.taken().len()), (1, 1));
    }
}
