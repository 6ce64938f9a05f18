//! Whether `/ready` says what becomes of a payment: with all connections in use, and with a database known by its name.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::http::{get, pay};
use crate::postgres::{PASSWORD, Postgres};
use crate::replica::{self, Replica};

const PATIENCE: Duration = Duration::from_secs(3);

async fn two_connections(postgres: &Postgres) -> Replica {
    let settings = [("DATABASE_PASSWORD", PASSWORD), ("DATABASE_CONNECTIONS", "2"), ("PATIENCE", "3s")];
    let replica = Replica::with(postgres, &settings);
    replica.wait_until(200).await;
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_in_use_are_no_database_that_is_away() {
    let postgres = Postgres::start().await;
    let replica = two_connections(&postgres).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION slow()";
    postgres.sql().await.batch_execute(slow).await.unwrap();
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(replica.address, 30, "9s", ledger.path());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        assert_eq!(get(replica.address, "/ready").await.status, 200, "after {:?}", start.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    let summary = replica::summary(client).await;
    assert!(summary["failed"].as_u64().unwrap() > 100, "five a second are served: {summary}");
    assert!(summary["acknowledged"].as_u64().unwrap() > 20, "{summary}");
    assert!(!replica.log().contains("the database does not answer"), "{}", replica.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_in_use_by_payments_that_come_to_no_end_are() {
    let postgres = Postgres::start().await;
    let replica = two_connections(&postgres).await;
    let mut locker = postgres.sql().await;
    let lock = locker.transaction().await.unwrap();
    // Lets the probe's question through, had it a connection to ask by.
    lock.batch_execute("LOCK TABLE wallets IN EXCLUSIVE MODE").await.unwrap();
    let ledger = NamedTempFile::new().unwrap();
    let client = replica::pay(replica.address, 30, "8s", ledger.path());
    let start = Instant::now();
    replica.wait_until(503).await;
    let after = start.elapsed();
    assert!(PATIENCE - Duration::from_secs(1) < after && after < PATIENCE + Duration::from_secs(2), "{after:?}");
    lock.commit().await.unwrap();
    replica.wait_until(200).await;
    replica::summary(client).await;
    replica::verified(replica.address, ledger.path()).await;
}

#[tokio::test]
async fn a_database_is_found_by_name_with_the_systems_resolver() {
    let postgres = Postgres::start().await;
    let settings = [("DATABASE_PASSWORD", PASSWORD), ("DATABASE_HOST", "localhost")];
    let replica = Replica::with(&postgres, &settings);
    replica.wait_until(200).await;
    assert_eq!(pay(replica.address, "dana", 1, "k").await.status, 201);

    let settings = [("DATABASE_PASSWORD", PASSWORD), ("DATABASE_HOST", "nobody.invalid"), ("PATIENCE", "1s")];
    let mut lost = Replica::with(&postgres, &settings);
    lost.says("the database's name leads nowhere").await;
    assert_eq!(get(lost.address, "/ready").await.status, 503);
    assert_eq!(pay(lost.address, "dana", 1, "k").await.status, 503);
    // Whether names are refused or never answered here, no look-up holds it up.
    lost.signal(Signal::TERM);
    let (code, took) = lost.ended().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");
}
