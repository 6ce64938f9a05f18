//! What is a difference, and what is but another word for the same.

use super::*;
use crate::mounts::Table;

const MEMORY: u64 = 24_684_092 << 10;

fn spec(source: &str, fstype: &str, options: &[&str]) -> MountSpec {
    MountSpec {
        path: "/srv/m".into(),
        source: source.into(),
        fstype: fstype.into(),
        options: options.iter().map(|&option| option.into()).collect(),
        absent: false,
    }
}

/// With these lines of mountinfo for the path, and the right line in fstab.
fn seen(spec: &MountSpec, source: Source, lines: &[&str]) -> Observed {
    let mut text = "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n".to_owned();
    for (id, line) in lines.iter().enumerate() {
        text.push_str(&format!("{} {} {line}\n", id + 2, id + 1));
    }
    let table = Table::parse(text.as_bytes()).unwrap();
    let stack =
        table.at("/srv/m").into_iter().map(|mount| Mounted { source: mount.source.clone(), mount: mount.clone() });
    let fstab = format!("{} /srv/m {} {} 0 0\n", spec.source, spec.fstype, options(spec)).into_bytes();
    Observed { path: "/srv/m".into(), stack: stack.collect(), source, fstab, memory: MEMORY, ..Observed::default() }
}

fn tmpfs(options: &[&str], line: &str) -> Option<Change> {
    let spec = spec("tmpfs", "tmpfs", options);
    diff(&spec, &seen(&spec, Source::Word, &[line]))
}

fn remounts(change: Option<Change>) -> (String, String) {
    let change = change.expect("a difference");
    assert_eq!((change.unmount, change.disrupts()), (0, Disrupts::Nothing));
    let Then::Remount(options) = change.then else { panic!("{change:?}") };
    (options, change.detail.join("; "))
}

fn folder(root: &str, flags: &str) -> Source {
    let line = format!("1 0 8:1 / / {flags} - ext4 /dev/sda1 rw");
    let options = Table::parse(line.as_bytes()).unwrap().0.remove(0).options;
    Source::Folder { device: "8:1".into(), root: root.into(), options }
}

#[test]
fn other_words_of_the_kernel_are_no_difference() {
    for (options, flags, superblock) in [
        (&["size=1m"][..], "rw,relatime", "rw,size=1024k"),
        (&["size=1M,nosuid", "nodev"], "rw,nosuid,nodev,relatime", "rw,size=1024k"),
        (&["size=1000000"], "rw,relatime", "rw,size=980k"),
        (&["size=50%"], "rw,relatime", "rw,size=12342048k"),
        (&["size=25%", "huge=never"], "rw,relatime", "rw,size=6171024k"),
        (&["size=0"], "rw,relatime", "rw,size=0k"),
        (&["nr_inodes=1k"], "rw,relatime", "rw,nr_inodes=1024"),
        (&["mode=0700", "uid=3"], "rw,relatime", "rw,mode=700,uid=3"),
        (&["defaults"], "rw,relatime", "rw"),
        (&[], "rw,relatime", "rw,size=12342048k"),
        (
            &["nofail", "_netdev", "x-systemd.mount-timeout=5", "X-mount.mkdir", "comment=x"],
            "rw,relatime",
            "rw,inode64",
        ),
        (&["user"], "rw,nosuid,nodev,noexec,relatime", "rw"),
        (&["users", "exec"], "rw,nosuid,nodev,relatime", "rw"),
        (&["ro", "noatime"], "ro,noatime", "ro"),
        (&["ro", "noatime", "nodiratime"], "ro,noatime,nodiratime", "ro"),
        (&["atime", "strictatime"], "rw", "rw"),
        (&["noatime", "relatime", "atime"], "rw,relatime", "rw"),
        (&["sync", "lazytime"], "rw,relatime", "rw,sync,lazytime"),
        (&["rshared"], "rw,relatime shared:5", "rw"),
    ] {
        let (flags, fields) = flags.split_once(' ').unwrap_or((flags, ""));
        let line =
            format!("0:40 / /srv/m {flags} {fields}{}- tmpfs x {superblock}", if fields.is_empty() { "" } else { " " });
        assert_eq!(tmpfs(options, &line), None, "{options:?} {line}");
    }
}

