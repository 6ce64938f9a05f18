//! Packages. The real ones are installed in a container; see `apply.rs` for who starts this there.

use std::sync::Arc;

use muster_agent::{
    adapters::{apt::Apt, commands::SystemCommands, fake::FakePackages, files::RealFiles},
    ports::{PackageError, Packages, Transaction},
};

/// `name` can be had and is not installed.
async fn keeps(packages: &dyn Packages, name: &str) {
    let known = |all: &std::collections::BTreeMap<String, muster_agent::ports::Installed>| {
        all.get(name).filter(|package| !package.version.is_empty()).cloned()
    };
    let missing = |version: Option<&str>, name: &str| Transaction {
        install: [(name.to_owned(), version.map(str::to_owned))].into(),
        ..Transaction::default()
    };
    assert!(known(&packages.installed().await.unwrap()).is_none());
    let error = packages.transact(&missing(None, "muster-no-such-package")).await.unwrap_err();
    assert_eq!(error, PackageError::NotFound { name: "muster-no-such-package".into(), version: None });
    let error = packages.transact(&missing(Some("0.0.0-nosuch"), name)).await.unwrap_err();
    assert_eq!(error, PackageError::NotFound { name: name.into(), version: Some("0.0.0-nosuch".into()) });
    assert!(known(&packages.installed().await.unwrap()).is_none(), "nothing by halves");

    packages.transact(&missing(None, name)).await.unwrap();
    let there = known(&packages.installed().await.unwrap()).expect("installed");
    assert!(there.complete && !there.hold);
    // The same again changes nothing, by its beginning as well.
    let pattern = format!("{}*", &there.version[..2]);
    packages.transact(&missing(Some(&pattern), name)).await.unwrap();
    assert_eq!(known(&packages.installed().await.unwrap()).unwrap().version, there.version);

    packages.transact(&Transaction { hold: vec![name.into()], ..Transaction::default() }).await.unwrap();
    assert!(known(&packages.installed().await.unwrap()).unwrap().hold);
    let go = Transaction { unhold: vec![name.into()], remove: vec![name.into()], ..Transaction::default() };
    packages.transact(&go).await.unwrap();
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
    assert!(all["dpkg"].complete && all["libc6"].version.starts_with('2'), "{:?}", all.get("libc6"));
    assert!(Arc::ptr_eq(&all, &packages.installed().await.unwrap()), "asked once while nothing changes");
}
