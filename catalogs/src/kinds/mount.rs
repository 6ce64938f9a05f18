//! `[[mount]]`: a mounted file system, now and after a reboot (a systemd mount unit's fstab line).

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Leads, Need, Owned, Place, Presence, SecretName, Signal};

/// A file system that is mounted, with a line in `/etc/fstab` for the next boot.
///
/// What the kernel has mounted there is compared with what is written: the device and the folder of it, or for a bind mount those of its source; the type; and the
/// options `ro`, `nosuid`, `nodev`, `noexec`, `nosymfollow`, `noatime` and its kind, `sync`, `lazytime`, the propagation (`shared`, …), of tmpfs `size`,
/// `nr_inodes`, `mode`, `uid` and `gid`, `discard`, `errors` and `commit` of ext4. What of these is not written is the default: a remount by
/// hand with `ro` is put back. Options of other file systems are in words of their own and count from the next mount; those for programs
/// (`nofail`, `_netdev`, `x-systemd.…`) are in fstab alone. Another device, source or type is unmounted and mounted anew, which takes a turn;
/// what is in use is named and left. With `noauto` only the line is kept.
///
/// In fstab a line for the same path is changed in its place, and keeps its numbers for dump and fsck. All other lines stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a mount")]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// The folder to mount it at, made where it is missing. None that the node itself lives in, as `/`, `/etc` or `/usr`.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// What: a device, `UUID=…`, `LABEL=…`, `host:/folder`, `tmpfs`, or a folder with the option `bind`.
    pub source: String,
    #[serde(default = "auto")]
    #[schemars(extend("format" = "word"))]
    pub fstype: String,
    /// As in mount(8).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// True unmounts all that is mounted at the path, and takes its line out of fstab. The folder stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn auto() -> String {
    "auto".to_owned()
}

impl MountSpec {
    /// The options one by one, also of texts that hold several. Commas between quotes part nothing.
    pub fn words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        for text in &self.options {
            let mut quoted = false;
            let parts = text.split(|c: char| {
                quoted ^= c == '"';
                c == ',' && !quoted
            });
            words.extend(parts.map(str::trim).filter(|word| !word.is_empty()));
        }
        words
    }

    /// Its source is a folder of the node.
    pub fn binds(&self) -> bool {
        self.words().iter().any(|word| matches!(*word, "bind" | "rbind"))
    }

    /// The folders and files of the node that are seen in it: what is bound, an image, the layers of an overlay.
    fn shows(&self) -> Vec<&str> {
        let of_a_node = |path: &&str| path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/dev/");
        let layers = |word| ["lowerdir=", "upperdir=", "workdir="].iter().find_map(|key| str::strip_prefix(word, key));
        let words = self.words();
        let layers = words.into_iter().filter_map(layers).flat_map(|paths| paths.split(':'));
        std::iter::once(self.source.as_str()).chain(layers).filter(of_a_node).collect()
    }

    /// The mode or owner of its root folder is an option of the file system.
    fn sets_attributes(&self) -> bool {
        let memory = matches!(self.fstype.as_str(), "tmpfs" | "ramfs");
        memory && self.words().iter().any(|word| ["mode=", "uid=", "gid="].iter().any(|key| word.starts_with(key)))
    }
}

/// The node lives in this folder: nothing is mounted over it, and it is not unmounted.
pub fn is_essential(path: &str) -> bool {
    const FOLDERS: &[&str] = &[
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/sys",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/lib/systemd",
        "/usr/sbin",
        "/var",
        "/var/cache",
        "/var/lib",
        "/var/lib/dpkg",
        "/var/lib/muster-agent",
    ];
    FOLDERS.contains(&path) || path.starts_with("/proc/")
}

/// Two options of which the kernel would take the last: each look would find the other missing.
fn contradicting(words: &[&str]) -> Option<Fault> {
    const PAIRS: &[(&str, &str)] =
        &[("ro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("sync", "async")];
    const ONCE: &[&str] = &["size=", "nr_inodes=", "mode=", "uid=", "gid="];
    let pair = PAIRS.iter().find(|(one, other)| words.contains(one) && words.contains(other)).copied();
    let twice = || {
        let of = |key: &'_ &str| words.iter().filter(|word| word.starts_with(key)).copied().collect::<Vec<_>>();
        ONCE.iter().map(of).find(|found| found.iter().any(|word| *word != found[0])).map(|found| (found[0], found[1]))
    };
    let (one, other) = pair.or_else(twice)?;
    Some(Fault::new("options", format!("`{one}` and `{other}` contradict each other"), "expected one of the two"))
}

impl Kind for MountSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::new("mount at", &self.path)];
        if self.sets_attributes() && !self.absent {
            // A folder resource sets them, too.
            claims.push(Claim::path(&self.path));
        }
        claims
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Above(self.path.clone())];
        if self.absent {
            // Turned round, as all needs of what goes: unmounted before the folder goes.
            needs.push(Need::Named("directory", self.path.clone()));
        }
        if self.source.starts_with('/') {
            needs.push(Need::Above(self.source.clone()));
            needs.push(Need::Named("directory", self.source.clone()));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        let mut owned = vec![Owned::tree(&self.path)];
        owned.extend(self.shows().into_iter().map(Owned::tree));
        owned
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path("/etc/fstab".to_owned()), Signal::Mounts]
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place { path: &self.path, holds: true })
    }

    fn leads(&self) -> Option<Leads<'_>> {
        let bound = self.options.iter().flat_map(|option| option.split(',')).any(|o| o == "bind" || o == "rbind");
        (bound && !self.absent).then_some(Leads { path: &self.path, to: self.source.clone() })
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if is_essential(&self.path) {
            faults.push(
                Fault::new("path", format!("nothing is mounted at {}", self.path), "the node lives in there")
                    .help("mount it elsewhere, and bind or link what belongs there"),
            );
        }
        let words = self.words();
        let binds = self.binds();
        if self.source.trim().is_empty() || self.source.contains(char::is_control) {
            faults.push(Fault::new(
                "source",
                "the source is empty or of several lines",
                "expected what is to be mounted",
            ));
        } else if binds && !self.source.starts_with('/') {
            faults.push(
                Fault::new("source", format!("`{}` cannot be bound", self.source), "expected a folder of the node")
                    .help("a bind mount shows a folder at a second place: name it with its whole path"),
            );
        }
        let word = !self.source.contains(['/', '=', ':']);
        if self.fstype == "auto" && word && !binds && !self.absent && !self.source.trim().is_empty() {
            faults.push(
                Fault::new("source", format!("`{}` is no device", self.source), "expected `fstype` with it")
                    .help("what has no device needs its type: `fstype = \"tmpfs\"`"),
            );
        }
        if self.fstype == "swap" {
            faults.push(
                Fault::new("fstype", "swap is not mounted", "expected a file system").help("write it as a [[swap]]"),
            );
        }
        if binds && !matches!(self.fstype.as_str(), "auto" | "none") {
            faults.push(
                Fault::new("fstype", "a bind mount has no type of its own", "expected \"none\"")
                    .help("it is what its source is; take out `fstype`, or `bind`"),
            );
        }
        faults.extend(contradicting(&words));
        for word in words {
            if word.contains(char::is_whitespace) {
                faults.push(
                    Fault::new("options", format!("`{word}` holds a blank"), "expected options of mount(8)")
                        .help("give each option an entry of its own; the numbers for dump and fsck are no options"),
                );
            } else if matches!(word, "remount" | "move") {
                faults.push(Fault::new(
                    "options",
                    format!("`{word}` is something to do"),
                    "expected how it is mounted",
                ));
            }
        }
        faults
    }
}
