//! `[[mount]]`: the difference of what is mounted and of its line in `/etc/fstab`.
//!
//! What is mounted is the same where it is the same file system and the same folder of it (`same`); then only its options may differ, which
//! a remount mends without a loss. Anything else at the path is unmounted, as far down as there is nothing that is the same.

mod options;
#[cfg(test)]
mod tests;

use muster_catalog::kinds::{mount::MountSpec, service::Disrupts};

use self::options::{Written, compare, uncompared};
pub use self::options::{bytes, served};
use super::Describe;
use crate::{
    fstab::{self, Line},
    mounts::{Mount, Shown, clean},
    row::Action,
};

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The path with its links followed, as the kernel knows it.
    pub path: String,
    /// What is mounted there, the lowest first.
    pub stack: Vec<Mounted>,
    pub source: Source,
    /// The whole of `/etc/fstab`.
    pub fstab: Vec<u8>,
    /// Other paths in it that lead to the same place.
    pub spellings: Vec<String>,
    /// The node's memory in bytes, of which a tmpfs takes a share.
    pub memory: u64,
    /// Of the root folder of what is mounted.
    pub attributes: Option<Attributes>,
    /// What the names in `uid=` and `gid=` mean on this node.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Nothing is mounted yet, and the folder holds something.
    pub hides: bool,
    /// Why nothing is mounted or unmounted there: "/srv/x lies in a folder that others than root may change".
    pub refused: Option<String>,
}

/// One mount at the path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mounted {
    pub mount: Mount,
    /// Its source with links followed; of a loop device the file behind it.
    pub source: String,
}

/// What the source of the specification is on this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Source {
    /// No device: a server's folder, or just a word.
    #[default]
    Word,
    Device {
        path: String,
        /// Major and minor: "8:1".
        number: String,
    },
    /// A file with a file system in it.
    Image { path: String },
    /// A folder to bind: its file system, its place there, and the options of the mount that it lies in.
    Folder { device: String, root: String, options: Shown },
    /// A device or folder that is not there.
    Missing,
}

/// Of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What would be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The path with its links followed.
    pub path: String,
    /// So many mounts are taken off, the topmost first.
    pub unmount: usize,
    /// With all that a recursive bind mount brought along: its line says that it was one.
    pub recursive: bool,
    pub then: Then,
    pub propagation: Option<String>,
    pub attributes: Option<Attributes>,
    pub fstab: Option<Fstab>,
    pub detail: Vec<String>,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    Nothing,
    /// With these options, separated by commas.
    Mount(String),
    Remount(String),
}

/// What becomes of its line. The file is read again when it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fstab {
    pub wanted: Option<Line>,
    /// There was a line before: it has to be right before systemd hears of another mount at the path.
    pub before: Option<Line>,
    spellings: Vec<String>,
}

impl Fstab {
    /// The file with the line as wanted; none where it is so.
    pub fn edit(&self, text: &[u8]) -> Option<fstab::Edited> {
        fstab::edit(text, self.ours(), self.wanted.as_ref())
    }

    /// The file with the line as it was before.
    pub fn undo(&self, text: &[u8]) -> Option<fstab::Edited> {
        fstab::edit(text, self.ours(), self.before.as_ref())
    }

    fn ours(&self) -> impl Fn(&Line) -> bool + '_ {
        ours(&self.spellings)
    }
}

/// A line for one of these paths.
fn ours(spellings: &[String]) -> impl Fn(&Line) -> bool + '_ {
    move |line| line.fstype != "swap" && spellings.contains(&clean(&line.target))
}

impl Describe for Change {
    fn action(&self) -> Action {
        self.action
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }

    fn disrupts(&self) -> Disrupts {
        if self.unmount > 0 { Disrupts::Service } else { Disrupts::Nothing }
    }
}

/// The options as written to fstab.
pub fn options(spec: &MountSpec) -> String {
    if spec.options.is_empty() { "defaults".to_owned() } else { spec.options.join(",") }
}