#[test]
fn a_remount_by_hand_is_put_back_and_nothing_is_lost() {
    let line = "0:40 / /srv/m ro,relatime - tmpfs tmpfs ro,size=9216k";
    let (options, detail) = remounts(tmpfs(&["size=1m", "nosuid", "noexec", "rw"], line));
    assert_eq!(options, "rw,nosuid,dev,noexec,diratime,relatime,size=1m");
    assert_eq!(detail, "ro → rw; suid → nosuid; exec → noexec; size=9216k → size=1m");
    // An option that is no longer written is taken back, too.
    let (_, detail) = remounts(tmpfs(&[], "0:40 / /srv/m rw,noexec,noatime - tmpfs tmpfs rw,sync,size=1024k"));
    assert_eq!(detail, "noexec → exec; noatime → relatime; sync → async; size=1024k → size=50%");
    let (options, _) = remounts(tmpfs(&[], "0:40 / /srv/m rw,nosymfollow,relatime - tmpfs tmpfs rw"));
    assert!(options.contains(",symfollow"), "{options}");
    let change = tmpfs(&["private"], "0:40 / /srv/m rw,relatime shared:3 - tmpfs tmpfs rw").unwrap();
    assert_eq!((change.then, change.propagation.as_deref()), (Then::Nothing, Some("private")));
}

#[test]
fn mode_and_owner_of_a_tmpfs_are_those_of_its_root_folder() {
    let spec = spec("tmpfs", "tmpfs", &["mode=0750", "uid=app"]);
    let line = "0:40 / /srv/m rw,relatime - tmpfs tmpfs rw,mode=700,uid=7";
    let mut observed = seen(&spec, Source::Word, &[line]);
    (observed.uid, observed.attributes) = (Some(7), Some(Attributes { mode: 0o750, uid: 7, gid: 0 }));
    assert_eq!(diff(&spec, &observed), None, "what it was mounted with does not count");
    observed.attributes = Some(Attributes { mode: 0o1777, uid: 0, gid: 5 });
    let change = diff(&spec, &observed).unwrap();
    assert_eq!(change.attributes, Some(Attributes { mode: 0o750, uid: 7, gid: 5 }), "no group is written");
    assert_eq!(change.then, Then::Nothing);
}

#[test]
fn what_is_another_mount_is_unmounted_and_takes_a_turn() {
    let bind = spec("/srv/b", "none", &["bind"]);
    for (line, names) in [
        ("8:1 /srv/a /srv/m rw,relatime - ext4 /dev/sda1 rw", "unmount /dev/sda1 (ext4), its folder /srv/a"),
        (
            "8:1 /srv/b//deleted /srv/m rw,relatime - ext4 /dev/sda1 rw",
            "unmount /dev/sda1 (ext4), its folder /srv/b//deleted",
        ),
        ("8:2 /srv/b /srv/m rw,relatime - ext4 /dev/sdb1 rw", "unmount /dev/sdb1 (ext4), its folder /srv/b"),
        ("0:40 / /srv/m rw,relatime - tmpfs tmpfs rw", "unmount tmpfs (tmpfs)"),
    ] {
        let change = diff(&bind, &seen(&bind, folder("/srv/b", "rw,relatime"), &[line])).unwrap();
        assert_eq!((change.unmount, &change.then), (1, &Then::Mount("bind".into())));
        assert_eq!((change.disrupts(), change.action()), (Disrupts::Service, Action::Change));
        assert_eq!(change.detail, [names, "mount /srv/b"]);
    }
    let right = "8:1 /srv/b /srv/m rw,relatime - ext4 /dev/sda1 rw";
    assert_eq!(diff(&bind, &seen(&bind, folder("/srv/b", "rw,relatime"), &[right])), None);
    // A stranger's mount on top of ours goes, and ours stays with what it holds.
    let stranger = "0:40 / /srv/m rw,relatime - tmpfs tmpfs rw";
    let change = diff(&bind, &seen(&bind, folder("/srv/b", "rw,relatime"), &[right, stranger])).unwrap();
    assert_eq!((change.unmount, change.then), (1, Then::Nothing));
}

