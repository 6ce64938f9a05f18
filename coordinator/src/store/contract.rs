//! The contract suite: every backend passes the same tests.

use std::sync::Arc;

use muster_ids::{Digest, EnvName};

use super::{Memory, Sqlite, Store, StoreError, Version};

fn environment(name: &str) -> EnvName {
    name.parse().expect("a name")
}

fn on_each(test: impl Fn(Arc<dyn Store>)) {
    test(Arc::new(Memory::default()));
    let folder = tempfile::tempdir().expect("a folder");
    test(Arc::new(Sqlite::open(&folder.path().join("state.db")).expect("a store")));
}

#[test]
fn the_first_write_expects_nothing() {
    on_each(|store| {
        let local = environment("local");
        assert!(store.root(&local).unwrap().is_none());
        let first = store.put_root(&local, "{}", None).unwrap();
        assert!(matches!(store.put_root(&local, "{\"a\":1}", None), Err(StoreError::Conflict)));
        assert_eq!(store.root(&local).unwrap(), Some(("{}".to_owned(), first)));
    });
}

#[test]
fn a_root_changes_only_from_the_version_that_was_read() {
    on_each(|store| {
        let local = environment("local");
        let first = store.put_root(&local, "1", None).unwrap();
        let second = store.put_root(&local, "2", Some(&first)).unwrap();
        assert_ne!(first, second);
        assert!(matches!(store.put_root(&local, "3", Some(&first)), Err(StoreError::Conflict)));
        assert!(matches!(
            store.put_root(&local, "3", Some(&Version("elsewhere".to_owned()))),
            Err(StoreError::Conflict)
        ));
        assert_eq!(store.root(&local).unwrap().unwrap().0, "2");
    });
}

#[test]
fn the_same_content_again_is_a_new_version() {
    on_each(|store| {
        let local = environment("local");
        let first = store.put_root(&local, "1", None).unwrap();
        let second = store.put_root(&local, "2", Some(&first)).unwrap();
        let third = store.put_root(&local, "1", Some(&second)).unwrap();
        assert_ne!(first, third, "a writer that slept through two changes must notice");
    });
}

#[test]
fn environments_do_not_meet() {
    on_each(|store| {
        let version = store.put_root(&environment("dev"), "dev", None).unwrap();
        store.put_root(&environment("qa"), "qa", None).unwrap();
        store.put_root(&environment("dev"), "dev 2", Some(&version)).unwrap();
        assert_eq!(store.root(&environment("qa")).unwrap().unwrap().0, "qa");
    });
}

#[test]
fn objects_are_found_by_their_content() {
    on_each(|store| {
        for bytes in [&b""[..], b"blueprint", &[0, 255, 0]] {
            let digest = store.put_object(bytes).unwrap();
            assert_eq!(digest, Digest::of(bytes));
            assert_eq!(store.put_object(bytes).unwrap(), digest);
            assert_eq!(store.object(&digest).unwrap(), bytes);
        }
        let absent = Digest::of("never written");
        assert!(matches!(store.object(&absent), Err(StoreError::Missing(digest)) if digest == absent));
    });
}

/// Many writers count up one number; with compare-and-set no count is lost.
#[test]
fn races_lose_nothing() {
    on_each(|store| race(&vec![store; 8]));
}

/// The same with a connection of its own for each writer, as several processes have.
#[test]
fn races_between_connections_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = |_| Arc::new(Sqlite::open(&folder.path().join("state.db")).unwrap()) as Arc<dyn Store>;
    race(&(0..8).map(open).collect::<Vec<_>>());
}

fn race(stores: &[Arc<dyn Store>]) {
    // What is proved is the comparison, so few writes do: each of them waits for the disk.
    const EACH: u64 = 5;
    let local = environment("local");
    std::thread::scope(|scope| {
        for store in stores {
            scope.spawn(|| {
                for _ in 0..EACH {
                    loop {
                        let current = store.root(&local).unwrap();
                        let (count, version) = match &current {
                            Some((root, version)) => (root.parse::<u64>().unwrap(), Some(version)),
                            None => (0, None),
                        };
                        match store.put_root(&local, &(count + 1).to_string(), version) {
                            Ok(_) => break,
                            Err(StoreError::Conflict) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    store.put_object(b"the same of all").unwrap();
                }
            });
        }
    });
    assert_eq!(stores[0].root(&local).unwrap().unwrap().0, (EACH * stores.len() as u64).to_string());
}

/// What was written is there after the process is gone without a goodbye: the handle is leaked, not closed.
#[test]
fn a_reopened_file_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (local, object, version) = {
        let store = Sqlite::open(&path).unwrap();
        let local = environment("local");
        let version = store.put_root(&local, "root", None).unwrap();
        let object = store.put_object(b"object").unwrap();
        std::mem::forget(store);
        (local, object, version)
    };
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.root(&local).unwrap(), Some(("root".to_owned(), version.clone())));
    assert_eq!(store.object(&object).unwrap(), b"object");
    store.put_root(&local, "next", Some(&version)).unwrap();
}

/// What opens beside a daemon that starts makes nothing in its place.
#[test]
fn only_a_file_that_was_made_is_opened_as_existing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    assert!(Sqlite::open_existing(&path).unwrap().is_none());
    assert!(!path.exists());
    // Being made: the file is there, its tables are not.
    std::fs::write(&path, "").unwrap();
    assert!(Sqlite::open_existing(&path).unwrap().is_none());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let local = environment("local");
    Sqlite::open(&path).unwrap().put_root(&local, "root", None).unwrap();
    assert_eq!(Sqlite::open_existing(&path).unwrap().unwrap().root(&local).unwrap().unwrap().0, "root");
}

/// A change that was begun and never committed, as a crash leaves it, is not there.
#[test]
fn half_a_change_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Sqlite::open(&path).unwrap();
    let local = environment("local");
    store.put_root(&local, "whole", None).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE root SET root = 'half'").unwrap();
    assert_eq!(store.root(&local).unwrap().unwrap().0, "whole");
    drop(other);
    assert_eq!(Sqlite::open(&path).unwrap().root(&local).unwrap().unwrap().0, "whole");
}

#[test]
fn a_damaged_object_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Sqlite::open(&path).unwrap();
    let digest = store.put_object(b"true").unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute("UPDATE object SET bytes = ?1", [&b"false"[..]]).unwrap();
    assert!(matches!(store.object(&digest), Err(StoreError::Damaged(damaged)) if damaged == digest));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(Sqlite::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Sqlite::open(&path), Err(StoreError::Newer { found: 99, .. })));
}
