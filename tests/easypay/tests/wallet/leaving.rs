//! Replicas that leave: no request fails when the load balancer is told in time.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::balancer::Balancer;
use crate::http::{get, pay, wallet};
use crate::postgres::{PASSWORD, Postgres};
use crate::replica::{self, Replica};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_under_load_fails_nothing() {
    let postgres = Postgres::start().await;
    let balancer = Balancer::start().await;
    let mut replicas = vec![Replica::ready(&postgres).await, Replica::ready(&postgres).await];
    replicas.iter().for_each(|replica| balancer.add(replica.address));
    balancer.has(2).await;

    let ledger = tempfile::NamedTempFile::new().unwrap();
    let client = replica::pay(balancer.address, 100, "12s", ledger.path());
    for _ in 0..3 {
        sleep(Duration::from_millis(500)).await;
        let new = Replica::ready(&postgres).await;
        balancer.add(new.address);
        balancer.has(3).await;
        let mut old = replicas.remove(0);
        old.signal(Signal::TERM);
        let (code, took) = old.ended().await;
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(15), "{took:?}");
        replicas.push(new);
    }
    let summary = replica::summary(client).await;
    assert_eq!((&summary["sent"], &summary["failed"]), (&1200.into(), &0.into()), "{summary}");
    replica::verified(balancer.address, ledger.path()).await;
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_kept_connections_are_sent_away() {
    let postgres = Postgres::start().await;
    let mut replica = graceful(&postgres).await;
    let to = replica.address;
    pay(to, "dana", 1, "first").await;
    let mut kept = TcpStream::connect(to).await.unwrap();
    assert!(!ask(&mut kept).await.contains("connection: close"));
    let mut idle = TcpStream::connect(to).await.unwrap();

    let mut locker = postgres.sql().await;
    let lock = locker.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM wallets WHERE user_name = 'dana' FOR UPDATE", &[]).await.unwrap();
    let waiting = tokio::spawn(async move { pay(to, "dana", 10, "second").await.status });
    sleep(Duration::from_millis(300)).await;
    replica.signal(Signal::TERM);
    sleep(Duration::from_millis(300)).await;

    assert_eq!(get(to, "/ready").await.status, 503);
    assert_eq!(get(to, "/alive").await.status, 200);
    assert_eq!(pay(to, "eve", 1, "in-the-grace").await.status, 201, "it serves on for the grace");
    assert!(ask(&mut kept).await.contains("connection: close"));
    closed(&replica).await;
    lock.commit().await.unwrap();

    // What waits for long is tried again, and may find that the first try has done it.
    let status = waiting.await.unwrap();
    assert!(matches!(status, 200 | 201), "{status}");
    let (code, took) = replica.ended().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "an idle connection holds nothing up: {took:?}");
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    let other = Replica::ready(&postgres).await;
    assert_eq!(wallet(other.address, "dana").await, (11, 2, 2));
}

/// Whoever has connected by the end of the grace is served: those whose request comes only after the listener is closed,
/// and those who were still in the accept queue.
#[tokio::test]
async fn the_last_to_connect_are_served() {
    let postgres = Postgres::start().await;
    let mut replica = graceful(&postgres).await;
    replica.signal(Signal::TERM);
    sleep(Duration::from_secs(1)).await;
    let mut late = TcpStream::connect(replica.address).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    // The kernel completes connections for a process that does not run; the grace is over when it runs again.
    replica.signal(Signal::STOP);
    let mut queued = Vec::new();
    for _ in 0..50 {
        queued.push(TcpStream::connect(replica.address).await.unwrap());
    }
    sleep(GRACE).await;
    replica.signal(Signal::CONT);
    for connection in &mut queued {
        assert!(ask(connection).await.contains("connection: close"));
    }
    closed(&replica).await;
    assert!(ask(&mut late).await.contains("connection: close"));
    assert_eq!(replica.ended().await.0, Some(0));
}

/// Longer than a slow machine takes to ask a few things, and less than a statement may wait.
const GRACE: Duration = Duration::from_secs(3);

async fn graceful(postgres: &Postgres) -> Replica {
    let grace = format!("{}s", GRACE.as_secs());
    let settings = [("DATABASE_PASSWORD", PASSWORD), ("GRACE", grace.as_str()), ("PATIENCE", "30s")];
    let replica = Replica::with(postgres, &settings);
    replica.wait_until(200).await;
    replica
}

/// Waits until nobody new comes in.
async fn closed(replica: &Replica) {
    let closed = async {
        while TcpStream::connect(replica.address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), closed).await.expect("after the grace nobody new comes in");
}

async fn ask(connection: &mut TcpStream) -> String {
    connection.write_all(b"GET /alive HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("alive\n") {
        let mut part = [0; 1024];
        let length = connection.read(&mut part).await.unwrap();
        assert!(length > 0, "closed instead of answered: {answer}");
        answer.push_str(std::str::from_utf8(&part[..length]).unwrap());
    }
    answer.to_ascii_lowercase()
}
