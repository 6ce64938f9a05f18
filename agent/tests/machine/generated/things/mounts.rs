//! Mounts: options in words of their own, odd places, and lines that somebody had in fstab.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, list, sh, toml};

/// As written, as the kernel must have it.
const TMPFS: [(&[&str], &[&str]); 6] = [
    (&["size=1m"], &["size=1024k"]),
    (&["size=2m", "mode=0755"], &["size=2048k"]),
    (&["size=1m", "nosuid", "noexec", "nodev"], &["nosuid", "noexec", "nodev"]),
    (&["ro", "size=512k"], &["ro", "size=512k"]),
    (&["defaults", "nofail", "x-systemd.device-timeout=5", "size=1m"], &["rw"]),
    (&["noatime", "size=3m"], &["noatime", "size=3072k"]),
];

pub fn mount(tag: &str, dice: &mut Dice) -> Thing {
    let (written, real) = match dice.random_range(0..4) {
        0 => (format!("/srv/{tag}/m"), format!("/srv/{tag}/m")),
        1 => (format!("/srv/{tag}/a mount"), format!("/srv/{tag}/a mount")),
        // Below a link of root's.
        2 => (format!("/srv/{tag}/way/m"), format!("/var/lib/demo/{tag}-real/m")),
        _ => (format!("/srv/{tag}/ж"), format!("/srv/{tag}/ж")),
    };
    let at = sh(&real);
    let escaped = real.replace(' ', "\\040");
    let bind = dice.random_bool(0.4);
    let mut thing = Thing { prep: format!("mkdir -p {at}\n"), ..Thing::default() };
    if written != real {
        thing.prep.push_str(&format!("mkdir -p /srv/{tag}; ln -s /var/lib/demo/{tag}-real /srv/{tag}/way\n"));
    }
    let (source, fstype, options, says): (String, &str, Vec<&str>, Vec<&str>) = if bind {
        let source = format!("/var/lib/demo/{tag}");
        thing.prep.push_str(&format!("mkdir -p {0}; printf bound > {0}/which\n", sh(&source)));
        let (options, says): (&[&str], &[&str]) = pick(
            dice,
            &[
                (&["bind"][..], &["rw"][..]),
                (&["bind", "ro"], &["ro"]),
                (&["bind", "nosuid", "nodev"], &["nosuid", "nodev"]),
            ],
        );
        thing = thing.check(format!("cat {at}/which"), "bound").gone(format!("cat {}/which", sh(&source)), "bound");
        (source, "none", options.to_vec(), says.to_vec())
    } else {
        let (options, says) = pick(dice, &TMPFS);
        ("tmpfs".to_owned(), "tmpfs", options.to_vec(), says.to_vec())
    };
    match dice.random_range(0..5) {
        // A stranger's mount is there, or two.
        0 => thing.prep.push_str(&format!("mount -t tmpfs -o size=64k stranger {at}\n")),
        1 => thing.prep.push_str(&format!("mount -t tmpfs a {at}; mount -t tmpfs b {at}\n")),
        // A line for it by hand.
        2 => thing
            .prep
            .push_str(&format!("printf '%s\\n' 'tmpfs {escaped}/ tmpfs size=1m 0 0 # by hand' >> /etc/fstab\n")),
        _ => {}
    }
    let head = format!("[[mount]]\npath = {}\nsource = {}\nfstype = \"{fstype}\"\n", toml(&written), toml(&source));
    thing.present.push_str(&format!("{head}options = {}\n", list(&options)));
    thing.absent.push_str(&format!("{head}absent = true\n"));
    // The topmost one's line of the kernel's own table: its options, and after the dash those of its file system.
    let field = escaped.replace('\\', "\\\\");
    let top =
        format!("awk -v at='{field}' '$5==at{{l=$6 \",\" $NF}} END{{print l}}' /proc/self/mountinfo | tr ',' '\\n'");
    for option in says {
        thing = thing.check(format!("{top} | grep -qx -- {} && echo yes", sh(option)), "yes");
    }
    let lines = format!(
        "awk -v at='{field}' -v by='{}' '$2==at || $2==at \"/\" || $2==by' /etc/fstab | wc -l",
        written.replace(' ', "\\\\040")
    );
    thing
        .check(lines.clone(), "1")
        .gone(format!("findmnt --mountpoint {at} >/dev/null || echo none"), "none")
        .gone(lines, "0")
        .owns(format!("mount:{escaped}"))
        .owns(format!("fstab:tmpfs {escaped}"))
        .owns(format!("fstab:/var/lib/demo/{tag} {escaped}"))
        .owns(format!("path:{real}"))
        .owns(format!("fstab:tmpfs {written}"))
        .owns(format!("fstab:/var/lib/demo/{tag} {written}"))
        .owns(format!("unit:srv-{tag}"))
        .owns(format!("unit:var-lib-demo-{tag}"))
}

/// A mount on a mount, and a folder and a file in the inner one.
pub fn nested(tag: &str, dice: &mut Dice) -> Thing {
    let outer = format!("/srv/{tag}/outer");
    let inner = format!("{outer}/in/inner");
    let bind = dice.random_bool(0.5);
    let source = format!("/var/lib/demo/{tag}");
    let mut thing =
        Thing { prep: format!("mkdir -p {source} {outer}; printf hidden > {outer}/x\n"), ..Thing::default() };
    let (what, kind, options) = if bind { (source.as_str(), "none", "bind") } else { ("tmpfs", "tmpfs", "size=1m") };
    let mut heads = vec![
        (format!("[[mount]]\npath = \"{inner}\"\nsource = \"{what}\"\nfstype = \"{kind}\"\n"), options),
        (format!("[[mount]]\npath = \"{outer}\"\nsource = \"tmpfs\"\nfstype = \"tmpfs\"\n"), "mode=0755"),
    ];
    if dice.random_bool(0.5) {
        heads.reverse();
    }
    for (head, options) in heads {
        thing.present.push_str(&format!("{head}options = [\"{options}\"]\n"));
        thing.absent.push_str(&format!("{head}absent = true\n"));
    }
    if bind {
        // What is in it is on the disk, and outlives a boot.
        thing.present.push_str(&format!("[[file]]\npath = \"{inner}/deep/file\"\ncontent = \"x\"\n"));
        thing.absent.push_str(&format!("[[file]]\npath = \"{source}/deep/file\"\nabsent = true\n"));
        thing = thing
            .check(format!("cat {inner}/deep/file {source}/deep/file"), "xx")
            .gone(format!("cat {source}/deep/file 2>/dev/null || echo none"), "none");
    }
    let lines = format!("awk '$2~\"^{outer}\"{{print $2}}' /etc/fstab | sort | tr '\\n' ' '");
    let places = format!("awk '$5~\"^{outer}\"{{print $5}}' /proc/self/mountinfo | sort | tr '\\n' ' '");
    thing
        .check(places, format!("{outer} {inner}"))
        .check(lines.clone(), format!("{outer} {inner}"))
        .check(format!("stat --file-system --format %T {outer}"), "tmpfs")
        .gone(lines, "")
        .gone(format!("grep -c {outer} /proc/self/mountinfo; cat {outer}/x"), "0\nhidden")
        .owns(format!("mount:{outer}"))
        .owns(format!("fstab:tmpfs {outer}"))
        .owns(format!("fstab:{source} {outer}"))
        .owns(format!("path:{outer}"))
        .owns(format!("path:{source}/deep"))
        .owns(format!("unit:srv-{tag}"))
}
