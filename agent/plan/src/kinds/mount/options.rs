//! Options of a mount: which of those that are written can be compared with what the kernel shows, and how.
//!
//! | option | shown | compared |
//! |---|---|---|
//! | `ro`, `nosuid`, `nodev`, `noexec`, `nosymfollow`, `nodiratime` and their opposites | of the mount; `ro` of the file system, too | always: what is not written is `rw`, `suid`, `dev`, `exec` |
//! | `noatime`, `relatime`, `strictatime` | of the mount; `strictatime` as none of the others | always: what is not written is `relatime` (the kernel's default since 2.6.30) |
//! | `user`, `users`, `owner`, `group` | as what they imply: `nosuid`, `nodev`, and `noexec` for the first two | always, as that |
//! | `sync`, `lazytime` | of the file system | unless a server or a program serves it; `lazytime` not of f2fs, whose default it is |
//! | `shared`, `slave`, `private`, `unbindable`, also with `r` before | as optional fields | where written |
//! | tmpfs: `size`, `nr_inodes` | in kilobytes, a number; not shown where default | `size` always (half of the memory where not written), `nr_inodes` where written |
//! | tmpfs, ramfs: `mode`, `uid`, `gid` | as they were when mounted | where written, at the root folder itself: a remount does not change them (tmpfs(5)) |
//! | ext2, ext3, ext4, xfs: `discard` | where it is not the default | always |
//! | ext2, ext3, ext4: `errors`, `commit` | where it is not the default of that file system | where written and shown |
//! | overlay: `lowerdir`, `upperdir`, `workdir`; btrfs: `subvol` | of the file system, and as the mount's root | always: another one is another mount |
//! | `defaults`, `auto`, `noauto`, `nofail`, `_netdev`, `nouser`, `comment=`, `loop`, `x-…`, `X-…` | never: they are for programs | in fstab alone |
//! | all others | in words of each file system, or not at all | in fstab alone |
//!
//! Of a bind mount only the options of the mount are its own. One that is written with none of them takes those of the mount that
//! its source lies in. With some, what is not written may be as there or the default: mount(8) before 2.39 resets it, and later ones do not.
//!
//! Sources: mount(8) "FILESYSTEM-INDEPENDENT MOUNT OPTIONS", proc_pid_mountinfo(5), mount(2), tmpfs(5), ext4(5), xfs(5), and the kernel's
//! `show_options` of each file system.

use muster_catalog::kinds::mount::MountSpec;

use crate::mounts::{Mount, Shown};

/// Flags of a mount: the word where it is set, and where it is not.
const FLAGS: [(&str, &str); 6] = [
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("nosymfollow", "symfollow"),
    ("nodiratime", "diratime"),
];
const READ_ONLY: usize = 0;
const NO_SYMFOLLOW: usize = 4;

/// When access times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Atime {
    Never,
    Relative,
    Always,
}

impl Atime {
    fn word(self) -> &'static str {
        match self {
            Self::Never => "noatime",
            Self::Relative => "relatime",
            Self::Always => "strictatime",
        }
    }

    fn of(shown: &Shown) -> Self {
        match (shown.contains_key("noatime"), shown.contains_key("relatime")) {
            (true, _) => Self::Never,
            (false, true) => Self::Relative,
            (false, false) => Self::Always,
        }
    }
}

/// Options as they are written, the later one of two counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written<'a> {
    pub words: Vec<&'a str>,
    flags: [Option<bool>; FLAGS.len()],
    atime: Option<Atime>,
    sync: bool,
    lazytime: bool,
    pub bind: bool,
    /// Mounted by whoever asks for it.
    pub noauto: bool,
    /// systemd mounts it when it is used.
    pub automount: bool,
    pub propagation: Option<&'a str>,
}

impl<'a> Written<'a> {
    pub fn of(spec: &'a MountSpec) -> Self {
        let mut all = Self { words: spec.words(), ..Self::default() };
        let (mut strict, mut never) = (false, false);
        for word in all.words.clone() {
            if let Some(flag) = FLAGS.iter().position(|(on, off)| word == *on || word == *off) {
                all.flags[flag] = Some(word == FLAGS[flag].0);
                continue;
            }
            match word {
                "user" | "users" => all.imply(&["nosuid", "nodev", "noexec"]),
                "owner" | "group" => all.imply(&["nosuid", "nodev"]),
                "noatime" | "atime" => never = word == "noatime",
                "strictatime" | "nostrictatime" => strict = word == "strictatime",
                "sync" | "async" => all.sync = word == "sync",
                "lazytime" | "nolazytime" => all.lazytime = word == "lazytime",
                "bind" | "rbind" => all.bind = true,
                "noauto" | "auto" => all.noauto = word == "noauto",
                "x-systemd.automount" | "comment=systemd.automount" => all.automount = true,
                "shared" | "slave" | "private" | "unbindable" | "rshared" | "rslave" | "rprivate" | "runbindable" => {
                    all.propagation = Some(word);
                }
                _other => {}
            }
            if matches!(word, "noatime" | "atime" | "relatime" | "norelatime" | "strictatime" | "nostrictatime") {
                // As the kernel takes the three flags together.
                let kept = if never { Atime::Never } else { Atime::Relative };
                all.atime = Some(if strict { Atime::Always } else { kept });
            }
        }
        all
    }

