//! The engine's packages over a machine in memory.

use std::sync::Arc;

use muster_catalog::{
    Catalog, Resource, Spec,
    kinds::{
        package::PackageSpec,
        service::{Disrupts, OnNotify, ServiceSpec},
    },
};
use muster_plan::{Certainty, Outcome, Report, Row, row::Action};

use crate::{
    Scope,
    adapters::fake::{FakeMachine, NoMember},
    converge::{Engine, Options},
    ledger::LedgerFile,
    ports::Units,
};

fn package(name: &str) -> PackageSpec {
    PackageSpec { name: name.into(), version: None, hold: None, absent: false }
}

fn at(name: &str, version: &str) -> PackageSpec {
    PackageSpec { version: Some(version.into()), ..package(name) }
}

fn absent(name: &str) -> PackageSpec {
    PackageSpec { absent: true, ..package(name) }
}

fn catalog(packages: &[PackageSpec]) -> Catalog {
    let resource =
        |spec: &PackageSpec| Resource { after: Vec::new(), notify: Vec::new(), spec: Spec::Package(spec.clone()) };
    Catalog {
        cluster: "c".parse().unwrap(),
        environment: "e".parse().unwrap(),
        node: "n-1".parse().unwrap(),
        generation: Default::default(),
        draft: false,
        resource: packages.iter().map(resource).collect(),
    }
}

fn with_service(mut catalog: Catalog, name: &str, disrupts: Disrupts, after: &[&str]) -> Catalog {
    let spec = ServiceSpec {
        name: name.into(),
        enabled: None,
        running: true,
        on_notify: OnNotify::Restart,
        disrupts,
        unmask: false,
    };
    let after = after.iter().map(|id| id.parse().unwrap()).collect();
    catalog.resource.push(Resource { after, notify: Vec::new(), spec: Spec::Service(spec) });
    catalog
}

fn engine(machine: &FakeMachine) -> Engine {
    let ledger = LedgerFile::open(Arc::clone(&machine.files) as _, "/l.json").unwrap();
    Engine::new(machine.context(Scope::of(&catalog(&[]))), ledger, Arc::new(NoMember))
}

async fn converge(machine: &FakeMachine, catalog: &Catalog) -> Report {
    engine(machine).converge(&Arc::new(catalog.clone()), &Options::default()).await.unwrap()
}

async fn plan(machine: &FakeMachine, catalog: &Catalog) -> Vec<Row> {
    engine(machine).plan(&Arc::new(catalog.clone())).await.unwrap()
}

fn failed(report: &Report, name: &str) -> String {
    let step = report.steps.iter().find(|step| step.resource.name() == name);
    let Some(Outcome::Failed { error, help, .. }) = step.map(|step| &step.outcome) else {
        panic!("{name}: {report:#?}")
    };
    assert!(help.is_some(), "{error}");
    error.clone()
}

fn done(report: &Report, name: &str) -> Vec<String> {
    let step = report.steps.iter().find(|step| step.resource.name() == name && step.outcome == Outcome::Done);
    step.unwrap_or_else(|| panic!("{name}: {report:#?}")).detail.clone()
}

#[tokio::test]
async fn packages_that_exclude_each_other_are_an_error_that_names_both() {
    let machine = FakeMachine::new();
    for name in ["chrony", "timesyncd", "tree"] {
        machine.packages.publish(name, "1");
    }
    machine.packages.conflict("chrony", "timesyncd");
    let both = catalog(&[package("chrony"), package("timesyncd"), package("tree")]);
    // Neither is there; then one is.
    let report = converge(&machine, &both).await;
    for name in ["chrony", "timesyncd"] {
        assert_eq!(
            failed(&report, name),
            "chrony and timesyncd cannot be had as written: chrony : Conflicts: timesyncd"
        );
        assert_eq!(machine.packages.version(name), None);
    }
    done(&report, "tree");

    machine.packages.put("timesyncd", "1", false);
    for _ in 0..2 {
        let report = converge(&machine, &both).await;
        let error = failed(&report, "chrony");
        assert_eq!(error, "installing chrony would also remove timesyncd, which the site asks for");
        assert_eq!(machine.packages.version("timesyncd").as_deref(), Some("1"));
    }
    let rows = plan(&machine, &both).await;
    assert!(rows[0].detail.iter().any(|line| line.contains("would also remove timesyncd")), "{rows:?}");

    let swap = catalog(&[package("chrony"), absent("timesyncd")]);
    assert!(converge(&machine, &swap).await.converged);
    assert_eq!(machine.packages.version("timesyncd"), None);
    assert!(converge(&machine, &swap).await.steps.is_empty());
}