#[test]
fn devices_are_the_same_by_number_or_by_name() {
    let device = || Source::Device { path: "/dev/dm-0".into(), number: "254:0".into() };
    let ext4 = spec("/dev/mapper/data", "auto", &[]);
    let line = "254:0 / /srv/m rw,relatime - ext4 /dev/mapper/data rw,errors=remount-ro";
    assert_eq!(diff(&ext4, &seen(&ext4, device(), &[line])), None);
    let part = "254:0 /part /srv/m rw,relatime - ext4 /dev/mapper/data rw";
    assert_eq!(diff(&ext4, &seen(&ext4, device(), &[part])).unwrap().unmount, 1, "a folder of it, bound by somebody");
    let other = "254:1 / /srv/m rw,relatime - ext4 /dev/mapper/other rw";
    assert_eq!(diff(&ext4, &seen(&ext4, device(), &[other])).unwrap().unmount, 1);
    let typed = spec("/dev/mapper/data", "xfs", &[]);
    assert_eq!(diff(&typed, &seen(&typed, device(), &[line])).unwrap().unmount, 1);
    // btrfs has numbers of its own for each mount.
    let btrfs = spec("UUID=1", "btrfs", &["subvol=@data"]);
    let device = Source::Device { path: "/dev/sdc".into(), number: "8:32".into() };
    let right = "0:50 /@data /srv/m rw,relatime - btrfs /dev/sdc rw,space_cache=v2,subvolid=256,subvol=/@data";
    assert_eq!(diff(&btrfs, &seen(&btrfs, device.clone(), &[right])), None);
    let wrong = right.replace("@data", "@other");
    assert_eq!(diff(&btrfs, &seen(&btrfs, device, &[&wrong])).unwrap().unmount, 1);
    let image = spec("/srv/disk.img", "ext4", &["loop"]);
    let mut observed = seen(
        &image,
        Source::Image { path: "/srv/disk.img".into() },
        &["7:0 / /srv/m rw,relatime - ext4 /dev/loop0 rw"],
    );
    assert_eq!(diff(&image, &observed).unwrap().unmount, 1);
    observed.stack[0].source = "/srv/disk.img".into();
    assert_eq!(diff(&image, &observed), None);
}

#[test]
fn servers_and_their_words_are_left_alone() {
    let nfs = spec("files:/data/A/", "nfs", &["vers=4", "rsize=1048576", "soft", "noexec", "_netdev"]);
    let line = "0:60 / /srv/m rw,noexec,relatime - nfs4 files:/data/A rw,sync,vers=4.2,rsize=262144,hard,addr=10.0.0.1";
    assert_eq!(diff(&nfs, &seen(&nfs, Source::Word, &[line])), None);
    let other = line.replace("/data/A", "/data/B");
    assert_eq!(
        diff(&nfs, &seen(&nfs, Source::Word, &[&other])).unwrap().unmount,
        1,
        "another folder of the same server"
    );
    let ext4 = spec("/dev/sdb", "ext4", &["errors=remount-ro", "data=ordered", "discard", "commit=30"]);
    let device = Source::Device { path: "/dev/sdb".into(), number: "8:16".into() };
    let hidden = "8:16 / /srv/m rw,relatime - ext4 /dev/sdb rw,commit=30";
    assert_eq!(diff(&ext4, &seen(&ext4, device.clone(), &[hidden])), None, "what is its default is not shown");
    let by_hand = "8:16 / /srv/m rw,relatime - ext4 /dev/sdb rw,nodiscard,errors=continue,commit=5";
    let (options, _) = remounts(diff(&ext4, &seen(&ext4, device, &[by_hand])));
    assert_eq!(options, "rw,suid,dev,exec,diratime,relatime,discard,errors=remount-ro,commit=30");
    let ramfs = spec("ramfs", "ramfs", &["size=1g"]);
    assert_eq!(diff(&ramfs, &seen(&ramfs, Source::Word, &["0:61 / /srv/m rw,relatime - ramfs ramfs rw"])), None);
    let iso = spec("/dev/sr0", "iso9660", &[]);
    let device = Source::Device { path: "/dev/sr0".into(), number: "11:0".into() };
    assert_eq!(diff(&iso, &seen(&iso, device, &["11:0 / /srv/m ro,relatime - iso9660 /dev/sr0 ro"])), None);
}

