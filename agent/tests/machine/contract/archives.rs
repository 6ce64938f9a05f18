//! Archives.

use muster_agent::{
    adapters::{archive::RealArchives, fake::FakeArchives},
    ports::{ArchiveError, Archives},
};
use muster_ids::Digest;
use muster_plan::kinds::archive::{Origin, There};

fn origin(content: &[u8]) -> Origin {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Origin { sha256: Digest::of(content).to_string(), strip: 0, uid, gid }
}

/// With this archive at `/a`, and a folder of somebody's at `/opt/mine`.
fn keeps(archives: &dyn Archives, content: &[u8]) {
    let from = origin(content);
    assert_eq!(archives.look("/opt/tool").unwrap(), There::Nothing);
    assert_eq!(archives.look("/opt/mine").unwrap(), There::Other);
    let other = Origin { sha256: "0".repeat(64), ..from.clone() };
    assert!(matches!(archives.unpack("/a", "/opt/tool", &other), Err(ArchiveError::Digest { .. })));
    assert_eq!(archives.look("/opt/tool").unwrap(), There::Nothing);
    for _ in 0..2 {
        archives.unpack("/a", "/opt/tool", &from).unwrap();
        let There::Unpacked(unpacked) = archives.look("/opt/tool").unwrap() else { panic!() };
        assert_eq!((unpacked.from, unpacked.changed.len(), unpacked.strangers.len()), (from.clone(), 0, 0));
    }
    archives.remove("/opt/tool").unwrap();
    archives.remove("/opt/tool").unwrap();
    assert_eq!(archives.look("/opt/tool").unwrap(), There::Nothing);
}

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, "x", &b"x"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn the_real_one_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), tar()).unwrap();
    std::fs::create_dir_all(root.path().join("opt/mine/x")).unwrap();
    keeps(&RealArchives::below(root.path()), &tar());
}

#[test]
fn the_fake_keeps_it() {
    let archives = FakeArchives::default();
    archives.put("/a", &Digest::of(tar()).to_string());
    archives.put_folder("/opt/mine");
    keeps(&archives, &tar());
}
