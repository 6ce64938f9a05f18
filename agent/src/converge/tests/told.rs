//! Notifications: owed before the change, paid once.

use super::*;

#[tokio::test]
async fn a_notification_survives_a_crash_between_change_and_restart() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    machine.units.hangs("x.service", true);
    let all = catalog([
        file("/etc/x", "new\n").notify(&["service.x"]),
        service("x", Disrupts::Nothing).after(&["file./etc/x"]),
    ]);
    let engine = engine(&machine);
    let all = Arc::new(all);
    // The process ends while systemd restarts the unit.
    let options = Options::default();
    let cut_off = tokio::time::timeout(std::time::Duration::from_millis(50), engine.converge(&all, &options));
    assert!(cut_off.await.is_err());
    assert_eq!(machine.files.text("/etc/x").as_deref(), Some("new\n"));
    assert_eq!(machine.units.did(), ["restart x.service"]);
    let changes = machine.files.changes();
    let place = |change: &str| changes.iter().position(|other| other == change);
    assert!(place(&format!("write {LEDGER}")) < place("write /etc/x"), "written down before the change: {changes:?}");
    machine.units.hangs("x.service", false);
    let report = converge(&machine, &all).await;
    assert_eq!(machine.units.did(), ["restart x.service", "restart x.service"]);
    assert_eq!(outcome(&report, "service.x"), &Outcome::Done);
    assert!(converge(&machine, &all).await.steps.is_empty());
}

#[tokio::test]
async fn what_heard_before_a_crash_is_not_told_again_and_what_did_not_is() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    let all = shared([file("/etc/x", "new\n").notify(&["service.x"]), service("x", Disrupts::Nothing)]);
    converge(&machine, &all).await;
    // The agent was killed after it wrote down which run it ends, and before it wrote down that the new one has heard.
    for (ended, restarts) in [("0", 1), ("1", 2)] {
        let ledger = format!(
            r#"{{"version":"1","generation":null,"pending":{{"service.x":["file./etc/x"]}},"telling":{{"service.x":"{ended}"}}}}"#
        );
        machine.files.put(LEDGER, &ledger);
        assert!(converge(&machine, &all).await.converged);
        assert_eq!(machine.units.did().len(), restarts);
        assert!(!machine.files.text(LEDGER).unwrap().contains("telling"));
        assert!(converge(&machine, &all).await.steps.is_empty());
    }
}

/// A ledger that cannot be written after the restart is no reason to restart again and again.
#[tokio::test]
async fn a_debt_that_is_paid_on_a_full_disk_is_paid_once() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    machine.units.hangs("x.service", true);
    let all = shared([file("/etc/x", "new\n").notify(&["service.x"]), service("x", Disrupts::Nothing)]);
    let options = Options::default();
    let cut_off = engine(&machine);
    let cut_off = tokio::time::timeout(std::time::Duration::from_millis(50), cut_off.converge(&all, &options));
    assert!(cut_off.await.is_err());
    machine.units.hangs("x.service", false);
    machine.files.full(true);
    let engine = engine(&machine);
    for _ in 0..3 {
        engine.converge(&all, &options).await.unwrap();
    }
    assert_eq!(machine.units.did(), ["restart x.service", "restart x.service"], "the one that was cut off, and one");
    machine.files.full(false);
    engine.converge(&all, &options).await.unwrap();
    assert!(converge(&machine, &all).await.steps.is_empty(), "and it is remembered");
}

/// The quick path after drift pays what it owes: a service that was started by hand with the changed file runs by it.
#[tokio::test]
async fn what_is_put_back_after_drift_tells_at_once() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    let all = shared([file("/etc/x", "ours").notify(&["service.x"]), service("x", Disrupts::Nothing)]);
    converge(&machine, &all).await;
    let before = machine.units.did().len();
    machine.files.put("/etc/x", "theirs");
    let options = Options { only: Some([id("file./etc/x")].into()), woken_by: "drift".into(), ..Options::default() };
    let report = engine(&machine).converge(&all, &options).await.unwrap();
    assert_eq!(outcome(&report, "service.x"), &Outcome::Done);
    assert_eq!(machine.units.did().len(), before + 1);
    assert!(converge(&machine, &all).await.steps.is_empty());
}

#[tokio::test]
async fn many_notifications_are_one_restart() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    let all = catalog([
        file("/a", "1").notify(&["service.x"]),
        file("/b", "1").notify(&["service.x"]),
        service("x", Disrupts::Nothing),
    ]);
    converge(&machine, &all).await;
    assert_eq!(machine.units.did(), ["restart x.service"]);
}

#[tokio::test]
async fn a_disruption_waits_for_its_turn() {
    let machine = FakeMachine::new();
    machine.units.add_running("containerd.service");
    let all = catalog([
        file("/etc/containerd", "new").notify(&["service.containerd"]),
        service("containerd", Disrupts::Service),
        command("late", "/never").after(&["service.containerd"]),
    ]);
    machine.coordinator.turn_held_by(Turn::Disrupt, Some("workers-2"));
    let report = converge(&machine, &all).await;
    let why = Skip::Turn { held_by: "workers-2".into() };
    assert_eq!(outcome(&report, "service.containerd"), &Outcome::Skipped { why });
    assert_eq!(outcome(&report, "command.late"), &Outcome::Blocked { by: id("service.containerd") });
    assert!(machine.units.did().is_empty() && !report.converged);

    machine.coordinator.away(true);
    let report = converge(&machine, &all).await;
    assert!(matches!(outcome(&report, "service.containerd"), Outcome::Skipped { why: Skip::Waits { .. } }));

    machine.coordinator.away(false);
    machine.coordinator.turn_held_by(Turn::Disrupt, None);
    let report = converge(&machine, &all).await;
    assert_eq!(outcome(&report, "service.containerd"), &Outcome::Done);
    assert_eq!(machine.units.did(), ["restart containerd.service"]);
    assert_eq!((machine.coordinator.taken().len(), machine.coordinator.held()), (1, (0, 1)), "given back");
}

#[tokio::test]
async fn a_restart_that_fails_keeps_the_turn_until_its_lease_ends() {
    let machine = FakeMachine::new();
    machine.units.add_running("containerd.service");
    machine.units.fails("containerd.service");
    let all = catalog([
        file("/etc/containerd", "bad").notify(&["service.containerd"]),
        service("containerd", Disrupts::Service),
    ]);
    let report = converge(&machine, &all).await;
    assert!(matches!(outcome(&report, "service.containerd"), Outcome::Failed { .. }), "{report:?}");
    assert_eq!((machine.coordinator.taken().len(), machine.coordinator.given()), (1, 0));
}
