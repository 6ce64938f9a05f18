//! Mounts through the engine, on a machine in memory.

use std::sync::Arc;

use muster_catalog::{Catalog, Resource, Spec};
use muster_ids::Generation;
use muster_plan::{Outcome, Report};

use super::*;
use crate::{
    Scope,
    adapters::fake::{FakeMachine, NoMember},
    converge::{Engine, Options},
    ledger::LedgerFile,
    ports::{Files, Mounts, User},
};

const OTHERS: &str = "# by hand\nUUID=1 / ext4 defaults 0 1";

fn spec(path: &str, source: &str, options: &[&str]) -> MountSpec {
    MountSpec {
        path: path.into(),
        source: source.into(),
        fstype: if source == "tmpfs" { "tmpfs".into() } else { "auto".into() },
        options: options.iter().map(|&option| option.into()).collect(),
        absent: false,
    }
}

fn machine() -> FakeMachine {
    let machine = FakeMachine::new();
    machine.files.put(fstab::PATH, OTHERS);
    machine.files.set(fstab::PATH, 0o600, 0, 0).unwrap();
    machine
}

async fn converge(machine: &FakeMachine, specs: &[MountSpec]) -> Report {
    let resource = specs.iter().map(|spec| Resource { after: vec![], notify: vec![], spec: Spec::Mount(spec.clone()) });
    let catalog = Catalog {
        cluster: "c".parse().unwrap(),
        environment: "e".parse().unwrap(),
        node: "n-1".parse().unwrap(),
        generation: Generation { epoch: 0, counter: 1 },
        draft: false,
        resource: resource.collect(),
    };
    let files: Arc<dyn Files> = Arc::clone(&machine.files) as _;
    let ledger = LedgerFile::open(files, "/var/lib/muster-agent/ledger.json").unwrap();
    let engine = Engine::new(machine.context(Scope::of(&catalog)), ledger, Arc::new(NoMember));
    engine.converge(&Arc::new(catalog), &Options::default()).await.unwrap()
}

fn text(machine: &FakeMachine) -> String {
    machine.files.text(fstab::PATH).unwrap()
}

