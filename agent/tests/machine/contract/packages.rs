//! Packages. The real ones are installed in a container; see `apply.rs` for who starts this there.

use std::sync::Arc;

use muster_agent::{
    adapters::{apt::Apt, commands::SystemCommands, fake::FakePackages, files::RealFiles},
    ports::{PackageError, Packages, Transaction},
};
use muster_plan::kinds::package::transaction::Deed;

/// `name` can be had and is not installed.
async fn keeps(packages: &dyn Packages, name: &str) {
    let known = |all: &muster_agent::ports::Known| all.get(name).filter(|package| !package.version.is_empty()).cloned();
    let missing = |version: Option<&str>, name: &str| Transaction {
        install: [(name.to_owned(), version.map(str::to_owned))].into(),
        ..Transaction::default()
    };
    assert!(known(&packages.installed().await.unwrap()).is_none());
    let error = packages.transact(&missing(None, "muster-no-such-package")).await.unwrap_err();
    assert_eq!(error, PackageError::NotFound { name: "muster-no-such-package".into(), version: None });
    let error = packages.transact(&missing(Some("0.0.0-nosuch"), name)).await.unwrap_err();
    let PackageError::NoSuchVersion { name: named, version, has } = error else { panic!("{error:?}") };
    assert!(named == name && version == "0.0.0-nosuch" && !has.is_empty(), "{has:?}");
    assert!(known(&packages.installed().await.unwrap()).is_none(), "nothing by halves");

    let moves = packages.simulate(&missing(None, name)).await.unwrap();
    assert!(moves.iter().any(|step| step.name == name && step.deed == Deed::Install), "{moves:?}");
    assert!(known(&packages.installed().await.unwrap()).is_none(), "a look does nothing");
    let newest = packages.candidates(&[name.to_owned()].into()).await.unwrap();
    packages.transact(&missing(None, name)).await.unwrap();
    let there = known(&packages.installed().await.unwrap()).expect("installed");
    assert!(there.complete && !there.hold);
    assert_eq!(newest.get(name), Some(&there.version));
    // The same again changes nothing, by its beginning as well.
    let pattern = format!("{}*", &there.version[..2]);
    packages.transact(&missing(Some(&pattern), name)).await.unwrap();
    assert_eq!(known(&packages.installed().await.unwrap()).unwrap().version, there.version);

    packages.transact(&Transaction { hold: vec![name.into()], ..Transaction::default() }).await.unwrap();
    assert!(known(&packages.installed().await.unwrap()).unwrap().hold);
    // What would go is looked at first, and nothing goes that was not said.
    let go = Transaction { remove: vec![name.into()], ..Transaction::default() };
    let moves = packages.simulate(&go).await.unwrap();
    assert!(moves.iter().any(|step| step.name == name && step.deed == Deed::Remove), "{moves:?}");
    packages.transact(&go).await.unwrap_err();
    assert!(known(&packages.installed().await.unwrap()).is_some());
    packages.transact(&Transaction { goes: [name.to_owned()].into(), ..go }).await.unwrap();
    assert!(known(&packages.installed().await.unwrap()).is_none());
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let packages = FakePackages::default();
    packages.publish("runc", "1.1.5");
    keeps(&packages, "runc").await;
}

fn real() -> Apt {
    Apt::new(Arc::new(SystemCommands::new()), Arc::new(RealFiles::new()))
}

#[tokio::test]
#[ignore = "runs inside a node, started by a_nodes_ports_keep_their_contracts"]
async fn inside_a_node_apt_keeps_it() {
    crate::lab::inside();
    keeps(&real(), "runc").await;
    assert!(!std::path::Path::new("/usr/sbin/policy-rc.d").exists(), "services may start again");
}

#[tokio::test]
async fn what_dpkg_knows_of_this_machine_is_read() {
    let packages = real();
    let all = packages.installed().await.unwrap();
    let known = |name: &str| all.get(name).cloned().unwrap_or_default();
    assert!(known("dpkg").complete && known("libc6").version.starts_with('2'), "{:?}", all.get("libc6"));
    assert_eq!(all.get(&format!("dpkg:{}", all.native)), all.get("dpkg"));
    assert!(Arc::ptr_eq(&all, &packages.installed().await.unwrap()), "asked once while nothing changes");
}
