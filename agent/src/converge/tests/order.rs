//! What comes before what, what a failure blocks, and that all ends.

use super::*;

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
async fn removals_go_first() {
    let machine = FakeMachine::new();
    machine.files.put("/old", "x");
    converge(&machine, &catalog([file("/new", "x"), absent("/old")])).await;
    let changes = machine.files.changes();
    let place = |change: &str| changes.iter().position(|other| other == change);
    assert!(place("remove /old").is_some() && place("remove /old") < place("write /new"), "{changes:?}");
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
async fn a_secret_that_is_new_with_a_draft_holds_up_no_row_of_it() {
    let machine = FakeMachine::new();
    let Spec::File(key) = file("/srv/key", "").0.spec else { unreachable!() };
    let key = || of(Spec::File(FileSpec { content: None, secret: Some("new".into()), ..key.clone() }));
    let all = catalog([key(), file("/srv/other", "x")]);
    let rows = engine(&machine).plan(&Arc::new(Catalog { draft: true, ..all.clone() })).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.resource.to_string(), row.detail.join("; "))).collect();
    let expected = [("file./srv/key", "secret content"), ("file./srv/other", "1 bytes")];
    assert_eq!(rows, expected.map(|(resource, detail)| (resource.to_owned(), detail.to_owned())));
    // What is no draft has its secrets, or fails.
    let rows = engine(&machine).plan(&Arc::new(all)).await.unwrap();
    assert!(rows[0].detail[0].contains("cannot be looked at"), "{rows:?}");
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
