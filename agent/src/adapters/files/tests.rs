//! Links, other names, lists of rights and frozen files, on the real file system. These tests run as root.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, OFlags, XattrFlags, fgetxattr, fsetxattr, open};

use super::*;

/// Nobody's account.
pub const APP: u32 = 64_500;

/// A root that others may enter, with app's folder `/srv/app` in it.
pub fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir_all(root.path().join("srv/app")).unwrap();
    chown(root.path().join("srv/app"), Some(APP), Some(APP)).unwrap();
    root
}

fn text(error: FileError) -> String {
    let outcome = crate::StepError::from(error).into_outcome();
    let muster_plan::Outcome::Failed { error, help, .. } = outcome else { panic!("{outcome:?}") };
    format!("{error} | {}", help.unwrap_or_default())
}

#[test]
fn a_path_is_private_where_root_alone_may_swap_its_folders() {
    let root = root();
    let files = RealFiles::below(root.path());
    files.make_dir("/srv/app/v1/etc").unwrap();
    for (path, private) in [
        ("/", true),
        ("/srv/app", true),
        ("/srv/nothing/here/yet", true),
        ("/srv/app/v1", false),
        ("/srv/app/v1/etc", false),
        ("/srv/app/nothing/here/yet", false),
    ] {
        assert_eq!(files.private(path).unwrap(), private, "{path}");
    }
    symlink("/", root.path().join("srv/app/l")).unwrap();
    assert!(text(files.private("/srv/app/l/etc").unwrap_err()).contains("/srv/app/l is a link to"));
}

#[test]
fn roots_links_are_followed_and_others_are_named() {
    let root = root();
    let files = RealFiles::below(root.path());
    // As `/var/run`, absolute and relative, and one that leads to app's folder.
    files.write("/run/x", b"x", 0o644, 0, 0).unwrap();
    files.link("/var/run", "/run").unwrap();
    files.link("/var/also", "../var/./run").unwrap();
    files.link("/cur", "srv/app").unwrap();
    for path in ["/var/run/x", "/var/also/x"] {
        assert_eq!(files.read(path).unwrap().unwrap(), b"x");
        assert_eq!(files.look(path, 9).unwrap().unwrap().1, b"x");
        assert_eq!(files.real(Path::new(path)).unwrap().unwrap(), Path::new("/run/x"));
        files.set(path, 0o600, 0, 0).unwrap();
    }
    files.write("/cur/new/y", b"y", 0o644, APP, APP).unwrap();
    assert_eq!(fs::metadata(root.path().join("srv/app/new/y")).unwrap().uid(), APP);

    // In app's folder root's own link is none: app may rename it to any name.
    let app = root.path().join("srv/app");
    symlink("../../run", app.join("theirs")).unwrap();
    symlink("../../run/x", app.join("file")).unwrap();
    symlink("/nowhere", root.path().join("srv/made-by-app")).unwrap();
    std::os::unix::fs::lchown(root.path().join("srv/made-by-app"), Some(APP), Some(APP)).unwrap();
    for path in ["/srv/app/theirs/x", "/cur/theirs/x", "/srv/made-by-app/x"] {
        let failures = [
            files.stat(path).map(drop),
            files.look(path, 9).map(drop),
            files.read(path).map(drop),
            files.write(path, b"", 0o644, 0, 0),
            files.write_in_place(path, b"z"),
            files.make_dir(path),
            files.set(path, 0o777, APP, APP),
            files.remove(path, true),
            files.list(path).map(drop),
            files.link(path, "z"),
            files.target(path).map(drop),
            files.beside(path, None).map(drop),
        ];
        for failure in failures {
            let said = text(failure.unwrap_err());
            let link = path.rsplit_once('/').unwrap().0.replace("/cur", "/srv/app");
            assert!(said.contains(&format!("{link} is a link to ")) && said.contains("take the link away"), "{said}");
        }
    }
    // The last name of a path is what it is: a link is looked at, replaced and removed, and not followed.
    assert_eq!(files.look("/srv/app/file", 9).unwrap().unwrap().0.kind, FileKind::Link);
    assert!(text(files.read("/srv/app/file").unwrap_err()).contains("/srv/app/file is a link"));
    assert!(files.set("/srv/app/file", 0o777, APP, APP).is_err());
    assert!(files.list("/srv/app/theirs").is_err());
    files.remove("/srv/app/theirs", true).unwrap();
    files.write("/srv/app/file", b"own", 0o644, APP, APP).unwrap();
    assert_eq!(files.read("/run/x").unwrap().unwrap(), b"x");
    assert_eq!(files.stat("/run/x").unwrap().unwrap().mode, 0o600);
}

