//! `[[directory]]`: a folder with this owner and mode.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Place, Presence, SecretName, Signal, owned};

/// A folder. Owner, group and mode count; what is in it is left alone, unless `purge` is set, and so is its access control list. What
/// is there and no folder is an error. Parents are made as needed (`0755`, root) and belong to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a directory")]
#[serde(deny_unknown_fields)]
pub struct DirectorySpec {
    /// On the node.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    #[serde(default = "mode")]
    #[schemars(extend("format" = "mode"))]
    pub mode: String,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub owner: String,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub group: String,
    /// True removes what is in the folder and in no resource. Left alone are other file systems and what is mounted in it, what any
    /// resource of the node owns (homes, what a command `creates`, volumes of containers, what a mount shows, files of keys), homes of
    /// the node's accounts, sockets that a program holds, and files in use as disks or swap space. The plan names what goes. Where
    /// something of it is immutable (`chattr`), nothing goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purge: bool,
    /// True removes the folder; it must be empty or `purge` be set. What a purge would leave alone forbids the removal: then nothing
    /// goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn mode() -> String {
    "0755".to_owned()
}

impl Kind for DirectorySpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(&self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = owned(&self.path, &self.owner, &self.group);
        if !self.absent {
            // What is mounted there has a root folder of its own, which is then the folder.
            needs.push(Need::Named("mount", self.path.clone()));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(&self.path)]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::File
    }

    fn signals(&self) -> Vec<Signal> {
        let mut signals = vec![Signal::Path(self.path.clone())];
        if self.purge && !self.absent {
            signals.push(Signal::Inside(self.path.clone()));
        }
        signals
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place { path: &self.path, holds: true })
    }

    fn faults(&self) -> Vec<Fault> {
        let key = match (self.purge, self.absent) {
            (true, false) => "purge",
            (_, true) => "absent",
            (false, false) => return Vec::new(),
        };
        let fault = |label: &str| Fault::new(key, format!("`{key}` would empty {}", self.path), label);
        if is_system(&self.path) {
            return vec![fault("the node needs what is in there").help("name the folders in it that are yours")];
        }
        if key == "purge" && plain(&self.path).strip_prefix("/home/").is_some_and(|name| !name.contains('/')) {
            let help = "name the folders in it that are yours; where its user is gone, `absent = true` removes it";
            return vec![fault("it is somebody's home").help(help)];
        }
        Vec::new()
    }
}

/// Without slashes at its end, doubled ones and dots.
fn plain(path: &str) -> Cow<'_, str> {
    // As nearly all are.
    if path.strip_prefix('/').is_some_and(|path| path.split('/').all(|name| !["", ".", ".."].contains(&name))) {
        return Cow::Borrowed(path);
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Cow::Owned(format!("/{}", names.join("/")))
}

/// Folders of which no node can do without what is in them: as the Filesystem Hierarchy Standard names them, with those of
/// Debian's package management, systemd, Kubernetes, containers and muster itself.
const SYSTEM: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/boot/efi",
    "/boot/grub",
    "/etc",
    "/etc/apt",
    "/etc/default",
    "/etc/kubernetes",
    "/etc/kubernetes/pki",
    "/etc/muster",
    "/etc/network",
    "/etc/pam.d",
    "/etc/security",
    "/etc/ssh",
    "/etc/ssl",
    "/etc/ssl/certs",
    "/etc/systemd",
    "/etc/systemd/system",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/run/lock",
    "/run/systemd",
    "/sbin",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib/systemd",
    "/usr/lib/systemd/system",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/libx32",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/apt",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/muster",
    "/var/lib/muster-agent",
    "/var/lib/systemd",
    "/var/lock",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Whether the system needs what is in the folder.
pub fn is_system(path: &str) -> bool {
    let path = plain(path);
    // The kernel's own: all that is in there.
    let kernel = ["/dev", "/proc", "/sys"]
        .iter()
        .any(|top| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    kernel || SYSTEM.binary_search(&&*path).is_ok()
}

/// What is wrong with a path at which something else than a folder is written.
pub(super) fn no_file_at(path: &str) -> Option<Fault> {
    let path = plain(path);
    if SYSTEM.binary_search(&&*path).is_ok() || ["/dev", "/proc", "/sys"].contains(&&*path) {
        return Some(Fault::new("path", format!("{path} is a folder of the system"), "expected a path below it"));
    }
    let kernel = ["/proc/", "/sys/"].iter().any(|top| path.starts_with(top));
    kernel.then(|| {
        Fault::new("path", format!("{path} is the kernel's"), "no file is made there")
            .help("write a [[sysctl]], or a [[command]] with a guard")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_folders_are_known_however_they_are_written() {
        assert!(SYSTEM.is_sorted());
        for path in
            ["/", "//", "/etc", "/etc/", "//etc//", "/srv/../etc", "/etc/.", "/../var/lib", "/proc/1/x", "/dev/shm"]
        {
            assert!(is_system(path), "{path}");
        }
        for path in ["/etc/x.d", "/devices", "/srv/etc", "/etcetera", "/var/lib/app", "/data"] {
            assert!(!is_system(path), "{path}");
        }
    }

    #[test]
    fn a_home_is_not_purged() {
        let spec = |path: &str, purge, absent| DirectorySpec {
            path: path.into(),
            mode: mode(),
            owner: "root".into(),
            group: "root".into(),
            purge,
            absent,
        };
        let faults = |path: &str, purge, absent| spec(path, purge, absent).faults().len();
        assert_eq!(
            (faults("/home/max", true, false), faults("/home/max/", true, false), faults("/root", true, false)),
            (1, 1, 1)
        );
        assert_eq!((faults("/home/max", true, true), faults("/home/max/.config/x", true, false)), (0, 0));
        assert_eq!((faults("/etc", false, false), faults("/etc", false, true)), (0, 1));
    }
}
