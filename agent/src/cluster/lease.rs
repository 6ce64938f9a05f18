//! Who leads: the holder of the Lease `kube-system/muster`. One control plane applies, prunes and approves; the others
//! watch it.
//!
//! The holder's clock is nobody else's: a Lease has ended when its heartbeat has not changed for its whole length on one's
//! *own* clock. A holder stops by itself well before that, so two never act at once on a cluster whose API answers.

use std::time::{Duration, Instant};

use kube::Client;
use serde_json::{Value, json};

use super::api::{self, ApiError};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/muster";

/// How long it lasts unrenewed.
pub const LENGTH: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at by the others.
pub const BEAT: Duration = Duration::from_secs(3);
/// A holder that could not renew for this long no longer acts.
pub const GIVE_UP: Duration = Duration::from_secs(10);

/// What the Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    This,
    Other(String),
}

/// Reads who holds it. Whether another's has ended cannot be told from one look.
pub async fn holder(client: &Client, node: &str) -> Result<Holder, ApiError> {
    Ok(of(api::find(client, LEASE).await?.as_ref(), node))
}

/// Makes sure that this node leads: takes a Lease that nobody has. Returns who leads otherwise.
pub async fn ensure(client: &Client, node: &str, wall: i64) -> Result<Holder, ApiError> {
    let held = holder(client, node).await?;
    if held == Holder::Nobody {
        Candidate::new(node).round(client, wall).await?;
        return holder(client, node).await;
    }
    Ok(held)
}

fn of(lease: Option<&Value>, node: &str) -> Holder {
    match lease.and_then(|lease| lease["spec"]["holderIdentity"].as_str()).unwrap_or_default() {
        "" => Holder::Nobody,
        holder if holder == node => Holder::This,
        other => Holder::Other(other.to_owned()),
    }
}

/// One candidate's memory from look to look.
#[derive(Debug)]
pub struct Candidate {
    node: String,
    /// The heartbeat that was seen last, and when it was new on this clock.
    seen: Option<(String, Instant)>,
    renewed: Option<Instant>,
}

/// What a look at the Lease leads to; decided without IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Renew,
    TakeOver,
    Wait,
}

impl Candidate {
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), seen: None, renewed: None }
    }

    /// Whether this node leads as of its last renewal.
    pub fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now.duration_since(renewed) < GIVE_UP)
    }

    /// Looks, and renews or takes the Lease where that is right. Returns whether this node leads.
    pub async fn round(&mut self, client: &Client, wall: i64) -> Result<bool, ApiError> {
        let begun = Instant::now();
        let lease = api::find(client, LEASE).await?;
        let step = self.decide(lease.as_ref(), begun);
        let written = match step {
            Step::Wait => {
                self.renewed = None;
                return Ok(false);
            }
            Step::Create => api::create(client, LEASES, &self.lease(None, wall)).await,
            Step::Renew | Step::TakeOver => api::replace(client, LEASE, &self.lease(lease.as_ref(), wall)).await,
        };
        match written {
            Ok(_) => {
                if step != Step::Renew {
                    tracing::info!(node = self.node, "this control plane leads now");
                }
                self.renewed = Some(begun);
                Ok(true)
            }
            // Another was quicker.
            Err(error) if error.is_conflict() => {
                self.renewed = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn decide(&mut self, lease: Option<&Value>, now: Instant) -> Step {
        match of(lease, &self.node) {
            Holder::Nobody if lease.is_none() => Step::Create,
            Holder::Nobody => Step::TakeOver,
            Holder::This => Step::Renew,
            Holder::Other(_) => {
                let beat = lease.map(|lease| lease["spec"].to_string()).unwrap_or_default();
                match &self.seen {
                    Some((seen, since)) if *seen == beat => {
                        if now.duration_since(*since) > LENGTH {
                            Step::TakeOver
                        } else {
                            Step::Wait
                        }
                    }
                    Some(_) | None => {
                        self.seen = Some((beat, now));
                        Step::Wait
                    }
                }
            }
        }
    }

    fn lease(&self, old: Option<&Value>, wall: i64) -> Value {
        let now = micro_time(wall);
        let taken = match of(old, &self.node) {
            Holder::This => old.map(|old| old["spec"]["acquireTime"].clone()).unwrap_or(Value::Null),
            Holder::Nobody | Holder::Other(_) => json!(now),
        };
        let transitions = old.and_then(|old| old["spec"]["leaseTransitions"].as_i64()).unwrap_or(0);
        let changed = i64::from(of(old, &self.node) != Holder::This && old.is_some());
        let mut metadata = json!({"name": "muster", "namespace": "kube-system"});
        if let Some(version) = old.map(|old| &old["metadata"]["resourceVersion"]) {
            metadata["resourceVersion"] = version.clone();
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.node,
                "leaseDurationSeconds": LENGTH.as_secs(),
                "acquireTime": taken,
                "renewTime": now,
                "leaseTransitions": transitions + changed,
            },
        })
    }
}

