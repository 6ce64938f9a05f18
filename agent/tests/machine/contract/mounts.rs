//! Mounts.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use muster_agent::{
    adapters::{
        commands::SystemCommands,
        fake::{FakeMachine, FakeMounts},
        mounts::RealMounts,
    },
    drift,
    ports::{Found, MountError, Mounts, NewMount, User},
};
use muster_catalog::{Catalog, Resource, Spec, kinds::mount::MountSpec};

fn tmpfs(path: &str) -> NewMount<'_> {
    NewMount { source: "tmpfs", path, fstype: "tmpfs", options: "size=1m,nosuid" }
}

/// In an empty folder with the folders `m`, `b` and `m-link`, a link to `m`.
async fn keeps(mounts: &dyn Mounts, folder: &str) {
    let at = |name: &str| format!("{folder}/{name}");
    let (m, b) = (at("m"), at("b"));
    assert_eq!(mounts.resolve(&at("m-link/none/x")).unwrap(), at("m/none/x"));
    assert!(mounts.table().unwrap().at(&m).is_empty());
    mounts.mount(&tmpfs(&m)).await.unwrap();
    let table = mounts.table().unwrap();
    let [mount] = table.at(&m)[..] else { panic!("{table:?}") };
    assert_eq!((mount.fstype.as_str(), mount.source.as_str(), mount.root.as_str()), ("tmpfs", "tmpfs", "/"));
    assert!(mount.options.contains_key("nosuid") && mount.options.contains_key("relatime"), "{mount:?}");
    assert_eq!(mount.superblock["size"].as_deref(), Some("1024k"));
    assert_eq!(mounts.resolve(&at("m-link")).unwrap(), m);

    // All flags are told, and what differs of the file system.
    mounts.remount(&m, "ro,suid,dev,noexec,diratime,noatime,size=2m").await.unwrap();
    let table = mounts.table().unwrap();
    let mount = table.at(&m)[0];
    let has = |flag: &str| mount.options.contains_key(flag);
    assert!(has("ro") && has("noexec") && has("noatime") && !has("nosuid") && !has("relatime"), "{mount:?}");
    assert_eq!(mount.superblock["size"].as_deref(), Some("2048k"));
    mounts.remount(&m, "rw,suid,dev,exec,diratime,relatime").await.unwrap();

    // A folder at a second place: the same file system, with flags of its own.
    assert_eq!(mounts.find(&m).await.unwrap(), Found::Folder { path: m.clone() });
    assert_eq!(mounts.find("tmpfs").await.unwrap(), Found::Word);
    assert_eq!(mounts.find("files:/data").await.unwrap(), Found::Word);
    assert_eq!(mounts.find(&at("none")).await.unwrap(), Found::Missing);
    assert_eq!(mounts.find("UUID=00000000-0000-0000-0000-00000000dead").await.unwrap(), Found::Missing);
    mounts.mount(&NewMount { source: &m, path: &b, fstype: "none", options: "bind" }).await.unwrap();
    mounts.remount(&b, "bind,ro,suid,dev,exec,diratime,relatime").await.unwrap();
    let table = mounts.table().unwrap();
    let (one, two) = (table.at(&m)[0], table.at(&b)[0]);
    assert_eq!((&one.device, &one.root), (&two.device, &two.root));
    assert!(two.options.contains_key("ro") && one.options.contains_key("rw") && one.superblock.contains_key("rw"));
    mounts.propagate(&b, "private").await.unwrap();
    assert!(!mounts.table().unwrap().at(&b)[0].shared);
    mounts.propagate(&b, "shared").await.unwrap();
    assert!(mounts.table().unwrap().at(&b)[0].shared);

    // What holds a mount is named, and nothing goes by force.
    mounts.unmount(&b, false).await.unwrap();
    mounts.mount(&tmpfs(&b)).await.unwrap();
    mounts.mount(&tmpfs(&b)).await.unwrap();
    assert_eq!(mounts.table().unwrap().at(&b).len(), 2);
    mounts.unmount(&b, false).await.unwrap();
    mounts.unmount(&b, false).await.unwrap();
    assert!(mounts.table().unwrap().at(&b).is_empty());
    assert!(matches!(mounts.unmount(&b, false).await, Err(MountError::Refused { .. })));
    let said = mounts.mount(&NewMount { source: "/dev/none", path: &b, fstype: "ext4", options: "rw" }).await;
    assert!(matches!(said, Err(MountError::Refused { .. })), "{said:?}");
}

