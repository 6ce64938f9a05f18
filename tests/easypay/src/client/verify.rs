//! Whether every acknowledged payment is there exactly once.
//!
//! Three views must agree: each payment read by its key, the balance against the sum of the wallet's succeeded payments,
//! and the balance against the ledger (at least what was acknowledged, at most that and what failed: a failed payment may
//! be there). The last holds for a ledger that is whole, which it is unless the client was killed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::http::Target;
use super::ledger::{self, Entry, Outcome};

const AT_ONCE: usize = 8;
const SHOWN: usize = 20;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Acknowledged payments that are there exactly once, as they were sent.
    pub right: u64,
    /// Failed payments that succeeded all the same, which is allowed.
    pub failed_but_there: u64,
    pub wallets: u64,
    pub missing: Vec<String>,
    pub doubled: Vec<String>,
    /// There, but not as sent, or a balance that is not the sum of its payments.
    pub wrong: Vec<String>,
}

impl Findings {
    pub fn right(&self) -> bool {
        self.missing.is_empty() && self.doubled.is_empty() && self.wrong.is_empty()
    }
}

#[derive(Deserialize)]
struct Payment {
    user: String,
    amount_cents: i64,
    succeeded_at: Option<String>,
    times: i64,
}

#[derive(Deserialize, Default)]
struct Wallet {
    balance_cents: i64,
    succeeded_cents: i64,
}

/// What the ledger says that a wallet may hold.
#[derive(Default)]
struct Bounds {
    least: i64,
    most: i64,
}

/// Reads everything back. Unlike `pay` it waits for a server that does not answer, each time up to `patience`.
///
/// # Errors
/// When the ledger cannot be read or the server not be asked: nothing is known then.
pub async fn run(target: &Target, ledger: &Path, patience: Duration) -> anyhow::Result<Findings> {
    let entries = ledger::read(ledger)?;
    if entries.is_empty() {
        bail!("the ledger {} has no payment", ledger.display());
    }
    let mut bounds: BTreeMap<String, Bounds> = BTreeMap::new();
    for entry in &entries {
        let bounds = bounds.entry(entry.user.clone()).or_default();
        bounds.most += entry.amount_cents;
        if entry.outcome == Outcome::Acknowledged {
            bounds.least += entry.amount_cents;
        }
    }

    let mut findings = Findings { wallets: bounds.len() as u64, ..Findings::default() };
    let mut reading = JoinSet::new();
    let mut waiting = entries.into_iter();
    loop {
        while reading.len() < AT_ONCE
            && let Some(entry) = waiting.next()
        {
            let target = target.clone();
            reading.spawn(async move {
                let found = ask::<Payment>(&target, &format!("/payments/{}", entry.key), patience).await;
                (entry, found)
            });
        }
        let Some(read) = reading.join_next().await else { break };
        let (entry, found) = read?;
        judge_payment(&entry, found?, &mut findings);
    }
    for (user, bounds) in bounds {
        let found: Option<Wallet> = ask(target, &format!("/wallets/{user}"), patience).await?;
        judge_wallet(&user, &bounds, found.unwrap_or_default(), &mut findings);
    }
    Ok(findings)
}

fn judge_payment(entry: &Entry, found: Option<Payment>, findings: &mut Findings) {
    let key = &entry.key;
    let succeeded = found.as_ref().is_some_and(|payment| payment.succeeded_at.is_some());
    if let Some(payment) = &found {
        if payment.times != 1 {
            findings.doubled.push(format!("payment {key} is there {} times", payment.times));
            return;
        }
        if payment.user != entry.user || payment.amount_cents != entry.amount_cents {
            findings.wrong.push(format!(
                "payment {key} is {} cents to {}, was sent as {} cents to {}",
                payment.amount_cents, payment.user, entry.amount_cents, entry.user
            ));
            return;
        }
    }
    match (entry.outcome, succeeded) {
        (Outcome::Acknowledged, true) => findings.right += 1,
        (Outcome::Acknowledged, false) => {
            let how = if found.is_some() { "only tried" } else { "not there" };
            findings.missing.push(format!("payment {key} was acknowledged and is {how}"));
        }
        (Outcome::Failed, true) => findings.failed_but_there += 1,
        (Outcome::Failed, false) => {}
    }
}

