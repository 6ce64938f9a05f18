//! The load: payments at a fixed rate, whatever becomes of them (an open loop: a slow server does not slow the client).
//!
//! Latency counts from when a payment was due, so that a client which fell behind does not make the server look better.
//! Each run uses wallets of its own, so that `verify` knows every payment that can be in them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::http::Target;
use super::ledger::{Entry, Outcome, Writer};
use crate::payment::Key;

/// With a single wallet, its row's lock would be what is measured.
const WALLETS: u64 = 25;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rate: u32,
    pub length: Duration,
    pub timeout: Duration,
}

/// What became of a run. Times are in milliseconds; moments are since its start.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub sent: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub median_ms: u64,
    pub p99_ms: u64,
    /// The slowest acknowledged payment.
    pub slowest_ms: u64,
    /// The longest time in which no payment was acknowledged, the run's start and end included.
    pub longest_gap_ms: u64,
    /// When the first and the last of the failed payments were sent.
    pub first_failure_ms: Option<u64>,
    pub last_failure_ms: Option<u64>,
    pub reasons: BTreeMap<String, u64>,
}

struct Sent {
    entry: Entry,
    due: Instant,
    done: Instant,
}

/// Sends payments as planned, or until SIGINT or SIGTERM; then waits for those under way.
///
/// # Errors
/// When the ledger cannot be written. A payment that fails is no error.
pub async fn run(target: &Target, plan: Plan, ledger: &Path) -> anyhow::Result<Summary> {
    let mut writer = Writer::open(ledger)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let run = Key::random().as_str()[..12].to_owned();
    let period = Duration::from_secs(1) / plan.rate;
    let planned = (plan.length.as_secs_f64() * f64::from(plan.rate)).round() as u64;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);

    let start = Instant::now();
    let mut tally = Tally::default();
    let mut under_way = JoinSet::new();
    let mut number = 0;
    let mut sending = planned > 0;
    while sending || !under_way.is_empty() {
        tokio::select! {
            due = ticks.tick(), if sending => {
                number += 1;
                sending = number < planned;
                under_way.spawn(send(target.clone(), format!("{run}-{number:07}"), format!("{run}-{}", number % WALLETS), due, plan.timeout));
            }
            Some(sent) = under_way.join_next() => {
                let sent = sent?;
                writer.write(&sent.entry)?;
                tally.add(sent);
            }
            _ = interrupt.recv(), if sending => sending = false,
            _ = terminate.recv(), if sending => sending = false,
        }
    }
    Ok(tally.summary(start, Instant::now()))
}

async fn send(target: Target, key: String, user: String, due: Instant, limit: Duration) -> Sent {
    let amount_cents = 1 + (rand::random::<u16>() % 10_000) as i64;
    let sent_at = Timestamp::now().to_string();
    let body = json!({ "user": user, "amount_cents": amount_cents, "idempotency_key": key }).to_string();
    let reason = match timeout(limit, target.send(Method::POST, "/payments", Some(body))).await {
        Ok(Ok(answer)) if matches!(answer.status, StatusCode::CREATED | StatusCode::OK) => None,
        Ok(Ok(answer)) => Some(format!("status {}", answer.status.as_u16())),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} ms", limit.as_millis())),
    };
    let done = Instant::now();
    let outcome = if reason.is_none() { Outcome::Acknowledged } else { Outcome::Failed };
    let latency_ms = milliseconds(done - due);
    Sent { entry: Entry { key, user, amount_cents, sent_at, latency_ms, outcome, reason }, due, done }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Tally {
    latencies: Vec<u64>,
    acknowledged_at: Vec<Instant>,
    failed_due: Vec<Instant>,
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, sent: Sent) {
        match sent.entry.outcome {
            Outcome::Acknowledged => {
                self.latencies.push(sent.entry.latency_ms);
                self.acknowledged_at.push(sent.done);
            }
            Outcome::Failed => {
                self.failed_due.push(sent.due);
                *self.reasons.entry(sent.entry.reason.unwrap_or_default()).or_default() += 1;
            }
        }
    }

    fn summary(mut self, start: Instant, end: Instant) -> Summary {
        self.latencies.sort_unstable();
        self.acknowledged_at.sort_unstable();
        self.failed_due.sort_unstable();
        let marks: Vec<Instant> = [start].into_iter().chain(self.acknowledged_at).chain([end]).collect();
        let gap = marks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let acknowledged = self.latencies.len();
        let at = |hundredths: usize| {
            self.latencies
                .get((acknowledged * hundredths / 100).min(acknowledged.saturating_sub(1)))
                .copied()
                .unwrap_or(0)
        };
        let since = |moment: &Instant| milliseconds(moment.saturating_duration_since(start));
        Summary {
            sent: (acknowledged + self.failed_due.len()) as u64,
            acknowledged: acknowledged as u64,
            failed: self.failed_due.len() as u64,
            median_ms: at(50),
            p99_ms: at(99),
            slowest_ms: self.latencies.last().copied().unwrap_or(0),
            longest_gap_ms: milliseconds(gap),
            first_failure_ms: self.failed_due.first().map(since),
            last_failure_ms: self.failed_due.last().map(since),
            reasons: self.reasons,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sent          {}", self.sent)?;
        writeln!(f, "acknowledged  {}", self.acknowledged)?;
        write!(f, "failed        {}", self.failed)?;
        if let (Some(first), Some(last)) = (self.first_failure_ms, self.last_failure_ms) {
            let second = |ms: u64| ms as f64 / 1000.0;
            write!(f, "   sent from {:.1} s to {:.1} s", second(first), second(last))?;
        }
        writeln!(f)?;
        for (reason, times) in &self.reasons {
            writeln!(f, "  {times} × {reason}")?;
        }
        writeln!(f, "slowest       {} ms   median {} ms, 99 % {} ms", self.slowest_ms, self.median_ms, self.p99_ms)?;
        writeln!(f, "longest gap   {} ms without a success", self.longest_gap_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(start: Instant, due: u64, latency_ms: u64, reason: Option<&str>) -> Sent {
        let outcome = if reason.is_none() { Outcome::Acknowledged } else { Outcome::Failed };
        let entry = Entry {
            key: String::new(),
            user: String::new(),
            amount_cents: 1,
            sent_at: String::new(),
            latency_ms,
            outcome,
            reason: reason.map(str::to_owned),
        };
        let due = start + Duration::from_millis(due);
        Sent { entry, due, done: due + Duration::from_millis(latency_ms) }
    }

    #[test]
    fn the_gap_reaches_over_failures_and_to_both_ends() {
        let start = Instant::now();
        let mut tally = Tally::default();
        for one in [sent(start, 100, 10, None), sent(start, 150, 5, Some("status 503")), sent(start, 900, 20, None)] {
            tally.add(one);
        }
        let summary = tally.summary(start, start + Duration::from_millis(1000));
        assert_eq!((summary.sent, summary.acknowledged, summary.failed), (3, 2, 1));
        assert_eq!((summary.longest_gap_ms, summary.slowest_ms), (810, 20));
        assert_eq!((summary.first_failure_ms, summary.last_failure_ms), (Some(150), Some(150)));

        let nothing = Tally::default().summary(start, start + Duration::from_millis(700));
        assert_eq!((nothing.longest_gap_ms, nothing.slowest_ms), (700, 0));
    }
}
