//! The engine over a machine in memory.

use std::{collections::BTreeMap, sync::Arc};

use muster_catalog::{
    Catalog, Resource, Spec,
    kinds::{
        command::CommandSpec,
        file::FileSpec,
        package::PackageSpec,
        service::{Disrupts, OnNotify, ServiceSpec},
    },
};
use muster_ids::{Generation, ResourceId};
use muster_plan::{
    Outcome, Report, Skip,
    kinds::service::{Again, Once},
};
use proptest::prelude::*;

use super::{ConvergeError, Engine, Options};
use crate::{
    Scope,
    adapters::fake::{FakeMachine, NoMember},
    ledger::LedgerFile,
    ports::{Files, Output, PackageError, Turn},
};

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

struct Builder(Resource);

impl Builder {
    fn after(mut self, ids: &[&str]) -> Self {
        self.0.after = ids.iter().map(|text| id(text)).collect();
        self
    }

    fn notify(mut self, ids: &[&str]) -> Self {
        self.0.notify = ids.iter().map(|text| id(text)).collect();
        self
    }
}

fn of(spec: Spec) -> Builder {
    Builder(Resource { after: Vec::new(), notify: Vec::new(), spec })
}

fn file(path: &str, content: &str) -> Builder {
    of(Spec::File(FileSpec {
        path: path.into(),
        content: Some(content.into()),
        content_base64: None,
        source: None,
        template: None,
        secret: None,
        mode: None,
        owner: "root".into(),
        group: "root".into(),
        absent: false,
    }))
}

fn absent(path: &str) -> Builder {
    let Spec::File(spec) = file(path, "").0.spec else { unreachable!() };
    of(Spec::File(FileSpec { absent: true, content: None, ..spec }))
}

fn package(name: &str) -> Builder {
    of(Spec::Package(PackageSpec { name: name.into(), version: None, hold: None, absent: false }))
}

fn service(name: &str, disrupts: Disrupts) -> Builder {
    let spec = ServiceSpec {
        name: name.into(),
        enabled: None,
        running: true,
        on_notify: OnNotify::Restart,
        disrupts,
        unmask: false,
    };
    of(Spec::Service(spec))
}

fn command(name: &str, creates: &str) -> Builder {
    of(Spec::Command(CommandSpec {
        name: name.into(),
        run: vec![name.into()],
        unless: None,
        only_if: None,
        creates: Some(creates.into()),
        on_notify: false,
        environment: BTreeMap::new(),
        timeout: 10,
        disrupts: Disrupts::Nothing,
    }))
}

fn shared<const N: usize>(resources: [Builder; N]) -> Arc<Catalog> {
    Arc::new(catalog(resources))
}

fn catalog<const N: usize>(resources: [Builder; N]) -> Catalog {
    Catalog {
        cluster: "c".parse().unwrap(),
        environment: "e".parse().unwrap(),
        node: "n-1".parse().unwrap(),
        generation: Generation { epoch: 0, counter: 1 },
        draft: false,
        resource: resources.into_iter().map(|builder| builder.0).collect(),
    }
}

const LEDGER: &str = "/var/lib/muster-agent/ledger.json";

/// A new process on the same machine.
fn engine(machine: &FakeMachine) -> Engine {
    let files: Arc<dyn Files> = Arc::clone(&machine.files) as _;
    let ledger = LedgerFile::open(files, LEDGER).unwrap();
    Engine::new(machine.context(Scope::of(&catalog([]))), ledger, Arc::new(NoMember))
}

async fn converge(machine: &FakeMachine, catalog: &Catalog) -> Report {
    engine(machine).converge(&Arc::new(catalog.clone()), &Options::default()).await.unwrap()
}

fn outcome<'a>(report: &'a Report, resource: &str) -> &'a Outcome {
    let resource = id(resource);
    report.steps.iter().find(|step| step.resource == resource).map_or(&Outcome::AlreadyRight, |step| &step.outcome)
}

#[tokio::test]
async fn a_second_converge_changes_nothing_and_writes_nothing() {
    let machine = FakeMachine::new();
    machine.packages.publish("nginx", "1.22");
    let units = Arc::clone(&machine.units);
    machine.packages.on_install(move |_| units.add("nginx.service"));
    let all = catalog([
        file("/etc/nginx.conf", "x\n").notify(&["service.nginx"]),
        package("nginx"),
        service("nginx", Disrupts::Service).after(&["package.nginx", "file./etc/nginx.conf"]),
    ]);
    let first = converge(&machine, &all).await;
    assert!(first.converged, "{first:?}");
    assert_eq!(machine.units.did(), ["enable nginx.service", "start nginx.service"], "started once, not restarted");
    let before = machine.files.changes();
    let second = converge(&machine, &all).await;
    assert_eq!((second.steps.len(), second.already_right, second.converged), (0, 3, true));
    assert_eq!(machine.files.changes(), before);
}