#[tokio::test]
async fn a_removal_takes_nothing_along_that_is_not_written() {
    let machine = FakeMachine::new();
    machine.packages.put("lib", "1", false);
    machine.packages.put("app", "1", false);
    machine.packages.depends("app", "lib");
    let report = converge(&machine, &catalog(&[absent("lib")])).await;
    assert_eq!(failed(&report, "lib"), "removing lib would also remove app, which is not written absent");
    assert!(machine.packages.transactions().is_empty());
    let rows = plan(&machine, &catalog(&[absent("lib")])).await;
    assert!(rows[0].action == Action::Remove && rows[0].detail[0].contains("would also remove app"), "{rows:?}");
    let report = converge(&machine, &catalog(&[absent("lib"), absent("app")])).await;
    assert!(report.converged && machine.packages.version("app").is_none(), "{report:#?}");
}

#[tokio::test]
async fn what_comes_along_is_planned_and_reported() {
    let machine = FakeMachine::new();
    machine.packages.publish("app", "1");
    machine.packages.publish("lib", "2");
    machine.packages.depends("app", "lib");
    let all = catalog(&[package("app")]);
    let rows = plan(&machine, &all).await;
    assert_eq!(rows[0].detail, ["newest version", "+ lib 2 (comes with app)"]);
    assert_eq!(done(&converge(&machine, &all).await, "app"), rows[0].detail);
}

#[tokio::test]
async fn a_held_package_that_is_not_written_is_not_changed() {
    let machine = FakeMachine::new();
    machine.packages.publish("app", "1");
    machine.packages.publish("lib", "1");
    machine.packages.publish("lib", "2");
    machine.packages.put("lib", "1", true);
    // The version that is written changes, and its hold stays.
    let report = converge(&machine, &catalog(&[at("lib", "2")])).await;
    assert_eq!(done(&report, "lib"), ["version 1 → 2"]);
    assert!(machine.packages.held("lib"));
    assert!(converge(&machine, &catalog(&[at("lib", "2")])).await.steps.is_empty());
}

#[tokio::test]
async fn what_failed_is_told_of_that_package_alone_and_can_be_mended() {
    let machine = FakeMachine::new();
    for (name, version) in [("bad", "1"), ("good", "1")] {
        machine.packages.publish(name, version);
    }
    machine.packages.fails_to_configure("bad", "1");
    let report = converge(&machine, &catalog(&[package("bad"), package("good")])).await;
    assert_eq!(failed(&report, "bad"), "bad: its script fails");
    done(&report, "good");
    assert_eq!(machine.packages.transactions().len(), 1, "nothing is done twice for it");
    machine.packages.publish("bad", "2");
    assert!(converge(&machine, &catalog(&[at("bad", "2")])).await.converged);
    machine.packages.fails_to_configure("bad", "1");
    converge(&machine, &catalog(&[at("bad", "1")])).await;
    assert!(converge(&machine, &catalog(&[absent("bad")])).await.converged);
    assert_eq!(machine.packages.version("bad"), None);
}

#[tokio::test]
async fn a_version_that_is_not_there_is_told_with_those_that_are() {
    let machine = FakeMachine::new();
    machine.packages.publish("ep", "1:2.0-1");
    let report = converge(&machine, &catalog(&[at("ep", "2.0-*")])).await;
    assert_eq!(failed(&report, "ep"), "there is no package ep of version 2.0-*: there are 1:2.0-1");
    assert!(converge(&machine, &catalog(&[at("ep", "1:2.0-*")])).await.converged);
}

#[tokio::test]
async fn the_newest_is_followed_and_indexes_are_read_once_a_day() {
    let machine = FakeMachine::new();
    machine.packages.publish("tree", "1");
    let all = catalog(&[at("tree", "latest")]);
    assert!(converge(&machine, &all).await.converged);
    assert_eq!(machine.packages.updates(), 1);
    machine.packages.publish("tree", "2");
    assert_eq!(plan(&machine, &all).await[0].reason, "a newer version is there");
    let report = converge(&machine, &all).await;
    assert_eq!((done(&report, "tree"), report.drift), (vec!["version 1 → 2".to_owned()], vec![]));
    assert!(converge(&machine, &all).await.steps.is_empty());
    assert_eq!(machine.packages.updates(), 1, "they are new enough");
    machine.clock.forward(25 * 3600);
    assert!(converge(&machine, &all).await.steps.is_empty());
    assert_eq!(machine.packages.updates(), 2);
}

/// A machine whose `svc.service` runs as before its package's upgrade, until it is started anew.
fn outdated(machine: &FakeMachine) {
    machine.units.add_running("svc.service");
    let units = Arc::clone(&machine.units);
    machine.packages.owes("svc.service", "svc", move || units.did().contains(&"restart svc.service".to_owned()));
}