pub fn diff(spec: &MountSpec, observed: &Observed) -> Option<Change> {
    let written = Written::of(spec);
    let mut change = Change {
        path: observed.path.clone(),
        unmount: 0,
        recursive: false,
        then: Then::Nothing,
        propagation: None,
        attributes: None,
        fstab: None,
        detail: Vec::new(),
        action: Action::Change,
    };
    // What waits for the mount at its first use lies below it, and stays while the mount is wanted.
    let armed = observed.stack.iter().take_while(|seen| !spec.absent && seen.mount.fstype == "autofs").count();
    let stack = &observed.stack[armed..];
    if spec.absent {
        change.action = Action::Remove;
        change.unmount = stack.len();
        let named = stack.iter().rev().map(|seen| format!("unmount {}", words(seen)));
        change.detail.extend(named);
    } else {
        live(spec, observed, &written, stack, armed > 0 && written.automount, &mut change);
    }
    line(spec, observed, &written, &mut change);
    let nothing = change.unmount == 0
        && change.then == Then::Nothing
        && change.propagation.is_none()
        && change.attributes.is_none()
        && change.fstab.is_none();
    if let Some(why) = &observed.refused {
        change.detail = vec![format!("it cannot be: {why}")];
    }
    (!nothing).then_some(change)
}

/// What is mounted, and what should be.
fn live(
    spec: &MountSpec,
    observed: &Observed,
    written: &Written<'_>,
    stack: &[Mounted],
    armed: bool,
    change: &mut Change,
) {
    let found = stack.iter().rposition(|seen| same(spec, observed, written, seen));
    change.unmount = found.map_or(stack.len(), |at| stack.len() - 1 - at);
    for seen in stack.iter().rev().take(change.unmount) {
        change.detail.push(format!("unmount {}", words(seen)));
    }
    let Some(seen) = found.map(|at| &stack[at]) else {
        if !(armed || written.noauto) {
            change.then = Then::Mount(options(spec));
            if stack.is_empty() {
                change.action = Action::Create;
            }
            change.detail.push(format!("mount {}", spec.source));
            if observed.hides {
                change.detail.push(format!("what is in {} now is hidden by it", observed.path));
            }
        }
        return;
    };
    let inside = match &observed.source {
        Source::Folder { options, .. } => Some(options),
        Source::Word | Source::Device { .. } | Source::Image { .. } | Source::Missing => None,
    };
    let differs = compare(written, &seen.mount, inside, observed.memory);
    if !differs.detail.is_empty() {
        change.then = Then::Remount(remount(written, differs.options));
        change.detail.extend(differs.detail);
    }
    if written.propagates_otherwise(&seen.mount)
        && let Some(word) = written.propagation
    {
        change.propagation = Some(word.to_owned());
        change.detail.push(format!("make it {word}"));
    }
    // Of what lies on top of it nothing is known of the folder below.
    if change.unmount == 0 {
        change.attributes = attributes(observed, written, &seen.mount, &mut change.detail);
    }
}

/// The line in fstab, and what a changed one means for what is mounted.
fn line(spec: &MountSpec, observed: &Observed, written: &Written<'_>, change: &mut Change) {
    let wanted = (!spec.absent).then(|| Line {
        source: spec.source.clone(),
        target: spec.path.clone(),
        fstype: spec.fstype.clone(),
        options: options(spec),
    });
    let mut spellings = vec![clean(&spec.path)];
    spellings.extend(observed.spellings.iter().cloned());
    let before =
        fstab::entries(&observed.fstab).into_iter().map(|entry| entry.line).find(|line| ours(&spellings)(line));
    let binds_all = |line: &Line| line.options.split(',').any(|word| word == "rbind");
    change.recursive = change.unmount > 0 && before.as_ref().is_some_and(binds_all);
    let fstab = Fstab { wanted, before, spellings };
    let Some(edited) = fstab.edit(&observed.fstab) else { return };
    change.detail.extend(edited.detail());
    let stays = change.unmount < observed.stack.len() && !matches!(change.then, Then::Mount(_));
    if let (Some(before), Some(wanted), true) = (&fstab.before, &fstab.wanted, stays && !written.bind) {
        let later = uncompared(&before.options, &wanted.options, &spec.fstype);
        if !later.is_empty() {
            change.detail.push(format!("counts from the next mount: {}", later.join(", ")));
        }
    }
    change.fstab = Some(fstab);
}

