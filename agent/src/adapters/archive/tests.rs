//! Archives as they are made by others, good and bad.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use tar::{Builder, EntryType, Header};

use super::*;

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(12345);
    header.set_size(0);
    header
}

/// As no good tool writes it: the name goes in unchecked.
fn raw(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = header(kind, 0o755);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn good() -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    raw(&mut builder, EntryType::XGlobalHeader, "pax_global_header", "", b"");
    raw(&mut builder, EntryType::Directory, "./tool-1/", "", b"");
    let mut program = header(EntryType::Regular, 0o4755);
    program.set_size(5);
    builder.append_data(&mut program, "tool-1/bin/tool", &b"hello"[..]).unwrap();
    raw(&mut builder, EntryType::Symlink, "tool-1/bin/link", "../bin/tool", b"");
    raw(&mut builder, EntryType::Link, "tool-1/same", "tool-1/bin/tool", b"");
    let long = format!("tool-1/{}/x", "d".repeat(150));
    builder.append_data(&mut header(EntryType::Regular, 0o640), &long, &b""[..]).unwrap();
    raw(&mut builder, EntryType::Regular, "README", "", b"left out");
    builder.into_inner().unwrap()
}

struct Lab {
    root: tempfile::TempDir,
    archives: RealArchives,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let archives = RealArchives::below(root.path());
        Self { archives, root }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn unpack(&self, content: &[u8]) -> Result<Origin, ArchiveError> {
        fs::write(self.at("archive"), content).unwrap();
        let origin = Origin { sha256: hex::encode(Sha256::digest(content)), strip: 1, uid: 0, gid: 0 };
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let origin = Origin { uid, gid, ..origin };
        self.archives.unpack("/archive", "/opt/tool", &origin).map(|()| origin)
    }

    fn unpacked(&self) -> Unpacked {
        match self.archives.look("/opt/tool").unwrap() {
            There::Unpacked(unpacked) => unpacked,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing but what these tests put there.
    fn is_empty(&self) -> bool {
        !self.at("opt").exists() || fs::read_dir(self.at("opt")).unwrap().next().is_none()
    }
}

#[test]
fn an_archive_is_unpacked_as_it_is_and_looks_so() {
    let lab = Lab::new();
    assert_eq!(lab.archives.look("/opt/tool").unwrap(), There::Nothing);
    let origin = lab.unpack(&good()).unwrap();
    let tool = lab.at("opt/tool/bin/tool");
    assert_eq!(fs::read(&tool).unwrap(), b"hello");
    let meta = fs::metadata(&tool).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.nlink()), (0o755, 1_700_000_000, 2), "no set-id bit");
    assert_eq!(fs::read_link(lab.at("opt/tool/bin/link")).unwrap(), Path::new("../bin/tool"));
    assert!(lab.at("opt/tool").join("d".repeat(150)).join("x").exists() && !lab.at("opt/tool/README").exists());
    assert_eq!(fs::metadata(lab.at("opt/tool")).unwrap().mode() & 0o7777, 0o755);
    let right = Unpacked { from: origin, ..Unpacked::default() };
    assert_eq!(lab.unpacked(), right);

    // What others add is seen and is no change; each kind of change is.
    fs::create_dir(lab.at("opt/tool/log")).unwrap();
    fs::write(lab.at("opt/tool/log/x"), "").unwrap();
    assert_eq!(lab.unpacked(), Unpacked { strangers: vec!["/opt/tool/log".into()], ..right });
    let link = lab.at("opt/tool/bin/link");
    fs::remove_file(&link).unwrap();
    symlink("elsewhere", &link).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(lab.unpacked().changed, ["/opt/tool/bin/link", "/opt/tool/bin/tool", "/opt/tool/same"]);
    // Anew, in the place of what is there.
    lab.unpack(&good()).unwrap();
    assert_eq!((lab.unpacked().changed, lab.unpacked().strangers), (vec![], vec![]));
    fs::remove_dir_all(lab.at("opt/tool").join("d".repeat(150))).unwrap();
    assert_eq!(lab.unpacked().changed.len(), 2);
    lab.archives.remove("/opt/tool").unwrap();
    lab.archives.remove("/opt/tool").unwrap();
    assert!(lab.is_empty());
}

#[test]
fn gzip_is_known_and_others_are_named() {
    let lab = Lab::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&good()).unwrap();
    let gzip = gzip.finish().unwrap();
    lab.unpack(&gzip).unwrap();
    assert!(lab.at("opt/tool/bin/tool").exists());
    lab.archives.remove("/opt/tool").unwrap();
    let said = |content: &[u8]| lab.unpack(content).unwrap_err().to_string();
    assert_eq!(said(b"\xfd7zXZ\0..."), "the archive cannot be read as tar or tar.gz: it is xz");
    assert_eq!(said(b"PK\x03\x04..."), "the archive cannot be read as tar or tar.gz: it is zip");
    assert!(said(&[b'x'; 700]).starts_with("the archive cannot be read"));
    assert!(said(&gzip[..gzip.len() / 2]).starts_with("the archive cannot be read"), "cut off");
    assert!(said(b"").contains("nothing in it is left"));
    assert!(lab.is_empty());
}

