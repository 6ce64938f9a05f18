//! Replicas that start: at once, before their database, with a wrong password.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use crate::http::{get, pay, wallet};
use crate::postgres::{PASSWORD, Postgres};
use crate::replica::{BINARY, Replica};

#[tokio::test]
async fn replicas_that_start_at_once_do_not_collide() {
    let postgres = Postgres::start().await;
    for round in 0..4 {
        let replicas: Vec<_> = (0..4).map(|_| Replica::start(&postgres)).collect();
        for (n, replica) in replicas.iter().enumerate() {
            replica.wait_until(200).await;
            assert!(!replica.log().contains("WARN"), "{}", replica.log());
            assert_eq!(pay(replica.address, "dana", 1, &format!("{round}-{n}")).await.status, 201);
        }
        assert_eq!(wallet(replicas[0].address, "dana").await.0, 4);
        drop(replicas);
        postgres.sql().await.batch_execute("DROP TABLE payments, wallets").await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_waits_for_its_database_and_sets_it_up() {
    let mut postgres = Postgres::prepare();
    let hasty = Replica::start(&postgres);
    assert_eq!(get(hasty.address, "/alive").await.status, 200);
    assert_eq!(get(hasty.address, "/ready").await.status, 503);
    let away = pay(hasty.address, "dana", 1, "k").await;
    assert_eq!(away.status, 503);
    assert!(away.body.contains("database does not answer") && away.head.contains("retry-after: 1"), "{}", away.body);
    drop(hasty);

    let replica = Replica::with(&postgres, &[("DATABASE_PASSWORD", PASSWORD), ("PATIENCE", "60s")]);
    let to = replica.address;
    let waiting = tokio::spawn(async move { pay(to, "dana", 1, "k").await.status });
    postgres.up().await;
    assert_eq!(waiting.await.unwrap(), 201, "a payment that waits gets its turn");
    replica.wait_until(200).await;

    // Even when all is lost while it runs, the schema comes back by itself.
    postgres.sql().await.batch_execute("DROP TABLE payments, wallets").await.unwrap();
    assert_eq!(pay(to, "dana", 1, "k").await.status, 201);

    // Also what no statement needs, once the database was started anew.
    postgres.sql().await.batch_execute("DROP INDEX payments_by_user").await.unwrap();
    postgres.down(Signal::INT);
    postgres.up().await;
    let indexes = "SELECT count(*) FROM pg_indexes WHERE indexname = 'payments_by_user'";
    let made = async {
        while postgres.number(indexes).await == 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), made).await.expect("the probe makes it");
}

#[tokio::test]
async fn a_password_that_is_put_right_is_taken_without_a_restart() {
    let postgres = Postgres::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong-horse\n").unwrap();
    let replica = Replica::with(&postgres, &[("DATABASE_PASSWORD_FILE", file.path().to_str().unwrap())]);
    replica.says("password authentication failed").await;
    assert_eq!(get(replica.address, "/ready").await.status, 503);
    assert!(!replica.log().contains("wrong-horse"), "{}", replica.log());
    std::fs::write(file.path(), format!("{PASSWORD}\n")).unwrap();
    replica.wait_until(200).await;
    assert_eq!(pay(replica.address, "dana", 1, "k").await.status, 201);
}

#[test]
fn wrong_settings_end_it_at_once_with_the_reason() {
    for (settings, reason) in [
        (vec![], "DATABASE_HOST is not set"),
        (vec![("DATABASE_HOST", "h"), ("CURRENCY", "euros")], "CURRENCY must be three capital letters"),
        (vec![("DATABASE_HOST", "h"), ("DATABASE_PASSWORD_FILE", "/nothing")], "DATABASE_PASSWORD_FILE cannot be read"),
        (vec![("DATABASE_HOST", "h"), ("LISTEN", "192.0.2.1:1")], "cannot listen on 192.0.2.1:1"),
    ] {
        let output = Command::new(BINARY).arg("serve").env_clear().envs(settings).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains(reason), "{said}");
    }
}
