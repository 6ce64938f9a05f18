//! On the real kernel, in folders of its own.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use muster_catalog::{
    Catalog, Resource, Spec,
    kinds::{
        directory::DirectorySpec,
        file::FileSpec,
        service::{Disrupts, OnNotify, ServiceSpec},
    },
};
use muster_ids::{Generation, ResourceId};

use super::watch;
use crate::{Scope, adapters::fake::FakeMachine};

fn catalog(specs: Vec<Spec>) -> Arc<Catalog> {
    let resource = specs.into_iter().map(|spec| Resource { after: vec![], notify: vec![], spec }).collect();
    Arc::new(Catalog {
        cluster: "c".parse().unwrap(),
        environment: "e".parse().unwrap(),
        node: "n".parse().unwrap(),
        generation: Generation::default(),
        draft: false,
        resource,
    })
}

fn file(path: &Path) -> Spec {
    Spec::File(FileSpec {
        path: path.to_str().unwrap().into(),
        content: Some(String::new()),
        content_base64: None,
        source: None,
        template: None,
        secret: None,
        mode: None,
        owner: "root".into(),
        group: "root".into(),
        absent: false,
    })
}

async fn next(changes: &mut (impl Stream<Item = ResourceId> + Unpin)) -> BTreeSet<ResourceId> {
    let first = tokio::time::timeout(Duration::from_secs(1), changes.next()).await.expect("within a second");
    let mut all = BTreeSet::from([first.expect("goes on")]);
    while let Ok(Some(more)) = tokio::time::timeout(Duration::from_millis(10), changes.next()).await {
        all.insert(more);
    }
    all
}

async fn quiet(changes: &mut (impl Stream<Item = ResourceId> + Unpin)) {
    let heard = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

/// Watches take a moment to be made.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn files_tell_of_themselves_and_their_neighbours_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    std::fs::write(&one, "1").unwrap();
    let all = catalog(vec![file(&one), file(&two)]);
    let ctx = FakeMachine::new().context(Scope::of(&all));
    let mut changes = watch(ctx, Arc::clone(&all));
    let id = |path: &Path| ResourceId::new("file", path.to_str().unwrap());
    settled().await;
    // In place, by replacement, by attribute, by removal.
    std::fs::write(&one, "2").unwrap();
    assert_eq!(next(&mut changes).await, [id(&one)].into());
    std::fs::write(folder.path().join("new"), "3").unwrap();
    quiet(&mut changes).await;
    std::fs::rename(folder.path().join("new"), &one).unwrap();
    assert_eq!(next(&mut changes).await, [id(&one)].into());
    std::fs::set_permissions(&one, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(next(&mut changes).await, [id(&one)].into());
    std::fs::remove_file(&one).unwrap();
    assert_eq!(next(&mut changes).await, [id(&one)].into());
    std::fs::write(&two, "x").unwrap();
    assert_eq!(next(&mut changes).await, [id(&two)].into());
}

#[tokio::test]
async fn a_folder_that_comes_and_goes_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/x");
    let all = catalog(vec![file(&path)]);
    let ctx = FakeMachine::new().context(Scope::of(&all));
    let mut changes = watch(ctx, Arc::clone(&all));
    settled().await;
    let wanted: BTreeSet<_> = [all.resource[0].id()].into();
    for _ in 0..2 {
        std::fs::create_dir(folder.path().join("a")).unwrap();
        settled().await;
        std::fs::create_dir(folder.path().join("a/b")).unwrap();
        assert_eq!(next(&mut changes).await, wanted);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(next(&mut changes).await, wanted);
        std::fs::remove_dir_all(folder.path().join("a")).unwrap();
        assert_eq!(next(&mut changes).await, wanted);
        settled().await;
    }
}

#[tokio::test]
async fn a_purged_folder_hears_of_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec::Directory(DirectorySpec {
        path: folder.path().to_str().unwrap().into(),
        mode: "0755".into(),
        owner: "root".into(),
        group: "root".into(),
        purge: true,
        absent: false,
    });
    let all = catalog(vec![spec]);
    let ctx = FakeMachine::new().context(Scope::of(&all));
    let mut changes = watch(ctx, Arc::clone(&all));
    settled().await;
    std::fs::write(folder.path().join("stranger"), "x").unwrap();
    assert_eq!(next(&mut changes).await, [all.resource[0].id()].into());
}

#[tokio::test]
async fn a_unit_stopped_by_hand_is_heard() {
    let machine = FakeMachine::new();
    machine.units.add_running("x.service");
    let service = ServiceSpec {
        name: "x".into(),
        enabled: None,
        running: true,
        on_notify: OnNotify::Restart,
        disrupts: Disrupts::Nothing,
        unmask: false,
    };
    let all = catalog(vec![Spec::Service(service)]);
    let mut changes = watch(machine.context(Scope::of(&all)), Arc::clone(&all));
    settled().await;
    machine.units.stop_by_hand("x.service");
    assert_eq!(next(&mut changes).await, [ResourceId::new("service", "x")].into());
}

#[tokio::test]
async fn a_unit_is_heard_of_whatever_name_it_is_written_by() {
    let machine = FakeMachine::new();
    machine.units.add_running("mariadb.service");
    machine.units.alias("mysql.service", "mariadb.service");
    let service = serde_json::from_value(serde_json::json!({ "name": "mysql" })).unwrap();
    let all = catalog(vec![Spec::Service(service)]);
    let mut changes = watch(machine.context(Scope::of(&all)), Arc::clone(&all));
    settled().await;
    machine.units.stop_by_hand("mariadb.service");
    assert_eq!(next(&mut changes).await, [ResourceId::new("service", "mysql")].into());
}
