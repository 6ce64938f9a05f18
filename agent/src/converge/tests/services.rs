//! Services that do not stand, and those that others take down.

use super::*;

#[tokio::test]
async fn a_unit_that_ends_at_once_shows_its_log() {
    let machine = FakeMachine::new();
    machine.units.add("x.service");
    machine.units.fails("x.service");
    let report = converge(&machine, &catalog([service("x", Disrupts::Nothing)])).await;
    let Outcome::Failed { error, .. } = outcome(&report, "service.x") else { panic!("{report:?}") };
    assert!(error.contains("it ends at once"), "{error}");
}

#[tokio::test]
async fn many_units_start_and_settle_at_once() {
    let machine = FakeMachine::new();
    let all: [Builder; 40] = std::array::from_fn(|n| {
        machine.units.add(&format!("x{n}.service"));
        machine.units.hangs(&format!("x{n}.service"), true);
        service(&format!("x{n}"), Disrupts::Nothing)
    });
    let engine = engine(&machine);
    let (all, options) = (shared(all), Options::default());
    let cut_off = tokio::time::timeout(std::time::Duration::from_millis(200), engine.converge(&all, &options));
    assert!(cut_off.await.is_err());
    let starts = machine.units.did().iter().filter(|did| did.starts_with("start ")).count();
    assert_eq!(starts, 40, "each waits for systemd, and none for another");
}

#[tokio::test]
async fn a_service_that_ends_soon_after_its_start_has_failed() {
    let machine = FakeMachine::new();
    machine.units.add("x.service");
    machine.units.ends("x.service", true);
    let all = catalog([service("x", Disrupts::Nothing), file("/late", "x").after(&["service.x"])]);
    let report = converge(&machine, &all).await;
    let Outcome::Failed { error, retry, .. } = outcome(&report, "service.x") else { panic!("{report:?}") };
    assert!(error.contains("ended soon after its start") && error.ends_with("its last words") && *retry, "{error}");
    assert_eq!(outcome(&report, "file./late"), &Outcome::Blocked { by: id("service.x") });
    machine.units.ends("x.service", false);
    assert!(converge(&machine, &all).await.converged);
}

#[tokio::test(start_paused = true)]
async fn what_another_one_took_back_has_failed() {
    let machine = FakeMachine::new();
    for name in ["a.service", "b.service"] {
        machine.units.add_running(name);
    }
    machine.units.exclude("a.service", "b.service");
    let all = catalog([service("a", Disrupts::Nothing), service("b", Disrupts::Nothing)]);
    for stopped in ["a", "b"] {
        machine.units.stop_by_hand(&format!("{stopped}.service"));
        let report = converge(&machine, &all).await;
        let other = if stopped == "a" { "b" } else { "a" };
        let Outcome::Failed { error, help, .. } = outcome(&report, &format!("service.{other}")) else {
            panic!("{report:?}")
        };
        assert!(error.ends_with("start (is inactive)") && help.as_ref().unwrap().contains(stopped), "{error} {help:?}");
        assert_eq!((outcome(&report, &format!("service.{stopped}")), report.already_right), (&Outcome::Done, 0));
        machine.units.change(&format!("{other}.service"), |unit| unit.active = "active".into());
    }
}

#[tokio::test]
async fn what_systemd_keeps_starting_again_is_not_right_and_is_no_drift() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    let all = catalog([service("x", Disrupts::Nothing)]);
    assert!(converge(&machine, &all).await.steps.is_empty());
    let again = |times, seconds| {
        machine.units.change("x.service", |unit| unit.again = Some(Again { times, seconds }));
    };
    again(1, 2);
    let report = converge(&machine, &all).await;
    assert_eq!((outcome(&report, "service.x"), report.drift.len()), (&Outcome::Done, 0), "it stands again");
    again(7, 2);
    let report = converge(&machine, &all).await;
    let Outcome::Failed { error, .. } = outcome(&report, "service.x") else { panic!("{report:?}") };
    assert!(error.contains("systemd started it again 7 times"), "{error}");
    assert!(machine.units.did().is_empty(), "what restarts already is not restarted");

    // What it is told of may mend it: it begins anew instead of waiting.
    let all = catalog([file("/etc/x", "mended").notify(&["service.x"]), service("x", Disrupts::Nothing)]);
    assert!(converge(&machine, &all).await.converged);
    assert_eq!(machine.units.did(), ["restart x.service"]);
}

#[tokio::test]
async fn a_oneshot_that_succeeded_runs_again_when_it_is_told() {
    let machine = FakeMachine::new();
    machine.units.add_running("once.service");
    machine.units.change("once.service", |unit| {
        (unit.active, unit.once) = ("inactive".into(), Some(Once::Succeeded));
    });
    let all = catalog([service("once", Disrupts::Nothing)]);
    assert!(converge(&machine, &all).await.steps.is_empty());
    let all = catalog([file("/etc/once", "x").notify(&["service.once"]), service("once", Disrupts::Nothing)]);
    assert!(converge(&machine, &all).await.converged);
    assert_eq!(machine.units.did(), ["restart once.service"]);
}