    fn imply(&mut self, words: &[&str]) {
        for (flag, (on, _)) in FLAGS.iter().enumerate() {
            if words.contains(on) {
                self.flags[flag] = Some(true);
            }
        }
    }

    /// The value of the last `name=value`.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        let value = |word: &&'a str| word.strip_prefix(name)?.strip_prefix('=');
        self.words.iter().rev().find_map(value).map(|value| value.trim_matches('"'))
    }

    fn any_flag(&self) -> bool {
        self.atime.is_some() || self.flags.iter().any(Option::is_some)
    }

    /// Whether the propagation is another than written.
    pub fn propagates_otherwise(&self, mount: &Mount) -> bool {
        self.propagation.is_some_and(|word| match word.strip_prefix('r').unwrap_or(word) {
            "shared" => !mount.shared,
            "slave" => !mount.slave || mount.shared,
            "unbindable" => !mount.unbindable,
            _private => mount.shared || mount.slave || mount.unbindable,
        })
    }
}

/// What differs, for people, and what a remount must be told to mend it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    pub detail: Vec<String>,
    /// All flags of the mount as they are wanted, and what differs of the file system: for mount(8) before and after 2.39.
    pub options: Vec<String>,
}

/// Read-only by nature, whatever is written.
const READ_ONLY_TYPES: &[&str] = &["cramfs", "erofs", "iso9660", "romfs", "squashfs"];
/// A server or a program has a say in their options.
const SERVED: &[&str] = &["9p", "afs", "ceph", "cifs", "fuse", "fuseblk", "nfs", "nfs4", "smb3", "virtiofs"];

/// Whether a server or a program stands behind it, which may not answer.
pub fn served(fstype: &str) -> bool {
    SERVED.contains(&fstype) || fstype.starts_with("fuse.")
}

/// Compares what is written with what the kernel shows of this mount. `inside` are the options of the mount that a bind mount's source
/// lies in; `memory` is the node's, in bytes.
pub fn compare(written: &Written<'_>, mount: &Mount, inside: Option<&Shown>, memory: u64) -> Difference {
    let mut found = Difference::default();
    let inherits = written.bind && !written.any_flag();
    for (flag, (on, off)) in FLAGS.iter().enumerate() {
        let mut shown = mount.options.contains_key(*on);
        let mut wanted = written.flags[flag].unwrap_or(false);
        if flag == READ_ONLY && !written.bind {
            shown |= mount.superblock.contains_key("ro");
            wanted |= written.flags[flag].is_none() && READ_ONLY_TYPES.contains(&mount.fstype.as_str());
        }
        if let (None, Some(inside)) = (written.flags[flag], inside) {
            let there = inside.contains_key(*on);
            wanted = if inherits || shown == there { there } else { wanted };
        }
        let word = |set: bool| if set { *on } else { *off };
        if shown != wanted {
            found.detail.push(format!("{} → {}", word(shown), word(wanted)));
        }
        if flag != NO_SYMFOLLOW || wanted || shown {
            found.options.push(word(wanted).to_owned());
        }
    }
    let shown = Atime::of(&mount.options);
    let mut wanted = written.atime.unwrap_or(Atime::Relative);
    if let (None, Some(inside)) = (written.atime, inside) {
        let there = Atime::of(inside);
        wanted = if inherits || shown == there { there } else { wanted };
    }
    if shown != wanted {
        found.detail.push(format!("{} → {}", shown.word(), wanted.word()));
    }
    found.options.push(wanted.word().to_owned());
    if !written.bind && !served(&mount.fstype) {
        superblock(written, mount, memory, &mut found);
    }
    found
}

