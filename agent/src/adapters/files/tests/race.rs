//! Somebody on the node swaps folders, files and links under running changes.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use rustix::{
    fs::{AtFlags, RenameFlags, linkat, renameat_with, symlinkat, unlinkat},
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::*;

const ROUNDS: usize = 10_000;

/// What stands outside of app's folder: names, owners, modes, contents.
fn outside(root: &Path) -> Vec<(PathBuf, u32, u32, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root.join("out"), root.join("srv")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() && !path.ends_with("srv/app") {
                open.push(path.clone());
            }
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.push((path, meta.uid(), meta.gid(), meta.mode(), content));
        }
    }
    found.sort();
    found
}

/// App's own doing, with app's rights alone, in app's folder.
fn swap(app: &Path, round: u64) {
    let at = |name: &str| app.join(name);
    // Most of these fail most of the time; what counts is that some come at the right moment.
    let link = |target: &str, name: &str| {
        let _ = symlinkat(target, CWD, at("made"));
        let _ = renameat_with(CWD, at("made"), CWD, at(name), RenameFlags::EXCHANGE);
        let _ = renameat_with(CWD, at("made"), CWD, at(name), RenameFlags::NOREPLACE);
        let _ = unlinkat(CWD, at("made"), AtFlags::empty());
        let _ = renameat_with(CWD, at("made"), CWD, at("old"), RenameFlags::NOREPLACE);
        let _ = fs::remove_dir_all(at("made"));
    };
    match round % 8 {
        0 => link("../../out", "v1"),
        1 => link("../../../out", "v1/etc"),
        2 => link("../../../../out/secret", "v1/etc/conf"),
        3 => {
            let _ = renameat_with(CWD, at("v1"), CWD, at("old"), RenameFlags::EXCHANGE);
        }
        4 => {
            let _ = linkat(CWD, at("../../out/public"), CWD, at("v1/etc/conf"), AtFlags::empty());
        }
        5 => drop(fs::create_dir_all(at("v1/etc"))),
        6 => {
            let _ = fs::remove_file(at("v1/etc/conf"));
            // Another name of a file outside, as where the kernel does not forbid to make one.
            let _ = fs::rename(at("name"), at("v1/etc/conf"));
        }
        _ => {
            for name in ["v1/etc/conf", "v1/etc", "v1"] {
                let _ = fs::remove_file(at(name));
            }
            let _ = fs::rename(at("old"), at("v1"));
        }
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_gets_out_of_his_folder_by_swapping_names() {
    let root = root();
    let files = RealFiles::below(root.path());
    files.write("/out/secret", b"precious", 0o600, 0, 0).unwrap();
    files.write("/out/public", b"public", 0o644, 0, 0).unwrap();
    files.write("/out/etc/conf", b"precious too", 0o640, 0, 0).unwrap();
    files.write("/out/etc/sub/x", b"x", 0o644, 0, 0).unwrap();
    files.link("/srv/current", "app/v1").unwrap();
    let app = root.path().join("srv/app");
    let before = outside(root.path());
    let (stop, swaps, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let somebody = [0, 1].map(|start| {
            let (app, stop, swaps) = (&app, &stop, &swaps);
            scope.spawn(move || {
                // This thread alone.
                set_thread_groups(&[]).unwrap();
                let (uid, gid) = (Uid::from_raw(APP), Gid::from_raw(APP));
                set_thread_res_gid(gid, gid, gid).unwrap();
                set_thread_res_uid(uid, uid, uid).unwrap();
                let mut round = start;
                while !stop.load(Ordering::Relaxed) {
                    swap(app, round);
                    round += 3;
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        // Also where an assertion below fails, or they would go on for ever.
        let _stop = Stop(&stop);
        let secret = |content: &[u8]| content.starts_with(b"precious");
        let (folder, file) = ("/srv/app/v1/etc", "/srv/app/v1/etc/conf");
        for round in 0.. {
            let met = swaps.load(Ordering::Relaxed) > 1_000 && refused.load(Ordering::Relaxed) > 0;
            if round >= ROUNDS && met || somebody.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
            let done = match round % 16 {
                0 | 8 => files.make_dir(folder),
                1 | 9 => files.set(folder, 0o777, APP, APP),
                2 | 10 => files.set(file, 0o666, APP, APP),
                3 => files.write(file, b"app's", 0o666, APP, APP),
                4 => files.write("/srv/current/etc/conf", b"app's", 0o666, APP, APP),
                5 | 11 => files.look(file, 64).map(|seen| assert!(!seen.is_some_and(|(_, content)| secret(&content)))),
                6 | 12 => files.read(file).map(|content| assert!(!content.is_some_and(|content| secret(&content)))),
                7 => files.remove(folder, true),
                13 => files.write_in_place(file, b"app's"),
                14 => {
                    files.list(folder).map(|names| assert!(!names.is_some_and(|names| names.contains(&"sub".into()))))
                }
                _ => {
                    let _ = fs::hard_link(root.path().join("out/public"), app.join("name"));
                    files.remove(file, false)
                }
            };
            refused.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
        }
    });
    let _ = fs::remove_file(app.join("name"));
    assert_eq!(outside(root.path()), before);
    let (swaps, refused) = (swaps.into_inner(), refused.into_inner());
    assert!(swaps > 1_000 && refused > 0, "{swaps} swaps, {refused} refusals: nobody was there");
}