fn judge_wallet(user: &str, bounds: &Bounds, wallet: Wallet, findings: &mut Findings) {
    let Wallet { balance_cents: balance, succeeded_cents: sum } = wallet;
    if balance < bounds.least {
        findings.missing.push(format!("wallet {user} holds {balance} cents, {} were acknowledged", bounds.least));
    } else if balance > bounds.most {
        findings.doubled.push(format!("wallet {user} holds {balance} cents, only {} were ever sent", bounds.most));
    }
    if balance != sum {
        findings.wrong.push(format!("wallet {user} holds {balance} cents, its succeeded payments are {sum}"));
    }
}

/// `None` when the server says that there is no such thing.
async fn ask<T: DeserializeOwned>(target: &Target, path: &str, patience: Duration) -> anyhow::Result<Option<T>> {
    let deadline = Instant::now() + patience;
    loop {
        let trouble = match timeout(Duration::from_secs(10), target.send(Method::GET, path, None)).await {
            Ok(Ok(answer)) => match answer.status {
                StatusCode::OK => {
                    let found = serde_json::from_slice(&answer.body);
                    return Ok(Some(found.with_context(|| format!("{path} is not answered by EasyPay"))?));
                }
                // Only EasyPay's own word counts: a load balancer without a back end may say 404 too.
                StatusCode::NOT_FOUND if answer.body.starts_with(b"{\"error\":") => return Ok(None),
                other => format!("status {}", other.as_u16()),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10 s".to_owned(),
        };
        if Instant::now() >= deadline {
            bail!("{path} cannot be read: {trouble}");
        }
        sleep(Duration::from_millis(250)).await;
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} acknowledged payments are there exactly once, {} failed ones are there too, in {} wallets",
            self.right, self.failed_but_there, self.wallets
        )?;
        for (name, found) in [("missing", &self.missing), ("doubled", &self.doubled), ("wrong", &self.wrong)] {
            for one in found.iter().take(SHOWN) {
                writeln!(f, "{name}: {one}")?;
            }
            if found.len() > SHOWN {
                writeln!(f, "{name}: and {} more", found.len() - SHOWN)?;
            }
        }
        writeln!(f, "{}", if self.right() { "nothing is missing or doubled" } else { "NOT RIGHT" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(outcome: Outcome) -> Entry {
        Entry {
            key: "k".to_owned(),
            user: "u".to_owned(),
            amount_cents: 5,
            sent_at: String::new(),
            latency_ms: 0,
            outcome,
            reason: None,
        }
    }

    fn payment(amount_cents: i64, succeeded: bool, times: i64) -> Option<Payment> {
        Some(Payment { user: "u".to_owned(), amount_cents, succeeded_at: succeeded.then(String::new), times })
    }

    fn judged(outcome: Outcome, found: Option<Payment>) -> Findings {
        let mut findings = Findings::default();
        judge_payment(&entry(outcome), found, &mut findings);
        findings
    }

    #[test]
    fn payments() {
        assert_eq!(judged(Outcome::Acknowledged, payment(5, true, 1)).right, 1);
        assert_eq!(judged(Outcome::Acknowledged, None).missing.len(), 1);
        assert_eq!(judged(Outcome::Acknowledged, payment(5, false, 1)).missing.len(), 1);
        assert_eq!(judged(Outcome::Acknowledged, payment(5, true, 2)).doubled.len(), 1);
        assert_eq!(judged(Outcome::Acknowledged, payment(6, true, 1)).wrong.len(), 1);
        assert!(judged(Outcome::Failed, None).right() && judged(Outcome::Failed, payment(5, false, 1)).right());
        assert_eq!(judged(Outcome::Failed, payment(5, true, 1)).failed_but_there, 1);
    }

    #[test]
    fn wallets() {
        let judged = |balance_cents, succeeded_cents| {
            let mut findings = Findings::default();
            let bounds = Bounds { least: 10, most: 15 };
            judge_wallet("u", &bounds, Wallet { balance_cents, succeeded_cents }, &mut findings);
            (findings.missing.len(), findings.doubled.len(), findings.wrong.len())
        };
        assert_eq!(judged(10, 10), (0, 0, 0));
        assert_eq!(judged(15, 15), (0, 0, 0));
        assert_eq!(judged(9, 9), (1, 0, 0));
        assert_eq!(judged(16, 16), (0, 1, 0));
        assert_eq!(judged(12, 10), (0, 0, 1));
    }
}
