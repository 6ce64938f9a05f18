//! Units.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use muster_agent::{
    adapters::{commands::SystemCommands, fake::FakeUnits, systemd::Systemd},
    ports::{UnitError, Units},
};

const GOOD: &str = "muster-contract.service";
const BAD: &str = "muster-contract-bad.service";

/// `GOOD` is there and stopped, `BAD` ends whenever it is started.
async fn keeps(units: &dyn Units) {
    let unknown = units.state("muster-no-such.service").await.unwrap();
    assert!(!unknown.loaded && unknown.active == "inactive");
    assert!(matches!(units.start("muster-no-such.service").await, Err(UnitError::NotFound { .. })));
    let stopped = units.state(GOOD).await.unwrap();
    assert!(stopped.loaded && stopped.active == "inactive" && stopped.file == "disabled", "{stopped:?}");

    let mut changes = units.changes().await.unwrap();
    units.start(GOOD).await.unwrap();
    assert_eq!(units.state(GOOD).await.unwrap().active, "active");
    let heard = async { while changes.next().await.expect("goes on") != GOOD {} };
    tokio::time::timeout(Duration::from_secs(30), heard).await.expect("heard of it");

    units.enable(GOOD).await.unwrap();
    assert_eq!(units.state(GOOD).await.unwrap().file, "enabled");
    units.restart(GOOD).await.unwrap();
    units.reload(GOOD).await.unwrap();
    units.disable(GOOD).await.unwrap();
    units.stop(GOOD).await.unwrap();
    let end = units.state(GOOD).await.unwrap();
    assert_eq!((end.active.as_str(), end.file.as_str()), ("inactive", "disabled"));

    let Err(UnitError::Job { tail, .. }) = units.start(BAD).await else { panic!("it started") };
    assert!(tail.contains("it ends at once"), "{tail}");
    let states = units.states(&[BAD.to_owned(), GOOD.to_owned()]).await.unwrap();
    assert_eq!((states[0].active.as_str(), states[1].active.as_str()), ("failed", "inactive"));
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let units = FakeUnits::default();
    units.add(GOOD);
    units.add(BAD);
    units.fails(BAD);
    keeps(&units).await;
}

#[tokio::test]
#[ignore = "runs inside a node, started by a_nodes_ports_keep_their_contracts"]
async fn inside_a_node_systemd_keeps_it() {
    crate::lab::inside();
    let write = |name: &str, start: &str, kind: &str| {
        let text = format!("[Service]\nType={kind}\nExecStart={start}\n[Install]\nWantedBy=multi-user.target\n");
        std::fs::write(format!("/etc/systemd/system/{name}"), text).unwrap();
    };
    write(GOOD, "/bin/sleep infinity", "exec");
    write(BAD, "/bin/sh -c 'echo it ends at once; exit 1'", "oneshot");
    let units = Systemd::new(Arc::new(SystemCommands::new()));
    units.daemon_reload().await.unwrap();
    keeps(&units).await;
    // A unit file that is newer than what systemd read; one that is stopped it forgets, and reads anew.
    units.start(GOOD).await.unwrap();
    write(GOOD, "/bin/sleep 1000000", "exec");
    assert!(units.state(GOOD).await.unwrap().needs_reload);
    units.daemon_reload().await.unwrap();
    assert!(!units.state(GOOD).await.unwrap().needs_reload);
}
