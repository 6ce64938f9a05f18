//! Units.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use muster_agent::{
    adapters::{commands::SystemCommands, fake::FakeUnits, systemd::Systemd},
    ports::{UnitError, UnitEvent, Units},
};

const GOOD: &str = "muster-contract.service";
const BAD: &str = "muster-contract-bad.service";
const SOON: &str = "muster-contract-soon.service";
const ALIAS: &str = "muster-contract-alias.service";
const MASKED: &str = "muster-contract-masked.service";

/// `GOOD` is there and stopped, and `ALIAS` is another name of it; `BAD` ends whenever it is started, `SOON` a moment later;
/// `MASKED` is masked.
async fn keeps(units: &dyn Units) {
    let unknown = units.state("muster-no-such.service").await.unwrap();
    assert!(!unknown.loaded && unknown.active == "inactive");
    assert!(matches!(units.start("muster-no-such.service").await, Err(UnitError::NotFound { .. })));
    let stopped = units.state(GOOD).await.unwrap();
    assert!(stopped.loaded && stopped.active == "inactive" && stopped.file == "disabled", "{stopped:?}");

    let mut changes = units.changes().await.unwrap();
    units.start(ALIAS).await.unwrap();
    units.stands(ALIAS).await.unwrap();
    for name in [GOOD, ALIAS] {
        let state = units.state(name).await.unwrap();
        assert_eq!((state.id.as_str(), state.active.as_str(), state.again), (GOOD, "active", None));
    }
    let own = UnitEvent::Changed(GOOD.to_owned());
    let until = async { while changes.next().await.expect("goes on") != own {} };
    tokio::time::timeout(Duration::from_secs(30), until).await.expect("heard of it by its own name");

    units.enable(ALIAS).await.unwrap();
    assert_eq!(units.state(GOOD).await.unwrap().file, "enabled");
    units.restart(GOOD).await.unwrap();
    units.reload(GOOD).await.unwrap();
    units.disable(ALIAS).await.unwrap();
    units.daemon_reload().await.unwrap();
    let until = async { while changes.next().await.expect("goes on") != UnitEvent::Reloaded {} };
    tokio::time::timeout(Duration::from_secs(30), until).await.expect("heard that files were read again");
    units.stop(GOOD).await.unwrap();
    units.stop(GOOD).await.unwrap();
    let end = units.state(GOOD).await.unwrap();
    assert_eq!((end.active.as_str(), end.file.as_str()), ("inactive", "disabled"));

    let Err(UnitError::Job { how, tail, .. }) = units.start(BAD).await else { panic!("it started") };
    assert!(tail.contains("it ends at once") && how.contains("status 1"), "{how}; {tail}");
    let states = units.states(&[BAD.to_owned(), ALIAS.to_owned()]).await.unwrap();
    assert_eq!((states[0].active.as_str(), states[1].active.as_str()), ("failed", "inactive"));
    assert_eq!((states[0].id.as_str(), states[1].id.as_str()), (BAD, GOOD));

    units.start(SOON).await.unwrap();
    let Err(UnitError::Ended { how, tail, .. }) = units.stands(SOON).await else { panic!("it stands") };
    assert!(tail.contains("its last words") && how.contains("status 3"), "{how}; {tail}");

    let masked = units.state(MASKED).await.unwrap();
    assert!(masked.masked && !masked.loaded, "{masked:?}");
    assert!(matches!(units.start(MASKED).await, Err(UnitError::Masked { .. })));
    units.unmask(MASKED).await.unwrap();
    assert!(!units.state(MASKED).await.unwrap().masked);
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let units = FakeUnits::default();
    units.add(GOOD);
    units.alias(ALIAS, GOOD);
    units.add(BAD);
    units.fails(BAD);
    units.add(SOON);
    units.ends(SOON, true);
    units.mask(MASKED);
    keeps(&units).await;
}

#[tokio::test]
#[ignore = "runs inside a node, started by a_nodes_ports_keep_their_contracts"]
async fn inside_a_node_systemd_keeps_it() {
    crate::lab::inside();
    let write = |name: &str, start: &str, kind: &str| {
        let text = format!("[Service]\nType={kind}\nExecStart={start}\n[Install]\nWantedBy=multi-user.target\n");
        std::fs::write(format!("/usr/lib/systemd/system/{name}"), text).unwrap();
    };
    write(GOOD, "/bin/sleep infinity", "exec");
    write(BAD, "/bin/sh -c 'echo it ends at once; exit 1'", "oneshot");
    write(SOON, "/bin/sh -c 'sleep 0.3; echo its last words; exit 3'", "exec");
    std::os::unix::fs::symlink(GOOD, format!("/usr/lib/systemd/system/{ALIAS}")).unwrap();
    std::os::unix::fs::symlink("/dev/null", format!("/etc/systemd/system/{MASKED}")).unwrap();
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