#[test]
fn folders_that_others_may_write_hold_no_links() {
    for (mode, uid, good) in [(0o755, 0, true), (0o775, 0, false), (0o1777, 0, false), (0o755, APP, false)] {
        let root = root();
        let files = RealFiles::below(root.path());
        files.write("/d/real/x", b"x", 0o644, 0, 0).unwrap();
        files.link("/d/l", "real").unwrap();
        files.set("/d", mode, uid, 0).unwrap();
        assert_eq!(files.read("/d/l/x").is_ok(), good, "{mode:o} {uid}");
    }
}

#[test]
fn loops_and_odd_paths_end() {
    let root = root();
    let files = RealFiles::below(root.path());
    files.link("/a", "b").unwrap();
    files.link("/b", "/a").unwrap();
    assert!(files.read("/a/x").is_err());
    files.link("/up", "../../../..").unwrap();
    files.write("/f", b"f", 0o644, 0, 0).unwrap();
    for path in ["/up/f", "//f", "/./f", "/srv/../f", "/f/"] {
        assert_eq!(files.stat(path).unwrap().is_some(), path != "/f/", "{path}");
    }
    assert_eq!(files.stat("/").unwrap().unwrap().kind, FileKind::Directory);
    assert!(files.stat("/f/below").unwrap().is_none());
    files.set("/", 0o711, 0, 0).unwrap();
}

#[test]
fn a_files_other_name_is_left_alone() {
    let root = root();
    let files = RealFiles::below(root.path());
    files.write("/etc/shadow", b"secret", 0o600, 0, 0).unwrap();
    fs::hard_link(root.path().join("etc/shadow"), root.path().join("srv/app/mine")).unwrap();
    assert!(files.stat("/srv/app/mine").unwrap().unwrap().shared);
    let said = text(files.set("/srv/app/mine", 0o666, APP, APP).unwrap_err());
    assert!(said.contains("/srv/app/mine has another name elsewhere"), "{said}");
    assert!(files.write_in_place("/srv/app/mine", b"own").is_err());
    files.write("/srv/app/mine", b"own", 0o666, APP, APP).unwrap();
    let shadow = files.look("/etc/shadow", 9).unwrap().unwrap();
    assert_eq!((shadow.0.mode, shadow.0.uid, shadow.0.shared, shadow.1.as_slice()), (0o600, 0, false, &b"secret"[..]));
}