fn remount(written: &Written<'_>, options: Vec<String>) -> String {
    let bind = written.bind.then(|| "bind".to_owned());
    bind.into_iter().chain(options).collect::<Vec<_>>().join(",")
}

/// Whether this is the mount that is written, options aside.
fn same(spec: &MountSpec, observed: &Observed, written: &Written<'_>, seen: &Mounted) -> bool {
    let mount = &seen.mount;
    if written.bind {
        return matches!(&observed.source, Source::Folder { device, root, .. } if *device == mount.device && *root == mount.root);
    }
    if !same_type(&spec.fstype, &mount.fstype) {
        return false;
    }
    let memory = IN_MEMORY.contains(&mount.fstype.as_str());
    let source = match &observed.source {
        // A file system without a device: its name is but a word.
        Source::Word if memory => spec.fstype != "auto",
        Source::Word => mount.source.trim_end_matches('/') == spec.source.trim_end_matches('/'),
        Source::Device { path, number } => *number == mount.device || *path == seen.source,
        Source::Image { path } => *path == seen.source,
        Source::Folder { .. } => mount.source == spec.source,
        Source::Missing => false,
    };
    let identity = ["lowerdir", "upperdir", "workdir"].iter().all(|name| match written.value(name) {
        Some(wanted) if mount.fstype == "overlay" => {
            mount.superblock.get(*name).and_then(Option::as_deref).is_none_or(|shown| shown == wanted)
        }
        Some(_) | None => true,
    });
    source && identity && same_root(written, mount)
}

/// File systems that have no device, by the names of kernel and mount(8).
const IN_MEMORY: &[&str] = &[
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

fn same_root(written: &Written<'_>, mount: &Mount) -> bool {
    let root = mount.root.trim_matches('/');
    match mount.fstype.as_str() {
        // Its default may be any.
        "btrfs" => written.value("subvol").is_none_or(|wanted| wanted.trim_matches('/') == root),
        // A namespace of control groups has a root of its own, a server's folder is not told apart by all kernels.
        "cgroup" | "cgroup2" | "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" => true,
        _other => root.is_empty() || written.value("X-mount.subdir").is_some(),
    }
}

fn same_type(wanted: &str, shown: &str) -> bool {
    let fuse = |name: &str| shown == "fuseblk" || shown == "fuse" || shown.strip_prefix("fuse.") == Some(name);
    wanted.split(',').any(|wanted| match wanted {
        "auto" => true,
        "nfs" | "nfs4" => matches!(shown, "nfs" | "nfs4"),
        "cifs" | "smb3" | "smbfs" => matches!(shown, "cifs" | "smb3"),
        wanted => wanted == shown || fuse(wanted.strip_prefix("fuse.").unwrap_or(wanted)),
    })
}

/// Mode and owner of the root folder, where they are written and the file system has them as options.
fn attributes(
    observed: &Observed,
    written: &Written<'_>,
    mount: &Mount,
    detail: &mut Vec<String>,
) -> Option<Attributes> {
    let now = observed.attributes.filter(|_| matches!(mount.fstype.as_str(), "tmpfs" | "ramfs"))?;
    let mode = written.value("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let wanted = Attributes {
        mode: mode.map_or(now.mode, |mode| mode & 0o7777),
        uid: observed.uid.unwrap_or(now.uid),
        gid: observed.gid.unwrap_or(now.gid),
    };
    for (name, from, to) in [("owner", now.uid, wanted.uid), ("group", now.gid, wanted.gid)] {
        if from != to {
            detail.push(format!("{name} {from} → {to}"));
        }
    }
    if now.mode != wanted.mode {
        detail.push(format!("mode {:04o} → {:04o}", now.mode, wanted.mode));
    }
    (now != wanted).then_some(wanted)
}

/// A mount for people: "tmpfs (tmpfs)", "/dev/sda1 (ext4), its folder /srv/a".
fn words(seen: &Mounted) -> String {
    let Mount { source, fstype, root, .. } = &seen.mount;
    let folder = if root == "/" { String::new() } else { format!(", its folder {root}") };
    format!("{source} ({fstype}){folder}")
}