fn superblock(written: &Written<'_>, mount: &Mount, memory: u64, found: &mut Difference) {
    let shown = &mount.superblock;
    let mut flag = |on: &'static str, off: &'static str, shown: bool, wanted: bool| {
        let word = |set: bool| if set { on } else { off };
        if shown != wanted {
            found.detail.push(format!("{} → {}", word(shown), word(wanted)));
            found.options.push(word(wanted).to_owned());
        }
    };
    flag("sync", "async", shown.contains_key("sync"), written.sync);
    if mount.fstype != "f2fs" {
        flag("lazytime", "nolazytime", shown.contains_key("lazytime"), written.lazytime);
    }
    let ext = matches!(mount.fstype.as_str(), "ext2" | "ext3" | "ext4");
    if ext || mount.fstype == "xfs" {
        let last = written.words.iter().rev().find(|word| matches!(**word, "discard" | "nodiscard"));
        let wanted = last == Some(&"discard");
        // Where tune2fs made it the default, ext4 shows only that it is off.
        let discards = if ext && wanted { !shown.contains_key("nodiscard") } else { shown.contains_key("discard") };
        flag("discard", "nodiscard", discards, wanted);
    }
    if ext {
        for name in ["errors", "commit"] {
            if let (Some(wanted), Some(Some(shown))) = (written.value(name), shown.get(name))
                && wanted != shown
            {
                found.detail.push(format!("{name}={shown} → {name}={wanted}"));
                found.options.push(format!("{name}={wanted}"));
            }
        }
    }
    if mount.fstype == "tmpfs" {
        tmpfs(written, shown, memory, found);
    }
}

fn tmpfs(written: &Written<'_>, shown: &Shown, memory: u64, found: &mut Difference) {
    let half = "50%";
    let (size, share) = match written.value("size") {
        Some(text) => (text, text.ends_with('%')),
        None => (half, true),
    };
    let value = |name: &str| shown.get(name).and_then(Option::as_deref);
    let shown_size = value("size").map_or(Some(memory / 2), bytes);
    let wanted = match size.strip_suffix('%') {
        Some(percent) => percent.parse::<u64>().ok().map(|percent| memory / 100 * percent),
        None => bytes(size),
    };
    // Rounded up to pages, of up to 64 KiB; and a share of a memory that is counted a little differently.
    let slack = |wanted: u64| if share { (wanted / 100).max(PAGE) } else { PAGE };
    let equal = |one: u64, other: u64| one.abs_diff(other) < slack(one) && (one == 0) == (other == 0);
    if let (Some(wanted), Some(shown)) = (wanted, shown_size)
        && memory > 0
        && !equal(wanted, shown)
    {
        found.detail.push(format!("size={} → size={size}", value("size").unwrap_or(half)));
        found.options.push(format!("size={size}"));
    }
    if let (Some(wanted), Some(shown)) = (written.value("nr_inodes"), value("nr_inodes"))
        && bytes(wanted) != bytes(shown)
    {
        found.detail.push(format!("nr_inodes={shown} → nr_inodes={wanted}"));
        found.options.push(format!("nr_inodes={wanted}"));
    }
}

const PAGE: u64 = 64 * 1024;

/// A number with a unit as the kernel reads it: `1m`, `1024K`, `0x400`.
pub fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['k', 'm', 'g', 't', 'p', 'e']);
    let shift = match lower.strip_prefix(digits)? {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        // A hexadecimal number ends with this digit, too; nobody has an exbibyte of memory.
        _other => return None,
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

/// Options that are in one of two lines of fstab and not in the other, and that are neither compared nor for programs alone.
pub fn uncompared(before: &str, wanted: &str, fstype: &str) -> Vec<String> {
    let words =
        |text: &str| text.split(',').filter(|word| !is_compared(word, fstype)).map(str::to_owned).collect::<Vec<_>>();
    let (before, wanted) = (words(before), words(wanted));
    let gone = before.iter().filter(|word| !wanted.contains(word));
    let came = wanted.iter().filter(|word| !before.contains(word));
    gone.map(|word| format!("no {word}")).chain(came.cloned()).collect()
}

fn is_compared(word: &str, fstype: &str) -> bool {
    const WORDS: &[&str] = &[
        "_netdev",
        "async",
        "atime",
        "auto",
        "bind",
        "defaults",
        "group",
        "lazytime",
        "loop",
        "noatime",
        "noauto",
        "nofail",
        "nolazytime",
        "norelatime",
        "nostrictatime",
        "nouser",
        "owner",
        "private",
        "rbind",
        "relatime",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "shared",
        "slave",
        "strictatime",
        "sync",
        "unbindable",
        "user",
        "users",
    ];
    let key = word.split_once('=').map_or(word, |(key, _)| key);
    let flag = FLAGS.iter().any(|(on, off)| word == *on || word == *off);
    let of_type = match fstype {
        "tmpfs" | "ramfs" => matches!(key, "size" | "nr_inodes" | "mode" | "uid" | "gid"),
        "ext2" | "ext3" | "ext4" => matches!(key, "discard" | "nodiscard" | "errors" | "commit"),
        "xfs" => matches!(key, "discard" | "nodiscard"),
        "overlay" => matches!(key, "lowerdir" | "upperdir" | "workdir"),
        "btrfs" => key == "subvol",
        _other => false,
    };
    flag || of_type || WORDS.contains(&word) || word.starts_with("x-") || word.starts_with("X-") || key == "comment"
}