#[test]
fn a_bind_mount_has_the_options_of_where_its_source_lies() {
    let line = |flags: &str| format!("8:1 /srv/b /srv/m {flags} - ext4 /dev/sda1 rw,sync");
    let differs = |options: &[&str], flags: &str| {
        let spec = spec("/srv/b", "none", options);
        let change = diff(&spec, &seen(&spec, folder("/srv/b", "rw,nosuid,nodev,noatime"), &[&line(flags)]));
        change.map(|change| (change.then, change.detail.join("; ")))
    };
    assert_eq!(differs(&["bind"], "rw,nosuid,nodev,noatime"), None);
    let (then, detail) = differs(&["bind"], "ro,nodev,noatime").unwrap();
    assert_eq!(detail, "ro → rw; suid → nosuid");
    assert_eq!(then, Then::Remount("bind,rw,nosuid,nodev,exec,diratime,noatime".into()));
    // Where one is written, programs differ in what becomes of the others.
    assert_eq!(differs(&["bind", "ro"], "ro,nosuid,nodev,noatime"), None);
    assert_eq!(differs(&["bind", "ro"], "ro,relatime"), None);
    assert_eq!(differs(&["bind", "ro"], "rw,noexec,relatime").unwrap().1, "rw → ro; noexec → exec");
}

#[test]
fn absent_takes_all_that_is_there_in_one_go() {
    let gone = MountSpec { absent: true, ..spec("tmpfs", "tmpfs", &[]) };
    let line = "0:40 / /srv/m rw,relatime - tmpfs tmpfs rw";
    let mut observed = seen(&gone, Source::Word, &[line, line, line]);
    let change = diff(&gone, &observed).unwrap();
    assert_eq!((change.unmount, change.action(), change.disrupts()), (3, Action::Remove, Disrupts::Service));
    assert_eq!(change.fstab.as_ref().unwrap().edit(&observed.fstab).unwrap().text, b"");
    observed.stack.clear();
    assert_eq!(diff(&gone, &observed).unwrap().disrupts(), Disrupts::Nothing, "only its line");
    observed.fstab.clear();
    assert_eq!(diff(&gone, &observed), None);
}

#[test]
fn what_waits_for_its_first_use_counts_as_mounted() {
    let lazy = spec("files:/a", "nfs", &["noauto", "x-systemd.automount"]);
    let armed = "0:70 / /srv/m rw,relatime - autofs systemd-1 rw,fd=1";
    assert_eq!(diff(&lazy, &seen(&lazy, Source::Word, &[armed])), None);
    let used = "0:71 / /srv/m rw,relatime - nfs4 files:/a rw";
    assert_eq!(diff(&lazy, &seen(&lazy, Source::Word, &[armed, used])), None);
    assert_eq!(diff(&lazy, &seen(&lazy, Source::Word, &[])), None, "only whoever asks for it mounts it");
    let eager = spec("files:/a", "nfs", &["x-systemd.automount"]);
    assert_eq!(diff(&eager, &seen(&eager, Source::Word, &[])).unwrap().then, Then::Mount("x-systemd.automount".into()));
}

#[test]
fn the_line_in_fstab_is_found_by_every_name_of_the_path() {
    let linked = MountSpec { path: "/var/run/x".into(), ..spec("tmpfs", "tmpfs", &[]) };
    let mut observed = seen(&linked, Source::Word, &["0:40 / /srv/m rw,relatime - tmpfs tmpfs rw"]);
    observed.fstab = b"tmpfs /run/x/ tmpfs defaults 0 0\n".to_vec();
    observed.spellings = vec!["/run/x".into()];
    assert_eq!(diff(&linked, &observed), None);
    observed.fstab = b"tmpfs /run/x tmpfs ro 0 0\n/swap none swap sw 0 0\n".to_vec();
    let change = diff(&linked, &observed).unwrap();
    assert_eq!(change.detail, ["- tmpfs /run/x tmpfs ro 0 0", "+ tmpfs /var/run/x tmpfs defaults 0 0"]);
    let fstab = change.fstab.unwrap();
    let text = fstab.edit(&observed.fstab).unwrap().text;
    assert_eq!(text, b"tmpfs /var/run/x tmpfs defaults 0 0\n/swap none swap sw 0 0\n");
    assert_eq!(fstab.undo(&text).unwrap().text, observed.fstab);
}

#[test]
fn an_option_that_cannot_be_compared_is_said_to_count_later() {
    let spec = spec("/dev/sdb", "ext4", &["noatime", "journal_checksum"]);
    let device = Source::Device { path: "/dev/sdb".into(), number: "8:16".into() };
    let mut observed = seen(&spec, device, &["8:16 / /srv/m rw,noatime - ext4 /dev/sdb rw"]);
    observed.fstab = b"/dev/sdb /srv/m ext4 usrquota,nofail 0 2\n".to_vec();
    let change = diff(&spec, &observed).unwrap();
    assert_eq!(change.then, Then::Nothing);
    assert_eq!(change.detail.last().unwrap(), "counts from the next mount: no usrquota, journal_checksum");
}
