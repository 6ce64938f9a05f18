//! Asks for a name at a fixed rate, and writes a line for each second: what a program meets that has to find another by name.
//!
//! Each question is asked on its own, whatever became of those before, and by the system's own resolver.

use std::{
    collections::BTreeMap,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// Without an answer after this long a question has failed.
const ANSWER: Duration = Duration::from_secs(2);

/// A second of questions. One is counted when it is answered, or has failed, in the second in which it was asked.
#[derive(Debug, Default, Serialize)]
struct Second {
    /// When it began: milliseconds since the epoch.
    at: i64,
    asked: u32,
    failed: u32,
    /// Milliseconds.
    slowest: u64,
}

/// Asks until it is ended.
pub async fn run(name: &str, rate: u32) -> anyhow::Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = JoinSet::new();
    let mut seconds: BTreeMap<i64, Second> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let (name, at) = (name.to_owned(), now());
                let second = at - at % 1000;
                seconds.entry(second).or_insert(Second { at: second, ..Second::default() }).asked += 1;
                asked.spawn(async move {
                    // The port is of no matter.
                    let answered = timeout(ANSWER, lookup_host((name.as_str(), 1))).await;
                    let good = answered.is_ok_and(|answer| answer.is_ok_and(|mut found| found.next().is_some()));
                    (second, good, now() - at)
                });
            }
            Some(Ok((second, good, took))) = asked.join_next() => {
                if let Some(second) = seconds.get_mut(&second) {
                    second.failed += u32::from(!good);
                    second.slowest = second.slowest.max(u64::try_from(took).unwrap_or_default());
                }
            }
        }
        // All of its questions have come to something.
        let over = now() - 1000 - i64::try_from(ANSWER.as_millis())? - 500;
        while let Some(first) = seconds.first_entry().filter(|first| *first.key() < over) {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(&first.remove())?)?;
            out.flush()?;
        }
    }
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
