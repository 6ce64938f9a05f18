//! How often a node may call what is dear: a bucket of calls for each node and sort of call, filled again with time. Pure:
//! the time is an argument.
//!
//! An honest agent comes nowhere near: it renews every twelve hours, and pulls and takes turns when something changes or,
//! where that fails, every second at first and every 15 s at last. In memory alone, because a restart that lets a node call
//! some more does no harm.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use muster_proto::Method;

/// Calls that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Renewal,
    Pull,
    Turn,
}

impl Sort {
    /// Of the calls that are limited.
    const fn of(method: Method) -> Option<Self> {
        match method {
            // Signed, and a write of the record.
            Method::EnrolmentRenew => Some(Self::Renewal),
            // A whole site is compiled.
            Method::AgentPull => Some(Self::Pull),
            // Giving one back is never too often.
            Method::AgentTakeTurn => Some(Self::Turn),
            _ => None,
        }
    }

    /// So many at once, and as many again in each minute.
    const fn a_minute(self) -> u32 {
        match self {
            Self::Renewal => 20,
            Self::Pull | Self::Turn => 120,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Renewal => "renews its certificate",
            Self::Pull => "pulls its catalog",
            Self::Turn => "asks for turns",
        }
    }
}

/// A node called too often.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node} {what} more than {most} times a minute: come again in {seconds} s")]
pub struct TooOften {
    node: String,
    what: &'static str,
    most: u32,
    seconds: u64,
}

/// The buckets of all nodes.
#[derive(Debug, Default)]
pub struct Limits {
    buckets: BTreeMap<(String, Sort), Bucket>,
}

/// What was taken, in terms of time: each call takes as long as it needs to be filled again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it is full again.
    full: Instant,
}

const MINUTE: Duration = Duration::from_secs(60);
/// More buckets than this are looked through for full ones, which are as good as none.
const MANY: usize = 1024;

impl Limits {
    /// Counts a call of this node, or says when to come again. A call that is refused is not counted.
    pub fn take(&mut self, method: Method, node: &str, now: Instant) -> Result<(), TooOften> {
        let Some(sort) = Sort::of(method) else { return Ok(()) };
        let most = sort.a_minute();
        let each = MINUTE / most;
        if self.buckets.len() > MANY {
            self.buckets.retain(|_, bucket| bucket.full > now);
        }
        let bucket = self.buckets.entry((node.to_owned(), sort)).or_insert(Bucket { full: now });
        let full = bucket.full.max(now) + each;
        if let Some(over) = full.checked_duration_since(now + MINUTE).filter(|over| !over.is_zero()) {
            let seconds = over.as_secs() + 1;
            return Err(TooOften { node: node.to_owned(), what: sort.what(), most, seconds });
        }
        bucket.full = full;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many calls go through at this moment.
    fn calls(limits: &mut Limits, method: Method, node: &str, now: Instant) -> u32 {
        (0..1000).filter(|_| limits.take(method, node, now).is_ok()).count().try_into().unwrap()
    }

    #[test]
    fn a_node_has_its_calls_each_minute_and_no_more() {
        for (method, most) in [(Method::EnrolmentRenew, 20), (Method::AgentPull, 120), (Method::AgentTakeTurn, 120)] {
            let (mut limits, now) = (Limits::default(), Instant::now());
            assert_eq!(calls(&mut limits, method, "workers-1", now), most, "{method:?}");
            assert_eq!(calls(&mut limits, method, "workers-1", now + MINUTE / 2), most / 2, "{method:?}");
            assert_eq!(
                calls(&mut limits, method, "workers-1", now + MINUTE * 9),
                most,
                "{method:?}: no more is saved up"
            );
        }
    }

    #[test]
    fn nodes_and_sorts_of_calls_do_not_count_for_each_other() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        calls(&mut limits, Method::AgentPull, "workers-1", now);
        assert!(limits.take(Method::AgentPull, "workers-2", now).is_ok());
        assert!(limits.take(Method::AgentTakeTurn, "workers-1", now).is_ok());
        // Others are not limited: a turn must be given back, a report told.
        assert_eq!(calls(&mut limits, Method::AgentGiveTurn, "workers-1", now), 1000);
        assert_eq!(calls(&mut limits, Method::AgentReport, "workers-1", now), 1000);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_again_and_comes_in_then() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        calls(&mut limits, Method::EnrolmentRenew, "workers-1", now);
        let refused = limits.take(Method::EnrolmentRenew, "workers-1", now).unwrap_err();
        let text = "workers-1 renews its certificate more than 20 times a minute: come again in 4 s";
        assert_eq!(refused.to_string(), text);
        assert!(limits.take(Method::EnrolmentRenew, "workers-1", now + Duration::from_secs(4)).is_ok());
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        for number in 0..3 * MANY {
            let at = now + Duration::from_secs(number as u64);
            limits.take(Method::AgentPull, &format!("workers-{number}"), at).unwrap();
        }
        assert!(limits.buckets.len() <= MANY + 1, "{}", limits.buckets.len());
    }
}