#[tokio::test]
async fn a_failure_blocks_only_what_depends_on_it() {
    let machine = FakeMachine::new();
    machine.commands.install("bad", |_| Output { status: 3, stdout: b"no such luck\n".to_vec(), ..Output::default() });
    let all = catalog([
        command("bad", "/never"),
        file("/after", "x").after(&["command.bad"]),
        file("/after-that", "x").after(&["file./after"]),
        file("/free", "x"),
    ]);
    let report = converge(&machine, &all).await;
    let Outcome::Failed { error, retry, .. } = outcome(&report, "command.bad") else { panic!("{report:?}") };
    assert_eq!((error.as_str(), *retry), ("`bad` ended with status 3: no such luck", true));
    for blocked in ["file./after", "file./after-that"] {
        assert_eq!(outcome(&report, blocked), &Outcome::Blocked { by: id("command.bad") });
    }
    assert_eq!(outcome(&report, "file./free"), &Outcome::Done);
    assert!(!report.converged);
}

#[tokio::test]
async fn what_is_right_is_not_blocked() {
    let machine = FakeMachine::new();
    machine.files.put("/after", "x");
    let all = catalog([command("missing", "/never"), file("/after", "x").after(&["command.missing"])]);
    let report = converge(&machine, &all).await;
    assert_eq!(outcome(&report, "file./after"), &Outcome::AlreadyRight);
}

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

#[tokio::test]
async fn packages_are_one_transaction_and_the_missing_one_fails_alone() {
    let machine = FakeMachine::new();
    machine.packages.publish("a", "1");
    machine.packages.publish("b", "1");
    let all = catalog([file("/first", "x"), package("a").after(&["file./first"]), package("b"), package("nosuch")]);
    let report = converge(&machine, &all).await;
    assert_eq!(outcome(&report, "package.a"), &Outcome::Done);
    assert_eq!(outcome(&report, "package.b"), &Outcome::Done);
    let Outcome::Failed { error, help: Some(_), retry: false } = outcome(&report, "package.nosuch") else {
        panic!("{report:?}")
    };
    assert_eq!(error, "there is no package nosuch");
    let asked: Vec<usize> = machine.packages.transactions().iter().map(|one| one.install.len()).collect();
    assert_eq!((asked, machine.packages.updates()), (vec![2], 1), "all but the missing one, which is looked for twice");
}