const LIST: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// user::rw-, user:APP:r--, group::r--, mask::r--, other::---
fn list() -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, APP), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
    {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(4096);
    let file = open(path, OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    fgetxattr(&file, name, rustix::buffer::spare_capacity(&mut value)).ok()?;
    Some(value)
}

fn give(path: &Path, name: &str, value: &[u8]) {
    let file = open(path, OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn what_is_replaced_keeps_lists_and_attributes_and_not_capabilities() {
    let root = root();
    let files = RealFiles::below(root.path());
    let path = root.path().join("f");
    files.write("/f", b"old", 0o640, 0, 0).unwrap();
    give(&path, LIST, &list());
    give(&path, "user.note", b"hi");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    give(&path, "security.capability", &capability);
    assert_eq!(files.beside("/f", Some(0)).unwrap().lost, ["its capabilities (security.capability)"]);
    files.write("/f", b"new", 0o640, 0, 0).unwrap();
    assert_eq!((attribute(&path, LIST), attribute(&path, "user.note")), (Some(list()), Some(b"hi".to_vec())));
    assert_eq!((attribute(&path, "security.capability"), fs::metadata(&path).unwrap().mode() & 0o7777), (None, 0o640));
    // The mode that is written stays what is seen: its group part is the list's mask.
    files.write("/f", b"new", 0o600, 0, 0).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_list_that_others_set_gives_no_secret_away() {
    let root = root();
    let files = RealFiles::below(root.path());
    let app = root.path().join("srv/app");
    // On the file before it is root's, on root's own file, and on the folder.
    for (owner, wanted, kept) in [(APP, 0, false), (0, 0, false), (APP, APP, true), (0, APP, false)] {
        let path = app.join("f");
        fs::write(&path, "old").unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        give(&path, LIST, &list());
        let lost = files.beside("/srv/app/f", Some(wanted)).unwrap().lost;
        assert_eq!(lost.is_empty(), kept, "{owner} {wanted} {lost:?}");
        files.write("/srv/app/f", b"secret", 0o640, wanted, wanted).unwrap();
        assert_eq!(attribute(&path, LIST).is_some(), kept, "{owner} {wanted}");
        fs::remove_file(&path).unwrap();
    }
    give(&app, DEFAULT, &list());
    files.write("/srv/app/f", b"secret", 0o640, 0, 0).unwrap();
    files.write("/srv/app/sub/f", b"secret", 0o640, 0, 0).unwrap();
    for path in ["f", "sub", "sub/f"] {
        let path = app.join(path);
        assert_eq!((attribute(&path, LIST), attribute(&path, DEFAULT)), (None, None), "{}", path.display());
    }
    files.write("/srv/app/own", b"theirs", 0o640, APP, APP).unwrap();
    assert!(attribute(&app.join("own"), LIST).is_some(), "the owner's own will");
    // Taken over from app, a folder lets him in no more.
    assert_eq!(files.beside("/srv/app", Some(0)).unwrap().lost, ["its default access control list"]);
    files.set("/srv/app", 0o755, 0, 0).unwrap();
    assert_eq!(attribute(&app, DEFAULT), None);
    // Root's folder hands on root's list.
    give(&app, DEFAULT, &list());
    files.write("/srv/app/handed", b"", 0o640, 0, 0).unwrap();
    assert!(attribute(&app.join("handed"), LIST).is_some());
}

/// Whoever looks at the right moment finds an empty file, or one with the rights that it ends with.
#[test]
fn what_is_not_whole_yet_is_open_to_nobody() {
    let root = root();
    let files = RealFiles::below(root.path());
    let folder = root.path().join("srv");
    let path = folder.join("secret");
    let done = std::sync::atomic::AtomicBool::new(false);
    let laid_open = |entry: fs::DirEntry| {
        let meta = entry.metadata().ok().filter(|meta| meta.is_file() && meta.len() > 0)?;
        (meta.mode() & 0o077 != 0).then(|| format!("{entry:?} {:o}", meta.mode()))
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let seen = fs::read_dir(&folder).unwrap().flatten();
                let temporary = seen.filter(|entry| entry.file_name() != "secret");
                if let Some(found) = temporary.filter_map(laid_open).next() {
                    return Some(found);
                }
            }
            None
        });
        for _round in 0..300 {
            // As it was: for all to read, with a list that says so, too.
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            give(&path, LIST, &list());
            files.write("/srv/secret", &[b's'; 4096], 0o600, 0, 0).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(watcher.join().unwrap(), None);
    });
}

#[test]
fn what_a_killed_agent_left_goes_with_the_next_write() {
    let root = root();
    let files = RealFiles::below(root.path());
    files.make_dir("/d").unwrap();
    let (own, gone) = (std::process::id(), 0x7fff_ffff);
    let left = [format!(".x.muster-{gone}-0"), format!(".y.muster-{own}-12345678"), ".x.muster-1-3".to_owned()];
    let others = [".x.muster-".to_owned(), "x.muster-1-1".to_owned(), format!(".muster-{gone}-1~")];
    for name in left.iter().chain(&others) {
        fs::write(root.path().join("d").join(name), "half").unwrap();
    }
    fs::create_dir(root.path().join(format!("d/.folder.muster-{gone}-1"))).unwrap();
    files.write("/d/z", b"", 0o644, 0, 0).unwrap();
    let mut expected: Vec<String> = others.into_iter().chain(["z".to_owned()]).collect();
    expected.sort_unstable();
    assert_eq!(files.list("/d").unwrap().unwrap(), expected);
}

#[test]
fn a_removal_stops_at_depth_and_not_at_odd_names() {
    use std::os::unix::ffi::OsStrExt;
    let root = root();
    let files = RealFiles::below(root.path());
    let odd = root.path().join("d").join(OsStr::from_bytes(b"a\xff\nb"));
    fs::create_dir_all(&odd).unwrap();
    fs::write(odd.join("x"), "").unwrap();
    symlink("/", odd.join("link")).unwrap();
    let entries = files.entries(Path::new("/d")).unwrap().unwrap();
    files.remove_path(&Path::new("/d").join(&entries[0].name), true).unwrap();
    assert_eq!(files.list("/d").unwrap().unwrap(), Vec::<String>::new());
    // Deep enough that going on would take all descriptors or the stack.
    let mut folder = open(root.path().join("d"), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _deep in 0..300 {
        rustix::fs::mkdirat(&folder, "n", rustix::fs::Mode::RWXU).unwrap();
        folder = rustix::fs::openat(&folder, "n", OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    assert!(text(files.remove("/d", true).unwrap_err()).contains("deeper than the agent goes"));
    fs::remove_dir_all(root.path().join("d")).unwrap();
}

struct Thaw(PathBuf);

impl Drop for Thaw {
    fn drop(&mut self) {
        for path in [self.0.clone(), self.0.join("f")] {
            if let Ok(file) = open(path, OFlags::RDONLY, rustix::fs::Mode::empty()) {
                let _ = rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::empty());
            }
        }
    }
}

#[test]
fn a_frozen_file_is_called_so() {
    let root = tempfile::tempdir().unwrap();
    let files = RealFiles::below(root.path());
    let frozen = |path: &str, flag| {
        let file = open(root.path().join(&path[1..]), OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        rustix::fs::ioctl_setflags(&file, flag)
    };
    files.write("/d/f", b"old", 0o644, 0, 0).unwrap();
    files.write("/d/g", b"old", 0o644, 0, 0).unwrap();
    // Also where an assertion fails: nobody could remove it.
    let _thawed = Thaw(root.path().join("d"));
    if frozen("/d/f", rustix::fs::IFlags::IMMUTABLE).is_err() {
        // Not every file system has it; the tests on a node do.
        return;
    }
    for failure in [files.write("/d/f", b"new", 0o644, 0, 0), files.set("/d/f", 0o600, 0, 0), files.remove("/d", true)]
    {
        let said = text(failure.unwrap_err());
        assert!(said.contains("is immutable (chattr +i)") && said.contains("chattr -i /d/f"), "{said}");
    }
    frozen("/d/f", rustix::fs::IFlags::empty()).unwrap();
    frozen("/d", rustix::fs::IFlags::APPEND).unwrap();
    let said = text(files.write("/d/f", b"new", 0o644, 0, 0).unwrap_err());
    assert!(said.contains("/d is only to be appended to (chattr +a)"), "{said}");
    frozen("/d", rustix::fs::IFlags::empty()).unwrap();
    assert!(files.list("/d").unwrap().unwrap().iter().all(|name| !name.starts_with('.')), "nothing is left");
}

#[test]
fn a_lock_is_one_holders_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let files = || RealFiles::below(root.path());
    files().write("/count", b"0", 0o644, 0, 0).unwrap();
    std::thread::scope(|scope| {
        for _one in 0..4 {
            // Descriptors of their own, as processes have them.
            let files = files();
            scope.spawn(move || {
                for _round in 0..50 {
                    let _lock = files.lock("/run/x/lock").unwrap();
                    let text = String::from_utf8(files.read("/count").unwrap().unwrap()).unwrap();
                    let next = text.parse::<u32>().unwrap() + 1;
                    files.write("/count", next.to_string().as_bytes(), 0o644, 0, 0).unwrap();
                }
            });
        }
    });
    assert_eq!(files().read("/count").unwrap().unwrap(), b"200");
}

mod race;