#[tokio::test]
async fn an_owed_restart_is_made_in_its_turn_and_is_no_drift() {
    let machine = FakeMachine::new();
    machine.packages.publish("svc", "1");
    let all = with_service(catalog(&[package("svc")]), "svc", Disrupts::Service, &["package.svc"]);
    machine.units.add_running("svc.service");
    converge(&machine, &all).await;
    // An upgrade, and the agent was killed before the restart.
    outdated(&machine);
    let rows = plan(&machine, &all).await;
    assert!(rows[0].detail[0].starts_with("restart") && rows[0].disrupts == Disrupts::Service, "{rows:?}");
    let report = converge(&machine, &all).await;
    assert_eq!(done(&report, "svc"), ["restart (runs as before the upgrade of svc)"]);
    assert_eq!((machine.coordinator.taken().len(), report.drift), (1, vec![]));
    assert!(converge(&machine, &all).await.steps.is_empty());
}

#[tokio::test]
async fn a_service_that_was_right_before_the_upgrade_is_started_anew_at_the_end() {
    let machine = FakeMachine::new();
    machine.packages.publish("svc", "1");
    let all = with_service(catalog(&[package("svc")]), "svc", Disrupts::Nothing, &[]);
    machine.units.add_running("svc.service");
    let (units, packages) = (Arc::clone(&machine.units), Arc::clone(&machine.packages));
    machine.packages.on_install(move |_| {
        let units = Arc::clone(&units);
        packages.owes("svc.service", "svc", move || units.did().contains(&"restart svc.service".to_owned()));
    });
    let report = converge(&machine, &all).await;
    let service = report.steps.iter().find(|step| step.resource.kind() == "service").unwrap();
    assert_eq!(service.detail, ["restart (runs as before the upgrade of svc)"]);
    assert_eq!((report.already_right, report.converged), (0, true), "{report:#?}");
}

#[tokio::test]
async fn a_unit_that_no_resource_names_is_started_anew_and_said() {
    let machine = FakeMachine::new();
    machine.packages.publish("svc", "1");
    outdated(&machine);
    let report = converge(&machine, &catalog(&[package("svc")])).await;
    assert_eq!(report.steps[0].notes, ["restarted svc.service, which ran as before the upgrade"]);
    assert_eq!(machine.units.did(), ["restart svc.service"]);
    assert!(machine.units.state("svc.service").await.unwrap().active == "active");
}

#[tokio::test]
async fn a_plan_says_which_services_an_upgrade_may_restart() {
    let machine = FakeMachine::new();
    machine.packages.publish("svc", "2");
    machine.packages.put("svc", "1", false);
    machine.packages.brings_unit("svc", "svc.service");
    machine.packages.brings_unit("svc", "helper.service");
    machine.units.add_running("svc.service");
    machine.units.add_running("helper.service");
    let all = with_service(catalog(&[at("svc", "2")]), "svc", Disrupts::Node, &["package.svc"]);
    let rows = plan(&machine, &all).await;
    assert!(rows[0].detail[1].starts_with("helper.service is restarted"), "{rows:?}");
    let after = Certainty::KnownAfter("package.svc".parse().unwrap());
    assert_eq!((&rows[1].certainty, rows[1].disrupts), (&after, Disrupts::Node), "{rows:?}");
}

#[tokio::test]
async fn what_takes_the_place_of_another_goes_in_with_it_and_takes_nothing_along() {
    let machine = FakeMachine::new();
    machine.packages.publish("postfix", "1");
    machine.packages.put("exim", "1", false);
    machine.packages.put("mail", "1", false);
    machine.packages.depends("mail", "exim|postfix");
    machine.packages.conflict("exim", "postfix");
    let swap = catalog(&[absent("exim"), package("postfix")]);
    let report = converge(&machine, &swap).await;
    assert!(report.converged, "{report:#?}");
    assert_eq!(machine.packages.transactions().len(), 1, "one without a moment between");
    assert_eq!((machine.packages.version("exim"), machine.packages.version("mail")), (None, Some("1".into())));
    // With nothing in its place it is refused.
    let error = failed(&converge(&machine, &catalog(&[absent("postfix"), package("mail")])).await, "postfix");
    assert_eq!(error, "removing postfix would also remove mail, which the site asks for");
    // An addition that waits for the removal comes after it.
    machine.packages.put("other", "1", false);
    machine.packages.publish("late", "1");
    let mut chain = catalog(&[absent("other"), package("late")]);
    chain.resource[1].after = vec!["package.other".parse().unwrap()];
    assert!(converge(&machine, &chain).await.converged);
    assert_eq!(machine.packages.transactions().len(), 3);
}