/// Gives the Lease up at an orderly end, so that another need not wait for it. No error where this node has it not.
pub async fn resign(client: &Client, node: &str) -> Result<(), ApiError> {
    let Some(mut lease) = api::find(client, LEASE).await? else { return Ok(()) };
    if of(Some(&lease), node) == Holder::This {
        lease["spec"]["holderIdentity"] = json!("");
        api::replace(client, LEASE, &lease).await?;
    }
    Ok(())
}

pub(super) fn micro_time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fake::FakeCluster;

    fn lease(holder: &str, renewed: &str) -> Value {
        json!({"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseTransitions": 2}})
    }

    #[test]
    fn a_lease_ends_when_its_heartbeat_stood_still_on_ones_own_clock() {
        let mut me = Candidate::new("a");
        let start = Instant::now();
        let old = lease("b", "1999-01-01T00:00:00Z");
        assert_eq!(me.decide(Some(&old), start), Step::Wait, "a first look proves nothing, however old it says to be");
        assert_eq!(me.decide(Some(&old), start + LENGTH / 2), Step::Wait);
        assert_eq!(me.decide(Some(&lease("b", "1999-01-01T00:00:05Z")), start + LENGTH), Step::Wait, "it beats");
        assert_eq!(me.decide(Some(&lease("b", "1999-01-01T00:00:05Z")), start + LENGTH * 2), Step::Wait);
        assert_eq!(me.decide(Some(&lease("b", "1999-01-01T00:00:05Z")), start + LENGTH * 3), Step::TakeOver);
    }

    #[test]
    fn ones_own_is_renewed_and_a_given_up_one_taken() {
        let mut me = Candidate::new("a");
        assert_eq!(me.decide(None, Instant::now()), Step::Create);
        assert_eq!(me.decide(Some(&lease("a", "x")), Instant::now()), Step::Renew);
        assert_eq!(me.decide(Some(&lease("", "x")), Instant::now()), Step::TakeOver);
    }

    #[test]
    fn a_takeover_is_guarded_and_counted() {
        let me = Candidate::new("a");
        let written = me.lease(Some(&lease("b", "x")), 0);
        assert_eq!(written["metadata"]["resourceVersion"], "7");
        assert_eq!(
            (&written["spec"]["leaseTransitions"], &written["spec"]["renewTime"]),
            (&json!(3), &json!("1970-01-01T00:00:00.000000Z"))
        );
        assert_eq!(me.lease(Some(&lease("a", "x")), 0)["spec"]["leaseTransitions"], 2);
    }

    #[tokio::test]
    async fn of_two_that_take_it_at_once_one_leads() {
        let quicker = |cluster: &FakeCluster| {
            cluster.before_the_next_change(|cluster| cluster.put(LEASE, lease("b", "1999-01-01T00:00:00Z")));
        };
        let cluster = FakeCluster::default();
        // Nobody has had it, somebody gave it up, and this node had it itself.
        for held in [None, Some(""), Some("a")] {
            if let Some(holder) = held {
                cluster.put(LEASE, lease(holder, "1999-01-01T00:00:00Z"));
            }
            quicker(&cluster);
            let mut me = Candidate::new("a");
            assert!(!me.round(&cluster.client(), 0).await.unwrap(), "{held:?}");
            assert!(!me.leads(Instant::now()));
            assert_eq!(holder(&cluster.client(), "a").await.unwrap(), Holder::Other("b".to_owned()));
        }
        cluster.put(LEASE, lease("", "x"));
        assert!(Candidate::new("a").round(&cluster.client(), 0).await.unwrap());
        assert_eq!(holder(&cluster.client(), "a").await.unwrap(), Holder::This);
    }

    #[test]
    fn a_holder_that_cannot_renew_stops_before_others_may_begin() {
        let now = Instant::now();
        let me = Candidate { renewed: Some(now), ..Candidate::new("a") };
        assert!(me.leads(now + GIVE_UP / 2) && !me.leads(now + GIVE_UP));
        const { assert!(GIVE_UP.as_secs() + BEAT.as_secs() < LENGTH.as_secs()) };
    }
}
