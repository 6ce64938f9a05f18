//! Crashes and outages in the middle of payments. Whatever happens, what was acknowledged is there once.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::balancer::Balancer;
use crate::gate::Gate;
use crate::http::{get, pay, post, wallet};
use crate::postgres::{PASSWORD, Postgres};
use crate::replica::{self, Replica};

/// Kills a front end between the two steps of a payment, and finishes the payment by a retry. The statement that waits in
/// the database either dies with the front end or is carried out without anybody to tell: both must come out right.
async fn crash_between(statement_dies: bool) {
    let postgres = Postgres::start().await;
    let mut replica = Replica::ready(&postgres).await;
    let to = replica.address;
    pay(to, "dana", 100, "before").await;
    let mut locker = postgres.sql().await;
    let lock = locker.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM wallets WHERE user_name = 'dana' FOR UPDATE", &[]).await.unwrap();
    let body = serde_json::json!({ "user": "dana", "amount_cents": 7, "idempotency_key": "cut" });
    let answer = tokio::spawn(async move { post(to, &body).await.is_some() });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'easypay' AND wait_event_type = 'Lock'";
    while postgres.number(waits).await == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(postgres.number("SELECT count(*) FROM payments WHERE key = 'cut' AND succeeded_at IS NULL").await, 1);

    replica.signal(Signal::KILL);
    replica.ended().await;
    assert!(!answer.await.unwrap(), "nobody was told anything");
    if statement_dies {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'easypay'";
        // None, where they noticed by themselves that nobody is there any more.
        postgres.number(end).await;
        while postgres.number(waits).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    lock.commit().await.unwrap();

    let other = Replica::ready(&postgres).await;
    if statement_dies {
        assert_eq!(wallet(other.address, "dana").await, (100, 2, 1), "tried and not succeeded");
    }
    let again = pay(other.address, "dana", 7, "cut").await;
    assert!(matches!(again.status, 200 | 201), "{}", again.body);
    assert_eq!(again.json()["balance_cents"], 107);
    assert_eq!(pay(other.address, "dana", 7, "cut").await.status, 200);
    assert_eq!(wallet(other.address, "dana").await, (107, 2, 2));
}

#[tokio::test]
async fn a_crash_between_tried_and_succeeded_is_finished_by_a_retry() {
    crash_between(true).await;
}

#[tokio::test]
async fn an_answer_lost_in_a_crash_is_given_again_by_a_retry() {
    crash_between(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_restart_of_the_database_fails_nothing() {
    let mut postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    // Which believes /ready: that a database restarts is no reason to have no front end.
    let balancer = Balancer::start().await;
    balancer.add(replica.address);
    balancer.has(1).await;
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(balancer.address, 50, "8s", ledger.path());
    for signal in [Signal::INT, Signal::QUIT] {
        sleep(Duration::from_secs(2)).await;
        postgres.down(signal);
        postgres.up().await;
    }
    let summary = replica::summary(client).await;
    assert_eq!((&summary["sent"], &summary["failed"]), (&400.into(), &0.into()), "{summary}");
    replica::verified(replica.address, ledger.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_outage_gives_503_and_then_all_is_well_again() {
    let mut postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(replica.address, 20, "14s", ledger.path());
    sleep(Duration::from_secs(2)).await;
    postgres.down(Signal::QUIT);
    replica.wait_until(503).await;
    assert_eq!(get(replica.address, "/alive").await.status, 200, "a restart of the front end would not help");
    sleep(Duration::from_secs(7)).await;
    let page = get(replica.address, "/?user=dana").await;
    assert!(page.status == 503 && page.body.contains("<!doctype html>"), "{}", page.body);
    postgres.up().await;
    replica.wait_until(200).await;

    let summary = replica::summary(client).await;
    let failed = summary["failed"].as_u64().unwrap();
    assert!(failed > 0, "12 s without a database: {summary}");
    assert_eq!(summary["reasons"]["status 503"].as_u64(), Some(failed), "{summary}");
    assert!(summary["last_failure_ms"].as_u64().unwrap() < 14_000, "{summary}");
    replica::verified(replica.address, ledger.path()).await;
}

/// What waits is bounded, and so is the memory for it; the kubelet goes on getting answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_pile_up_do_not_use_up_the_memory() {
    let postgres = Postgres::prepare();
    let replica = Replica::start(&postgres);
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(replica.address, 400, "6s", ledger.path());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(get(replica.address, "/alive").await.status, 200);
    let refused = pay(replica.address, "dana", 1, "k").await;
    assert!(refused.status == 503 && refused.body.contains("too many requests are waiting"), "{}", refused.body);
    let summary = replica::summary(client).await;
    assert_eq!(summary["reasons"]["status 503"], 2400, "{summary}");
    assert!(replica.memory_mib() < 48, "{} MiB", replica.memory_mib());
    let log = replica.log();
    assert!(log.contains("gave up waiting") && log.lines().count() < 20, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_freezes_for_a_while_fails_nothing() {
    let postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(replica.address, 20, "6s", ledger.path());
    sleep(Duration::from_secs(1)).await;
    postgres.signal_all(Signal::STOP);
    sleep(Duration::from_secs(2)).await;
    postgres.signal_all(Signal::CONT);
    let summary = replica::summary(client).await;
    assert_eq!((&summary["sent"], &summary["failed"]), (&120.into(), &0.into()), "{summary}");
    replica::verified(replica.address, ledger.path()).await;
}

/// As when the database's node is lost and its address leads to another from now on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_go_silent_are_replaced() {
    let postgres = Postgres::start().await;
    let gate = Gate::start(postgres.port).await;
    let replica = behind(&gate, &postgres).await;
    gate.silence().await;

    let to = replica.address;
    // As many dead connections as there were would use up the patience that a payment has.
    assert_eq!(pay(to, "dana", 1, "after").await.status, 201);
    let start = Instant::now();
    for n in 0..20 {
        assert_eq!(pay(to, "dana", 1, &format!("b{n}")).await.status, 201);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "no dead connection is left: {:?}", start.elapsed());
    replica.wait_until(200).await;
    assert_eq!(wallet(to, "dana").await, (61, 61, 61));
}

/// As after a failover that leaves the old primary running as a standby: it answers, and takes no payment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_became_read_only_is_left_for_its_successor() {
    let old = Postgres::start().await;
    let new = Postgres::start().await;
    let gate = Gate::start(old.port).await;
    let replica = behind(&gate, &old).await;
    let sql = old.sql().await;
    sql.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The reload reaches the server's processes a little later; what it shows after that may be out of date.
    replica.answers("/wallets/dana", 503).await;
    let away = pay(replica.address, "dana", 1, "between").await;
    assert_eq!(away.status, 503, "{}", away.body);
    assert_eq!(get(replica.address, "/ready").await.status, 503, "a database that only reads is none");

    gate.lead(new.port);
    // The successor has no schema here, which a real one has; making it is the probe's work.
    replica.wait_until(200).await;
    for n in 0..20 {
        assert_eq!(pay(replica.address, "dana", 1, &format!("b{n}")).await.status, 201);
    }
    assert_eq!(wallet(replica.address, "dana").await, (20, 20, 20));
}

/// A front end that reaches its database through a gate, and has opened as many connections as it may.
async fn behind(gate: &Gate, postgres: &Postgres) -> Replica {
    let replica = Replica::with(postgres, &[("DATABASE_PORT", &gate.port), ("DATABASE_PASSWORD", PASSWORD)]);
    replica.wait_until(200).await;
    let to = replica.address;
    let all = (0..40).map(|n| tokio::spawn(async move { pay(to, "dana", 1, &format!("a{n}")).await.status }));
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), 201);
    }
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_front_ends_under_load_lose_and_double_nothing() {
    let mut postgres = Postgres::start().await;
    let balancer = Balancer::start().await;
    let mut replicas = vec![Replica::ready(&postgres).await, Replica::ready(&postgres).await];
    replicas.iter().for_each(|replica| balancer.add(replica.address));
    balancer.has(2).await;
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(balancer.address, 200, "10s", ledger.path());
    for round in 0..4 {
        sleep(Duration::from_millis(700)).await;
        let mut killed = replicas.remove(0);
        killed.signal(Signal::KILL);
        killed.ended().await;
        if round == 2 {
            postgres.down(Signal::QUIT);
            postgres.up().await;
        }
        let new = Replica::ready(&postgres).await;
        balancer.add(new.address);
        balancer.has(2).await;
        replicas.push(new);
    }
    let summary = replica::summary(client).await;
    assert_eq!(summary["sent"], 2000, "{summary}");
    assert!(summary["acknowledged"].as_u64().unwrap() > 1000, "{summary}");
    replica::verified(balancer.address, ledger.path()).await;
    let doubled = "SELECT count(*) FROM wallets w WHERE balance_cents <> \
                   (SELECT sum(amount_cents) FROM payments p WHERE p.user_name = w.user_name AND succeeded_at IS NOT NULL)";
    assert_eq!(postgres.number(doubled).await, 0);
}