fn real() -> RealMounts {
    RealMounts::new(Arc::new(SystemCommands::new()))
}

async fn tells_of_users(mounts: &dyn Mounts, path: &str, inside: &str, user: &str) {
    assert!(matches!(mounts.unmount(path, false).await, Err(MountError::Busy { .. })));
    let users = mounts.users(path);
    assert!(users.contains(&User::Mount(inside.to_owned())), "{users:?}");
    let process = |held: &User| matches!(held, User::Process { name, .. } if name == user);
    assert!(users.iter().any(process), "{users:?}");
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let mounts = FakeMounts::default();
    mounts.link("/srv/contract/m-link", "/srv/contract/m");
    mounts.folder("/srv/contract/m");
    keeps(&mounts, "/srv/contract").await;
    mounts.mount(&tmpfs("/srv/contract/m/in")).await.unwrap();
    mounts.use_by(
        "/srv/contract/m",
        vec![User::Process { pid: 7, name: "sleep".into(), how: "its working folder".into() }],
    );
    tells_of_users(&mounts, "/srv/contract/m", "/srv/contract/m/in", "sleep").await;
}

#[tokio::test]
#[ignore = "runs inside a node, started by a_nodes_ports_keep_their_contracts"]
async fn inside_a_node_the_kernel_keeps_it() {
    crate::lab::inside();
    let folder = "/srv/contract";
    for name in ["m", "b"] {
        std::fs::create_dir_all(format!("{folder}/{name}")).unwrap();
    }
    std::os::unix::fs::symlink("m", format!("{folder}/m-link")).unwrap();
    keeps(&real(), folder).await;
    let (m, inside) = (format!("{folder}/m"), format!("{folder}/m/in"));
    std::fs::create_dir(&inside).unwrap();
    real().mount(&tmpfs(&inside)).await.unwrap();
    let mut sleep = std::process::Command::new("sleep").arg("600").current_dir(&m).spawn().unwrap();
    tells_of_users(&real(), &m, &inside, "sleep").await;
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    real().unmount(&m, true).await.unwrap();
    assert!(real().table().unwrap().at(&m).is_empty());
}

#[tokio::test]
#[ignore = "runs inside a node, started by a_nodes_ports_keep_their_contracts"]
async fn inside_a_node_a_remount_is_heard() {
    crate::lab::inside();
    let path = "/srv/heard";
    std::fs::create_dir_all(path).unwrap();
    real().mount(&tmpfs(path)).await.unwrap();
    let spec =
        MountSpec { path: path.into(), source: "tmpfs".into(), fstype: "tmpfs".into(), options: vec![], absent: false };
    let all = Arc::new(Catalog {
        cluster: "c".parse().unwrap(),
        environment: "e".parse().unwrap(),
        node: "n-1".parse().unwrap(),
        generation: Default::default(),
        draft: false,
        resource: vec![Resource { after: vec![], notify: vec![], spec: Spec::Mount(spec) }],
    });
    let mut changes = drift::watch(FakeMachine::new().node("n-1"), Arc::clone(&all));
    for options in ["ro,suid,dev,exec,relatime", "rw,suid,dev,exec,relatime,size=2m"] {
        let heard = async {
            // Watches take a moment to be made, so it is done until it is heard.
            loop {
                real().remount(path, options).await.unwrap();
                if let Ok(Some(id)) = tokio::time::timeout(Duration::from_millis(500), changes.next()).await {
                    return id;
                }
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(30), heard).await.expect("heard of it");
        assert_eq!(heard, all.resource[0].id());
    }
    real().unmount(path, false).await.unwrap();
}
