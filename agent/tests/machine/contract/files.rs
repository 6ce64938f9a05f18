//! Files.

use std::{io::ErrorKind, path::Path};

use muster_agent::{
    adapters::{fake::FakeFiles, files::RealFiles},
    ports::{Beside, FileKind, Files},
};

fn keeps(files: &dyn Files) {
    // Nothing there is no error, for looking and for removing.
    assert!(files.stat("/a").unwrap().is_none() && files.read("/a").unwrap().is_none());
    assert!(files.look("/a", 9).unwrap().is_none() && files.list("/a").unwrap().is_none());
    files.remove("/a", true).unwrap();

    // A write makes the parents, and sets all it is asked to.
    files.write("/a/b/x", b"hello", 0o640, 1, 2).unwrap();
    let (stat, content) = files.look("/a/b/x", 3).unwrap().unwrap();
    assert_eq!((stat.kind, stat.mode, stat.uid, stat.gid, stat.size), (FileKind::File, 0o640, 1, 2, 5));
    assert_eq!((content.as_slice(), files.read("/a/b/x").unwrap().unwrap().as_slice()), (&b"hel"[..], &b"hello"[..]));
    let parent = files.stat("/a/b/").unwrap().unwrap();
    assert_eq!((parent.kind, parent.uid), (FileKind::Directory, 0));

    // Written again it is another file, whole; nothing else is left behind.
    files.write("/a/b/x", b"", 0o4755, 0, 0).unwrap();
    let (stat, content) = files.look("/a/b/x", 99).unwrap().unwrap();
    assert_eq!((stat.mode, stat.uid, stat.size, content.len()), (0o4755, 0, 0, 0));
    assert_eq!(files.list("/a/b").unwrap().unwrap(), ["x"]);

    files.set("/a/b/x", 0o4600, 3, 4).unwrap();
    let stat = files.stat("/a/b/x").unwrap().unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid, stat.shared), (0o4600, 3, 4, false));
    files.set("/a/b/x", 0o600, 3, 4).unwrap();
    assert_eq!(files.set("/a/b/none", 0o600, 3, 4).unwrap_err().source.kind(), ErrorKind::NotFound);

    files.write_in_place("/a/b/x", b"in place").unwrap();
    let (kept, content) = files.look("/a/b/x", 99).unwrap().unwrap();
    assert_eq!((kept.mode, kept.uid, content.as_slice()), (0o600, 3, &b"in place"[..]));
    assert_eq!(files.write_in_place("/a/b/none", b"").unwrap_err().source.kind(), ErrorKind::NotFound);

    // Links.
    files.link("/a/l", "b/x").unwrap();
    files.link("/a/l", "b").unwrap();
    assert_eq!((files.target("/a/l").unwrap().as_deref(), files.target("/a/b/x").unwrap()), (Some("b"), None));
    assert_eq!(files.stat("/a/l").unwrap().unwrap().kind, FileKind::Link);
    assert!(files.link("/a/b", "x").is_err(), "a folder is in the way");
    files.remove("/a/l", true).unwrap();
    assert!(files.target("/a/l").unwrap().is_none() && files.stat("/a/b/x").unwrap().is_some());

    // Folders.
    files.make_dir("/a/c/d").unwrap();
    files.make_dir("/a/c/d").unwrap();
    assert_eq!(files.list("/a").unwrap().unwrap(), ["b", "c"]);
    let entries = files.entries(Path::new("/a")).unwrap().unwrap();
    assert!(entries.iter().all(|entry| entry.kind == FileKind::Directory) && entries.len() == 2);
    assert_eq!(files.inside(Path::new("/a")).unwrap().count, 4);
    assert_eq!(files.inside(Path::new("/none")).unwrap().count, 0);
    assert_eq!(files.beside("/a/b/x", None).unwrap(), Beside::default());
    assert_eq!(files.list("/a/b/x").unwrap_or_default(), None, "a file has no list");
    assert_eq!(files.write("/a/c", b"", 0o644, 0, 0).unwrap_err().source.kind(), ErrorKind::IsADirectory);
    assert!(files.make_dir("/a/b/x").is_err(), "a file is in the way");
    files.make_own_dir("/a/own", 0o700, 0, 0).unwrap();
    let own = files.stat("/a/own").unwrap().unwrap();
    assert_eq!((own.kind, own.mode, own.uid, own.gid), (FileKind::Directory, 0o700, 0, 0));
    assert_eq!(files.make_own_dir("/a/own", 0o755, 0, 0).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
    assert_eq!(files.make_own_dir("/b/own", 0o755, 0, 0).unwrap_err().source.kind(), ErrorKind::NotFound);
    assert_eq!(files.list("/a").unwrap().unwrap(), ["b", "c", "own"]);
    files.remove("/a/own", false).unwrap();
    assert!(files.write("/a/b/x/y", b"", 0o644, 0, 0).is_err(), "a file is no parent");
    assert_eq!(files.remove("/a", false).unwrap_err().source.kind(), ErrorKind::DirectoryNotEmpty);
    files.remove("/a/c/d", false).unwrap();
    files.remove("/a", true).unwrap();
    assert!(files.stat("/a").unwrap().is_none() && files.stat("/a/b/x").unwrap().is_none());
}

#[test]
fn the_real_one_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    keeps(&RealFiles::below(root.path()));
}

#[test]
fn the_fake_keeps_it() {
    keeps(&FakeFiles::default());
}

#[test]
fn what_is_no_file_is_looked_at_and_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let files = RealFiles::below(root.path());
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
    let (stat, content) = files.look("/link", 99).unwrap().unwrap();
    assert_eq!((stat.kind, content.len()), (FileKind::Link, 0));
    let pipe = root.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(files.look("/pipe", 99).unwrap().unwrap().0.kind, FileKind::Other);
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_no_rest() {
    let root = tempfile::tempdir().unwrap();
    let files = RealFiles::below(root.path());
    files.write("/d/x", b"old", 0o644, 0, 0).unwrap();
    files.make_dir("/d/folder").unwrap();
    files.write("/d/folder", b"new", 0o644, 0, 0).unwrap_err();
    assert_eq!(files.list("/d").unwrap().unwrap(), ["folder", "x"]);
    assert_eq!(files.read("/d/x").unwrap().unwrap(), b"old");
}