#[test]
fn an_archive_that_leads_out_is_refused_before_anything_is_written() {
    use EntryType::{Block, Directory, Fifo, Link, Regular, Symlink};
    for (entries, why) in [
        (&[(Regular, "t/../../x", "")][..], "`t/../../x` leads out of it"),
        (&[(Regular, "/etc/x", "")], "`/etc/x` leads out of it"),
        (&[(Regular, "..", "")], "`..` leads out of it"),
        (&[(Symlink, "t/l", "/etc")], "the link `l` to `/etc` leads out of it"),
        (&[(Symlink, "t/l", "../x")], "the link `l` to `../x` leads out of it"),
        (&[(Symlink, "t/d/l", "../../x")], "the link `d/l` to `../../x` leads out of it"),
        // Up again behind what may be a link itself.
        (&[(Symlink, "t/a", "."), (Symlink, "t/l", "a/../x")], "the link `l` to `a/../x` leads out of it"),
        (&[(Symlink, "t/l", "d"), (Regular, "t/l/x", "")], "`l/x` lies in `l`, which is no folder"),
        (&[(Regular, "t/l/x", ""), (Symlink, "t/l", "d")], "`l/x` lies in `l`, which is no folder"),
        (&[(Link, "t/l", "/etc/shadow")], "`/etc/shadow` leads out of it"),
        (&[(Link, "t/l", "t/none")], "`l` is the same as `none`, which is no file in it"),
        (&[(Symlink, "t/s", "x"), (Link, "t/l", "t/s")], "`l` is the same as `s`, which is no file in it"),
        (&[(Block, "t/sda", "")], "`t/sda` is a device or a pipe"),
        (&[(Fifo, "t/pipe", "")], "`t/pipe` is a device or a pipe"),
        (&[(Directory, "t/x/", ""), (Regular, "t/x", "")], "`t/x` is a folder and none"),
        (&[(Regular, "t/.muster-archive", "")], "`t/.muster-archive` is the name of muster's own record"),
        (&[(Regular, "x", "")], "nothing in it is left to unpack: is `strip` too large?"),
    ] {
        let lab = Lab::new();
        let mut builder = Builder::new(Vec::new());
        raw(&mut builder, Regular, if entries[0].1 == "x" { "y" } else { "t/first" }, "", b"content");
        for (kind, name, link) in entries {
            raw(&mut builder, *kind, name, link, b"");
        }
        let error = lab.unpack(&builder.into_inner().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("the archive is refused: {why}"));
        assert!(lab.is_empty(), "{why}");
    }
}

#[test]
fn a_kill_or_a_wrong_digest_leaves_what_was_there() {
    let lab = Lab::new();
    lab.unpack(&good()).unwrap();
    fs::write(lab.at("archive"), b"other").unwrap();
    let wanted = Origin { sha256: "0".repeat(64), ..Origin::default() };
    assert!(matches!(lab.archives.unpack("/archive", "/opt/tool", &wanted), Err(ArchiveError::Digest { .. })));
    assert!(lab.unpacked().changed.is_empty());
    // A half of an unpacking that was cut off lies beside.
    fs::create_dir_all(lab.at("opt/.tool.muster-99999999-1/bin")).unwrap();
    fs::write(lab.at("opt/.tool.muster-99999999-1").join(record::NAME), "").unwrap();
    fs::create_dir(lab.at("opt/.tool.muster-99999999-2")).unwrap();
    lab.unpack(&good()).unwrap();
    assert_eq!(fs::read_dir(lab.at("opt")).unwrap().count(), 1);
    // Alike by name, and somebody's own.
    fs::create_dir_all(lab.at("opt/.tool.muster-99999999-3/mine")).unwrap();
    lab.unpack(&good()).unwrap();
    assert_eq!(fs::read_dir(lab.at("opt")).unwrap().count(), 2);
    assert!(!lab.archives.left("/opt/tool").unwrap());
    // Cut off between its new place and the removal of what was there, and in the middle of that removal.
    for left in ["", "bin/run"] {
        let old = lab.at("opt/.tool.muster-99999999-4");
        fs::create_dir_all(old.join("bin")).unwrap();
        fs::write(old.join(record::NAME), "").unwrap();
        if !left.is_empty() {
            fs::write(old.join(left), "").unwrap();
        }
        assert!(lab.archives.left("/opt/tool").unwrap());
        lab.archives.clear("/opt/tool").unwrap();
        assert!(!lab.archives.left("/opt/tool").unwrap() && !old.exists());
    }
    // Somebody's own folder, and a record that is none any more.
    fs::write(lab.at("opt/tool").join(record::NAME), "{").unwrap();
    assert_eq!(lab.unpacked().changed, ["/opt/tool/.muster-archive"]);
    fs::remove_file(lab.at("opt/tool").join(record::NAME)).unwrap();
    assert_eq!(lab.archives.look("/opt/tool").unwrap(), There::Other);
    fs::remove_dir_all(lab.at("opt/tool")).unwrap();
    fs::write(lab.at("opt/tool"), "x").unwrap();
    assert_eq!(lab.archives.look("/opt/tool").unwrap(), There::Other);
    // What came since the look is not replaced.
    fs::remove_file(lab.at("opt/tool")).unwrap();
    fs::create_dir_all(lab.at("opt/tool/mine")).unwrap();
    assert!(matches!(lab.unpack(&good()), Err(ArchiveError::Taken { .. })));
    assert!(matches!(lab.archives.remove("/opt/tool"), Err(ArchiveError::Taken { .. })));
    assert!(lab.at("opt/tool/mine").exists());
}
