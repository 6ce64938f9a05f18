//! The client must find what is wrong, or its word is worth nothing: here the database is made wrong on purpose.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::postgres::Postgres;
use crate::replica::{self, Replica};

async fn paid(postgres: &Postgres) -> (Replica, NamedTempFile) {
    let replica = Replica::ready(postgres).await;
    let ledger = NamedTempFile::new().unwrap();
    let summary = replica::summary(replica::pay(replica.address, 100, "500ms", ledger.path())).await;
    assert_eq!((&summary["sent"], &summary["acknowledged"]), (&50.into(), &50.into()), "{summary}");
    (replica, ledger)
}

async fn found(replica: &Replica, ledger: &Path) -> (Option<i32>, String) {
    let output = replica::verify(replica.address, ledger).await;
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn verify_finds_what_is_wrong() {
    let postgres = Postgres::start().await;
    let (replica, ledger) = paid(&postgres).await;
    assert_eq!(found(&replica, ledger.path()).await.0, Some(0));
    let sql = postgres.sql().await;
    let one = "(SELECT key FROM payments ORDER BY id OFFSET 7 LIMIT 1)";

    // A payment applied twice, known by its balance alone.
    let twice = |sign: char| {
        format!(
            "UPDATE wallets w SET balance_cents = balance_cents {sign} p.amount_cents FROM payments p \
             WHERE p.user_name = w.user_name AND p.key = {one}"
        )
    };
    sql.batch_execute(&twice('+')).await.unwrap();
    let (code, said) = found(&replica, ledger.path()).await;
    assert!(code == Some(1) && said.contains("doubled: wallet") && said.contains("wrong: wallet"), "{said}");
    sql.batch_execute(&twice('-')).await.unwrap();
    assert_eq!(found(&replica, ledger.path()).await.0, Some(0));

    // A payment that is gone, with its money: the books balance, and it is missing all the same.
    sql.batch_execute(&format!("CREATE TABLE kept AS SELECT * FROM payments WHERE key = {one}")).await.unwrap();
    sql.batch_execute(&format!("{}; DELETE FROM payments WHERE key = (SELECT key FROM kept)", twice('-')))
        .await
        .unwrap();
    let (code, said) = found(&replica, ledger.path()).await;
    assert!(code == Some(1) && said.contains("missing: payment") && said.contains("is not there"), "{said}");
    let back = "INSERT INTO payments OVERRIDING SYSTEM VALUE SELECT * FROM kept";
    sql.batch_execute(&format!("{back}; {}", twice('+'))).await.unwrap();
    assert_eq!(found(&replica, ledger.path()).await.0, Some(0));

    // An acknowledged payment that was only tried.
    sql.batch_execute(&format!(
        "{}; UPDATE payments SET succeeded_at = NULL, balance_after_cents = NULL WHERE key = (SELECT key FROM kept)",
        twice('-')
    ))
    .await
    .unwrap();
    let (code, said) = found(&replica, ledger.path()).await;
    assert!(code == Some(1) && said.contains("is only tried"), "{said}");
    sql.batch_execute(&format!("DELETE FROM payments WHERE key = (SELECT key FROM kept); {back}; {}", twice('+')))
        .await
        .unwrap();

    // The same payment in two rows.
    sql.batch_execute(&format!(
        "ALTER TABLE payments DROP CONSTRAINT payments_pkey, DROP CONSTRAINT payments_id_key; {back}"
    ))
    .await
    .unwrap();
    let (code, said) = found(&replica, ledger.path()).await;
    assert!(code == Some(1) && said.contains("is there 2 times"), "{said}");
}

#[tokio::test]
async fn verify_says_when_it_cannot_know() {
    let postgres = Postgres::start().await;
    let (mut replica, ledger) = paid(&postgres).await;
    replica.signal(rustix::process::Signal::KILL);
    replica.ended().await;
    let output = replica::verify(replica.address, ledger.path()).await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot be read: connect: connection refused"), "{said}");

    let empty = NamedTempFile::new().unwrap();
    let output = replica::verify(replica.address, empty.path()).await;
    assert_eq!(output.status.code(), Some(2), "an empty ledger proves nothing");
}

#[tokio::test]
async fn pay_counts_failures_and_why() {
    let postgres = Postgres::prepare();
    let replica = Replica::with(&postgres, &[("PATIENCE", "200ms")]);
    let ledger = NamedTempFile::new().unwrap();
    let summary = replica::summary(replica::pay(replica.address, 20, "1s", ledger.path())).await;
    assert_eq!((&summary["failed"], &summary["acknowledged"]), (&20.into(), &0.into()), "{summary}");
    assert_eq!(summary["reasons"]["status 503"], 20);
    assert!(summary["longest_gap_ms"].as_u64().unwrap() >= 1000, "{summary}");
    assert_eq!(std::fs::read_to_string(ledger.path()).unwrap().lines().count(), 20);
}
