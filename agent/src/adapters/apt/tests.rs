//! What apt says, understood; what a transaction is made of; and what a killed run leaves.

use super::*;
use crate::adapters::fake::{FakeCommands, FakeFiles};

#[tokio::test]
async fn a_policy_that_a_killed_agent_left_goes_when_nobody_needs_it() {
    let files = Arc::new(FakeFiles::default());
    let apt = Apt::new(Arc::new(FakeCommands::default()), Arc::clone(&files) as _);
    let lock = tempfile::NamedTempFile::new().unwrap();
    let stays = async |text: &str| {
        files.put(POLICY, text);
        apt.sweep(lock.path()).await;
        files.text(POLICY).is_some()
    };
    drop(Quiet::begin(&*files, &["x".to_owned()].into()));
    assert!(files.text(POLICY).is_none());
    let quiet = Quiet::begin(&*files, &["x".to_owned()].into()).unwrap();
    let ours = files.text(POLICY).unwrap();
    std::mem::forget(quiet);
    assert!(!stays(&ours).await);
    assert!(
        !stays("#!/bin/sh\n# Written by muster while it installs packages.\nexit 101\n").await,
        "of an earlier version"
    );
    assert!(stays("#!/bin/sh\nexit 101\n").await, "somebody else's");
    let transaction = apt.one_at_a_time.try_lock().unwrap();
    assert!(stays(&ours).await);
    drop(transaction);
    assert!(!stays(&ours).await);
}

#[test]
fn a_lock_that_cannot_be_asked_for_counts_as_held() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    assert!(!is_held(&lock), "no dpkg was here yet");
    std::fs::write(&lock, "").unwrap();
    assert!(!is_held(&lock));
    assert!(is_held(&lock.join("below-a-file")));
}

/// A node with a dpkg that knows `til` (held) and an apt that does nothing but say what it was asked.
fn node() -> (Arc<FakeFiles>, Arc<FakeCommands>, Apt) {
    let (files, commands) = (Arc::new(FakeFiles::default()), Arc::new(FakeCommands::default()));
    files.put(STATUS, "1");
    let dpkg = "install\tinstalled\tdpkg\tamd64\t1\ninstall\tinstalled\ttil\tamd64\t2\n";
    commands.install("dpkg-query", move |_| Output { stdout: dpkg.into(), ..Output::default() });
    commands.install("apt-get", |_| Output::default());
    commands.install("dpkg", |_| Output::default());
    let apt = Apt::new(Arc::clone(&commands) as _, Arc::clone(&files) as _);
    (files, commands, apt)
}

#[tokio::test]
async fn a_hold_that_a_killed_run_took_away_is_set_again() {
    let (files, commands, apt) = node();
    files.put("/var/lib/muster-agent/holds", "til\nnever-came\n");
    apt.sweep(&std::env::temp_dir().join("muster-no-such-lock")).await;
    assert!(files.text("/var/lib/muster-agent/holds").is_none());
    assert_eq!(commands.ran().last().unwrap(), &["dpkg", "--set-selections"]);
}

#[tokio::test]
async fn what_may_not_go_does_not_go_though_apt_finds_another_way_since() {
    let (_, commands, apt) = node();
    let mut transaction =
        Transaction { install: [("til".to_owned(), Some("3".to_owned()))].into(), ..Transaction::default() };
    let asked = || commands.ran().into_iter().rev().find(|argv| argv[0] == "apt-get").unwrap();
    apt.transact(&transaction).await.unwrap();
    assert!(asked().contains(&"--no-remove".to_owned()) && asked().contains(&"til=3".to_owned()), "{:?}", asked());
    transaction.goes.insert("old".to_owned());
    apt.transact(&transaction).await.unwrap();
    assert!(!asked().contains(&"--no-remove".to_owned()), "{:?}", asked());
}

#[tokio::test]
async fn a_look_goes_without_a_cache_that_it_cannot_renew() {
    let (_, commands, apt) = node();
    let looks = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&looks);
    commands.install("apt-get", move |run| {
        asked.lock().unwrap().push((run.read_only, run.scratch));
        let without = run.argv.contains(&"Dir::Cache::pkgcache=".to_owned());
        let stderr =
            "E: Could not create temporary file for /var/cache/apt/pkgcache.bin - mkstemp (13: Permission denied)";
        if without {
            Output { stdout: "Inst til [2] (3 x [all])\n".into(), ..Output::default() }
        } else {
            Output { status: 100, stderr: stderr.into(), ..Output::default() }
        }
    });
    let transaction = Transaction { install: [("til".to_owned(), None)].into(), ..Transaction::default() };
    assert_eq!(apt.simulate(&transaction).await.unwrap().len(), 1);
    assert_eq!(*looks.lock().unwrap(), [(true, true), (true, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_waited_for() {
    let (_, commands, apt) = node();
    let tries = Arc::new(Mutex::new(0));
    let count = Arc::clone(&tries);
    commands.install("dpkg", move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let stderr = "dpkg: error: dpkg frontend lock was locked by another process with pid 7\n";
        if *count < 3 { Output { status: 2, stderr: stderr.into(), ..Output::default() } } else { Output::default() }
    });
    let hold = Transaction { hold: vec!["til".into()], ..Transaction::default() };
    apt.transact(&hold).await.unwrap();
    assert_eq!(*tries.lock().unwrap(), 3);
}

#[tokio::test]
async fn the_newest_version_is_asked_for_once_while_nothing_changes() {
    let (files, commands, apt) = node();
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    commands.install("apt-cache", move |_| {
        *count.lock().unwrap() += 1;
        let text = "til:\n  Installed: 2\n  Candidate: 3\n  Version table:\n     3 500\nvirt:\n  Candidate: (none)\n";
        Output { stdout: text.into(), ..Output::default() }
    });
    let names = ["til:amd64".to_owned(), "virt".to_owned()].into();
    for _ in 0..2 {
        let newest = apt.candidates(&names).await.unwrap();
        assert_eq!(*newest, [("til:amd64".to_owned(), "3".to_owned())].into());
    }
    assert_eq!(*asked.lock().unwrap(), 1);
    for (path, text) in [
        ("/var/lib/apt/lists/h_dists_s_InRelease", "new"),
        ("/var/lib/apt/lists/h_dists_s_InRelease", "old"),
        ("/etc/apt/preferences.d/x", "Package: til"),
        (STATUS, "2"),
    ] {
        let before = *asked.lock().unwrap();
        files.put(path, text);
        apt.candidates(&names).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), before + 1, "{path}");
    }
}