fn failure(report: &Report) -> (String, String) {
    match &report.steps[0].outcome {
        Outcome::Failed { error, help, .. } => (error.clone(), help.clone().unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn mounts_of_one_converge_lose_no_line() {
    let machine = machine();
    let all: Vec<_> = (0..20).map(|n| spec(&format!("/srv/{n}"), "tmpfs", &["size=1m"])).collect();
    let report = converge(&machine, &all).await;
    assert!(report.converged, "{report:#?}");
    let text = text(&machine);
    assert!(text.starts_with(&format!("{OTHERS}\n")), "{text}");
    for n in 0..20 {
        assert_eq!(text.matches(&format!("tmpfs /srv/{n} tmpfs size=1m 0 0\n")).count(), 1, "{text}");
    }
    assert_eq!(machine.files.stat(fstab::PATH).unwrap().unwrap().mode, 0o600);
    let again = converge(&machine, &all).await;
    assert_eq!((again.steps.len(), again.already_right), (0, 20));
}

#[tokio::test]
async fn what_cannot_be_mounted_leaves_fstab_as_it_was() {
    let machine = machine();
    machine.mounts.refuse(Some("wrong fs type"));
    let (error, _) = failure(&converge(&machine, &[spec("/srv/m", "tmpfs", &[])]).await);
    assert_eq!(error, "`mount` refuses /srv/m: wrong fs type");
    assert_eq!(text(&machine), OTHERS, "a line that cannot be mounted keeps the node from booting");
    let before = format!("tmpfs /srv/m tmpfs ro 0 2 # mine\n{OTHERS}\n");
    machine.files.put(fstab::PATH, &before);
    failure(&converge(&machine, &[spec("/srv/m", "tmpfs", &[])]).await);
    assert_eq!(text(&machine), before);

    for (source, options, words) in [
        ("/srv/none", &["bind"][..], "the folder /srv/none to bind is not there"),
        ("/dev/none", &[], "there is no /dev/none on this node"),
        ("UUID=1", &[], "there is no UUID=1 on this node"),
    ] {
        let (error, help) = failure(&converge(&machine, &[spec("/srv/m", source, options)]).await);
        assert_eq!(error, words);
        assert!(!help.is_empty());
    }
    machine.mounts.refuse(None);
    machine.files.put("/srv/file", "x");
    let (error, help) = failure(&converge(&machine, &[spec("/srv/file", "tmpfs", &[])]).await);
    assert_eq!(error, "/srv/file is a file, and what is mounted needs a folder");
    assert!(help.contains("[[file]]"), "{help}");
    machine.mounts.link("/var/run", "/run");
    let (error, _) = failure(&converge(&machine, &[spec("/var/run", "tmpfs", &[])]).await);
    assert_eq!(error, "/var/run is /run, which the node lives in");
    assert_eq!(text(&machine), before);
    assert_eq!(machine.mounts.did(), [] as [&str; 0]);
}

#[tokio::test]
async fn what_is_in_use_is_named_and_keeps_its_line() {
    let machine = machine();
    let there = spec("/srv/m", "tmpfs", &[]);
    assert!(converge(&machine, std::slice::from_ref(&there)).await.converged);
    let lines = text(&machine);
    let user = User::Process { pid: 7, name: "postgres".into(), how: "/srv/m/data is open".into() };
    machine.mounts.use_by("/srv/m", vec![user]);
    let gone = MountSpec { absent: true, ..there };
    let (error, help) = failure(&converge(&machine, std::slice::from_ref(&gone)).await);
    assert_eq!(error, "/srv/m is in use by postgres (pid 7: /srv/m/data is open)");
    assert!(help.contains("nothing was unmounted"), "{help}");
    assert_eq!((text(&machine), machine.coordinator.taken().len()), (lines, 1), "it took a turn");
    machine.mounts.use_by("/srv/m", vec![]);
    assert!(converge(&machine, std::slice::from_ref(&gone)).await.converged);
    assert_eq!(text(&machine), format!("{OTHERS}\n"));
    assert_eq!(converge(&machine, &[gone]).await.already_right, 1);
}

/// From nothing to tmpfs, to a bind mount, and to nothing, each cut off at every point.
#[tokio::test]
async fn a_kill_at_any_point_is_mended_by_the_next_converge() {
    let tmpfs = spec("/srv/m", "tmpfs", &["size=1m"]);
    let bind = spec("/srv/m", "/srv/a", &["bind"]);
    let gone = MountSpec { absent: true, ..bind.clone() };
    let steps = [(None, &tmpfs), (Some(&tmpfs), &bind), (Some(&bind), &gone)];
    let mut killed = 0;
    for (before, after) in steps {
        for point in 0..6 {
            let machine = machine();
            machine.mounts.folder("/srv/a");
            if let Some(before) = before {
                assert!(converge(&machine, std::slice::from_ref(before)).await.converged);
            }
            machine.mounts.die_at(Some(point));
            let dying = (machine.clone(), after.clone());
            let ended = tokio::spawn(async move { converge(&dying.0, &[dying.1]).await }).await;
            killed += u32::from(ended.is_err());
            machine.mounts.die_at(None);
            let report = converge(&machine, std::slice::from_ref(after)).await;
            assert!(report.converged, "{point}: {report:#?}");
            assert_eq!(converge(&machine, std::slice::from_ref(after)).await.already_right, 1);
            let mounted = machine.mounts.table().unwrap().at("/srv/m").len();
            let line = fstab::entries(text(&machine).as_bytes()).len() - 1;
            assert_eq!((mounted, line), if after.absent { (0, 0) } else { (1, 1) });
            assert!(text(&machine).starts_with(&format!("{OTHERS}\n")) || line == 0);
        }
    }
    assert!(killed >= 8, "{killed}");
}
