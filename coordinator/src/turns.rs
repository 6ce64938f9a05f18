//! Turns to disrupt: leases, so that never more nodes are disturbed than the site allows, and etcd changes one by one.
//!
//! Pure: the time is an argument, on one's own clock. Who may is the caller's judgement of who holds turns already
//! (for disruption: the planner's `may_disrupt`). A lease ends when it is given back or was not renewed for as long as
//! it said. After a restart every lease that was known counts from the start again: late is safe, early is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use muster_ids::NodeName;

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Disrupt the own node, within the pool's budget.
    Disrupt,
    /// Change etcd's members: one of the cluster.
    Etcd,
}

/// A lease held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub until: Instant,
    pub reason: String,
}

/// Longer leases are cut to this: an agent renews long before.
pub const LONGEST: Duration = Duration::from_secs(600);

/// How long a lease of so many seconds lasts, as an agent asks for it.
pub fn lease(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds.max(1))).min(LONGEST)
}

/// What agents ask for, and so how long a lease may hold that nobody remembers.
pub const USUAL: Duration = Duration::from_secs(60);

/// All leases.
#[derive(Debug, Default)]
pub struct Turns {
    held: BTreeMap<(Turn, NodeName), Lease>,
    /// Until then nobody gets one: leases may hold that are not known here.
    closed: Option<Instant>,
}

impl Turns {
    /// Gives no turn before this: leases were given that a restored coordinator does not know.
    pub fn close(&mut self, until: Instant) {
        self.closed = Some(until);
    }

    /// Takes or renews a turn, if `judge` allows it beside those who have one. Else: what holds it up, for people.
    ///
    /// Who has it keeps it without being judged again: taking it away would not undo the disruption.
    pub fn take(
        &mut self,
        turn: Turn,
        node: &NodeName,
        reason: &str,
        lasts: Duration,
        now: Instant,
        judge: impl FnOnce(&BTreeSet<NodeName>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.held.retain(|_, lease| lease.until > now);
        let mine = (turn, node.clone());
        if !self.held.contains_key(&mine) {
            if let Some(left) =
                self.closed.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
            {
                let seconds = left.as_secs() + 1;
                return Err(format!(
                    "nobody for {seconds} s: this coordinator was restored, and others may have it still"
                ));
            }
            let others = self.held.keys().filter(|(held, _)| *held == turn).map(|(_, holder)| holder.clone());
            judge(&others.collect())?;
        }
        self.held.insert(mine, Lease { until: now + lasts.min(LONGEST), reason: reason.to_owned() });
        Ok(())
    }

    /// Gives a turn back; one that is not held is no error.
    pub fn give(&mut self, turn: Turn, node: &NodeName) {
        self.held.remove(&(turn, node.clone()));
    }

    /// Gives back everything of a node that is no more.
    pub fn forget(&mut self, node: &NodeName) {
        self.held.retain(|(_, holder), _| holder != node);
    }

    /// Who holds what now.
    pub fn held(&self, now: Instant) -> impl Iterator<Item = (Turn, &NodeName, &Lease)> {
        self.held.iter().filter(move |(_, lease)| lease.until > now).map(|((turn, node), lease)| (*turn, node, lease))
    }

    /// Why each holder holds it: `workers-1 (restart containerd)`.
    pub fn describe(&self, turn: Turn, holders: &BTreeSet<NodeName>) -> String {
        let texts = holders.iter().map(|holder| match self.held.get(&(turn, holder.clone())) {
            Some(lease) if !lease.reason.is_empty() => format!("{holder} ({})", lease.reason),
            Some(_) | None => holder.to_string(),
        });
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// The judgement for [`Turn::Etcd`]: one at a time.
pub fn alone(holders: &BTreeSet<NodeName>) -> Result<(), String> {
    if holders.is_empty() {
        return Ok(());
    }
    Err(holders.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Turn::Disrupt => "disrupt",
            Turn::Etcd => "etcd",
        })
    }
}

/// A text that names no turn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no turn `{0}`: ask for `disrupt` or `etcd`")]
pub struct UnknownTurn(String);

impl FromStr for Turn {
    type Err = UnknownTurn;
    fn from_str(text: &str) -> Result<Self, UnknownTurn> {
        match text {
            "disrupt" => Ok(Turn::Disrupt),
            "etcd" => Ok(Turn::Etcd),
            _ => Err(UnknownTurn(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_turn_expires_unless_it_is_renewed() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let mut take = |name: &str, at| turns.take(Turn::Etcd, &node(name), "join", MINUTE, at, alone);
        assert_eq!(take("control-plane-1", now), Ok(()));
        assert_eq!(take("control-plane-2", now), Err("control-plane-1".into()));
        assert_eq!(take("control-plane-1", now + MINUTE / 2), Ok(()), "renewed");
        assert!(take("control-plane-2", now + MINUTE).is_err(), "renewal moved the end");
        assert_eq!(take("control-plane-2", now + MINUTE * 2), Ok(()), "expired");
    }

    #[test]
    fn a_restored_coordinator_gives_none_while_others_may_have_one() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        turns.close(now + MINUTE);
        let mut take = |at| turns.take(Turn::Disrupt, &node("workers-1"), "restart", MINUTE, at, alone);
        assert!(take(now + MINUTE / 2).unwrap_err().starts_with("nobody for 31 s"));
        assert_eq!(take(now + MINUTE), Ok(()));
    }

    #[test]
    fn no_lease_is_longer_than_ten_minutes_whatever_is_asked_for() {
        assert_eq!(lease(u32::MAX), MINUTE * 10);
        assert_eq!((lease(60), lease(0)), (MINUTE, Duration::from_secs(1)));
        // One that was remembered by a former coordinator, too.
        let (mut turns, now) = (Turns::default(), Instant::now());
        let for_ever = Duration::from_secs(u64::from(u32::MAX));
        let mut take = |name: &str, at| turns.take(Turn::Etcd, &node(name), "join", for_ever, at, alone);
        assert_eq!(take("control-plane-1", now), Ok(()));
        assert!(take("control-plane-2", now + MINUTE * 10 - Duration::from_millis(1)).is_err());
        assert_eq!(take("control-plane-2", now + MINUTE * 10), Ok(()));
        assert_eq!(turns.held(now + MINUTE * 20).count(), 0);
    }

    #[test]
    fn turns_of_another_sort_do_not_count() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        turns.take(Turn::Disrupt, &node("workers-1"), "restart", MINUTE, now, alone).unwrap();
        turns.take(Turn::Etcd, &node("control-plane-2"), "join", MINUTE, now, alone).unwrap();
        assert!(turns.take(Turn::Etcd, &node("control-plane-3"), "join", MINUTE, now, alone).is_err());
        turns.give(Turn::Etcd, &node("control-plane-2"));
        assert!(turns.take(Turn::Etcd, &node("control-plane-3"), "join", MINUTE, now, alone).is_ok());
        assert_eq!(turns.describe(Turn::Disrupt, &[node("workers-1")].into()), "workers-1 (restart)");
    }

    #[test]
    fn a_holder_is_not_judged_again() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        turns.take(Turn::Disrupt, &node("workers-1"), "r", MINUTE, now, |_| Ok(())).unwrap();
        assert!(turns.take(Turn::Disrupt, &node("workers-1"), "r", MINUTE, now, |_| Err("no".into())).is_ok());
        turns.forget(&node("workers-1"));
        assert!(turns.take(Turn::Disrupt, &node("workers-1"), "r", MINUTE, now, |_| Err("no".into())).is_err());
    }
}