#[tokio::test]
async fn apts_errors_say_what_to_do() {
    let machine = FakeMachine::new();
    machine.packages.publish("a", "1");
    machine.packages.fail(Some(PackageError::DiskFull));
    let report = converge(&machine, &catalog([package("a")])).await;
    let Outcome::Failed { error, help, retry } = outcome(&report, "package.a") else { panic!("{report:?}") };
    assert_eq!((error.as_str(), help.is_some(), *retry), ("the disk is full", true, true));
    machine.packages.fail(None);
    assert!(converge(&machine, &catalog([package("a")])).await.converged);
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_next_run_goes_on() {
    let machine = FakeMachine::new();
    // The ledger must be there before, or the converge itself cannot be remembered.
    converge(&machine, &catalog([])).await;
    machine.files.full(true);
    let engine = engine(&machine);
    let all = shared([file("/x", "x")]);
    let failed = engine.converge(&all, &Options::default()).await;
    // What failed is told even where the ledger cannot be written.
    let report = failed.unwrap();
    let Outcome::Failed { error, help, retry } = outcome(&report, "file./x") else { panic!("{report:?}") };
    assert!(error.starts_with("cannot write /x: ") && help.is_some() && *retry, "{error}");
    machine.files.full(false);
    assert!(converge(&machine, &all).await.converged);
}

#[tokio::test]
async fn what_still_differs_has_failed() {
    let machine = FakeMachine::new();
    machine.commands.install("lies", |_| Output::default());
    let report = converge(&machine, &catalog([command("lies", "/never")])).await;
    let Outcome::Failed { error, .. } = outcome(&report, "command.lies") else { panic!("{report:?}") };
    assert!(error.contains("still differs"), "{error}");
}

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
async fn a_fight_is_slowed_down_and_said() {
    let machine = FakeMachine::new();
    let all = catalog([file("/x", "ours")]);
    converge(&machine, &all).await;
    for _ in 0..5 {
        machine.files.put("/x", "theirs");
        machine.clock.forward(60);
        let report = converge(&machine, &all).await;
        assert_eq!(report.drift, [id("file./x")]);
    }
    machine.files.put("/x", "theirs");
    let report = converge(&machine, &all).await;
    let Outcome::Skipped { why: Skip::Contested { .. } } = outcome(&report, "file./x") else { panic!("{report:?}") };
    assert_eq!(machine.files.text("/x").as_deref(), Some("theirs"));
    machine.clock.forward(700);
    converge(&machine, &all).await;
    assert_eq!(machine.files.text("/x").as_deref(), Some("ours"));
}

#[tokio::test]
async fn a_new_content_is_no_drift() {
    let machine = FakeMachine::new();
    converge(&machine, &catalog([file("/x", "1")])).await;
    let report = converge(&machine, &catalog([file("/x", "2")])).await;
    assert_eq!((report.drift.len(), report.steps.len()), (0, 1));
}

#[tokio::test]
async fn what_follows_a_change_before_it_is_no_drift() {
    let machine = FakeMachine::new();
    let both = |first: &str| catalog([file("/x", first), file("/y", "b").after(&["file./x"])]);
    converge(&machine, &both("1")).await;
    machine.files.put("/y", "else");
    let report = converge(&machine, &both("2")).await;
    assert_eq!((report.drift.len(), report.steps.len()), (0, 2));
    machine.files.put("/y", "else");
    assert_eq!(converge(&machine, &both("2")).await.drift, [id("file./y")]);
    // Both by hand: the one that comes after the other is drift too.
    machine.files.put("/x", "else");
    machine.files.put("/y", "else");
    assert_eq!(converge(&machine, &both("2")).await.drift, [id("file./x"), id("file./y")]);
}

#[tokio::test]
async fn removals_go_first() {
    let machine = FakeMachine::new();
    machine.files.put("/old", "x");
    converge(&machine, &catalog([file("/new", "x"), absent("/old")])).await;
    let changes = machine.files.changes();
    let place = |change: &str| changes.iter().position(|other| other == change);
    assert!(place("remove /old").is_some() && place("remove /old") < place("write /new"), "{changes:?}");
}

#[tokio::test]
async fn the_quick_path_leaves_the_rest_alone() {
    let machine = FakeMachine::new();
    let all = shared([file("/x", "x"), file("/y", "y")]);
    converge(&machine, &all).await;
    machine.files.put("/x", "by hand");
    machine.files.put("/y", "by hand");
    let options = Options { only: Some([id("file./x")].into()), woken_by: "drift".into(), ..Options::default() };
    let report = engine(&machine).converge(&all, &options).await.unwrap();
    assert_eq!((report.drift, report.already_right), (vec![id("file./x")], 0));
    assert_eq!(machine.files.text("/y").as_deref(), Some("by hand"));
    let report = converge(&machine, &all).await;
    assert_eq!(report.drift, [id("file./y")]);
}

#[tokio::test]
async fn a_paused_node_only_tells() {
    let machine = FakeMachine::new();
    let options = Options { paused_until: Some(i64::MAX), ..Options::default() };
    let report = engine(&machine).converge(&shared([file("/x", "x")]), &options).await.unwrap();
    assert_eq!(report.steps[0].outcome, Outcome::Skipped { why: Skip::Paused { until: i64::MAX } });
    assert_eq!(machine.files.text("/x"), None);
}

#[tokio::test]
async fn told_to_stop_it_ends_the_step_under_way_and_begins_no_other() {
    let machine = FakeMachine::new();
    machine.packages.publish("late", "1");
    let options = Options::default();
    let (files, stop) = (Arc::clone(&machine.files), options.stop.clone());
    machine.commands.install("slow", move |_| {
        stop.cancel();
        files.put("/slow", "");
        Output::default()
    });
    let all = shared([
        command("slow", "/slow"),
        file("/after", "x").after(&["command.slow"]),
        package("late").after(&["command.slow"]),
    ]);
    let report = engine(&machine).converge(&all, &options).await.unwrap();
    assert_eq!(outcome(&report, "command.slow"), &Outcome::Done);
    for left in ["file./after", "package.late"] {
        assert!(matches!(outcome(&report, left), Outcome::Skipped { why: Skip::Waits { .. } }), "{report:?}");
    }
    assert!(machine.packages.transactions().is_empty());
    assert!(converge(&machine, &all).await.converged);
}

#[tokio::test]
async fn drafts_and_older_generations_are_refused() {
    let machine = FakeMachine::new();
    let mut all = catalog([]);
    all.generation.counter = 7;
    converge(&machine, &all).await;
    all.generation.counter = 6;
    let engine = engine(&machine);
    let all = Arc::new(all);
    assert!(matches!(engine.converge(&all, &Options::default()).await, Err(ConvergeError::Older { .. })));
    let draft = Arc::new(Catalog { draft: true, ..Catalog::clone(&all) });
    assert!(matches!(engine.converge(&draft, &Options::default()).await, Err(ConvergeError::Draft)));
    assert!(engine.plan(&draft).await.is_ok());
}

#[tokio::test]
async fn a_plan_tells_what_is_new_from_what_the_catalog_and_what_somebody_changed() {
    let machine = FakeMachine::new();
    converge(&machine, &shared([file("/left", "x"), file("/hand", "x"), file("/site", "x")])).await;
    machine.files.put("/hand", "by hand");
    let all = shared([file("/left", "x"), file("/hand", "x"), file("/site", "y"), file("/new", "x")]);
    let rows = engine(&machine).plan(&all).await.unwrap();
    let why: BTreeMap<_, _> = rows.iter().map(|row| (row.resource.name(), row.reason.as_str())).collect();
    let said = [("/hand", "changed on the node"), ("/new", "not done yet"), ("/site", "the catalog changed")];
    assert_eq!(why, said.into());
}

#[tokio::test]
async fn secrets_reach_the_file_and_nothing_else() {
    let machine = FakeMachine::new();
    machine.coordinator.put_secret("password", b"hunter2");
    let Spec::File(spec) = file("/etc/password", "").0.spec else { unreachable!() };
    let secret = FileSpec { content: None, secret: Some("password".into()), ..spec };
    let all = shared([of(Spec::File(secret))]);
    let plan = engine(&machine).plan(&all).await.unwrap();
    let report = converge(&machine, &all).await;
    assert_eq!(machine.files.text("/etc/password").as_deref(), Some("hunter2"));
    machine.coordinator.put_secret("password", b"hunter3");
    let changed = converge(&machine, &all).await;
    assert_eq!(changed.steps[0].detail, ["secret content differs"]);
    let said = format!("{plan:?}{report:?}{changed:?}{}", machine.files.text(LEDGER).unwrap());
    assert!(!said.contains("hunter"), "{said}");
}

proptest! {
    /// Whatever the graph and whatever fails: all end, what is not behind a failure is as written, and once nothing fails
    /// any more one converge more is enough.
    #[test]
    fn any_graph_reaches_its_fixed_point(
        edges in proptest::collection::vec((0usize..10, 0usize..10), 0..25),
        bad in proptest::collection::btree_set(0usize..10, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let machine = FakeMachine::new();
            let fixed = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let mut all = catalog([]);
            let name = |n: usize| if bad.contains(&n) { format!("command.c{n}") } else { format!("file./f{n}") };
            for n in 0..10 {
                let after: Vec<String> =
                    edges.iter().filter(|(from, to)| *from == n && to < from).map(|(_, to)| name(*to)).collect();
                let after: Vec<&str> = after.iter().map(String::as_str).collect();
                let resource = if bad.contains(&n) {
                    let (files, fixed) = (Arc::clone(&machine.files), Arc::clone(&fixed));
                    machine.commands.install(&format!("c{n}"), move |_| {
                        let well = fixed.load(std::sync::atomic::Ordering::SeqCst);
                        if well {
                            files.put(&format!("/c{n}"), "");
                        }
                        Output { status: i32::from(!well), ..Output::default() }
                    });
                    command(&format!("c{n}"), &format!("/c{n}"))
                } else {
                    file(&format!("/f{n}"), "x")
                };
                all.resource.push(resource.after(&after).0);
            }
            let first = converge(&machine, &all).await;
            prop_assert_eq!(first.steps.len(), 10);
            for step in &first.steps {
                match &step.outcome {
                    Outcome::Done => {}
                    Outcome::Failed { .. } => prop_assert_eq!(step.resource.kind(), "command"),
                    Outcome::Blocked { by } => prop_assert_eq!(by.kind(), "command"),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            fixed.store(true, std::sync::atomic::Ordering::SeqCst);
            prop_assert!(converge(&machine, &all).await.converged);
            prop_assert!(converge(&machine, &all).await.steps.is_empty());
            Ok(())
        })?;
    }
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
