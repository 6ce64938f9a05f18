//! The real mounts: the kernel's table, and mount(8) and umount(8), which know the helpers of file systems.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use muster_plan::mounts::{Table, unescape};
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};

use crate::ports::{Commands, Found, Invocation, MountError, Mounts, NewMount, User};

/// The mounts of this process's namespace.
pub struct RealMounts {
    commands: Arc<dyn Commands>,
}

impl RealMounts {
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands }
    }

    async fn run(&self, program: &'static str, path: &str, arguments: &[&str]) -> Result<(), MountError> {
        let argv = std::iter::once(program).chain(arguments.iter().copied());
        let output = self.commands.run(Invocation::new(argv)).await?;
        if output.success() {
            return Ok(());
        }
        let said = output.tail(4);
        if program == "umount" && said.contains("busy") {
            return Err(MountError::Busy { path: path.to_owned() });
        }
        let prefixes = [format!("{program}: "), format!("{path}: ")];
        let plain = |line: &str| {
            let mut line = line.trim();
            for prefix in &prefixes {
                line = line.strip_prefix(prefix.as_str()).unwrap_or(line);
            }
            line.to_owned()
        };
        let lines = said.lines().map(plain);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("dmesg(1)")).collect();
        let said = if lines.is_empty() { format!("status {}", output.status) } else { lines.join(" | ") };
        Err(MountError::Refused { program, path: path.to_owned(), said })
    }

    /// The path that a source names, if it names one: by udev's links, or where there are none by the signatures on the disks.
    async fn by_name(&self, source: &str) -> Option<String> {
        if source.starts_with('/') {
            return Some(source.to_owned());
        }
        let (folder, value) = TAGS.iter().find_map(|(tag, folder)| Some((folder, source.strip_prefix(tag)?)))?;
        let link = format!("/dev/disk/{folder}/{}", encode(value.trim_matches('"')));
        if fs::symlink_metadata(&link).is_ok() {
            return Some(link);
        }
        let found = self.commands.run(Invocation::new(["findfs", source]).read_only()).await.ok()?;
        Some(found.stdout().trim().to_owned()).filter(|path| found.success() && path.starts_with('/'))
    }
}

fn look<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    verb: &'static str,
    path: &str,
) -> impl FnOnce(E) -> MountError {
    move |source| MountError::Look { verb, path: path.to_owned(), source: source.into() }
}

#[async_trait::async_trait]
impl Mounts for RealMounts {
    fn table(&self) -> Result<Table, MountError> {
        let path = "/proc/self/mountinfo";
        let text = fs::read(path).map_err(look("read", path))?;
        Table::parse(&text).map_err(look("read", path))
    }

    fn resolve(&self, path: &str) -> Result<String, MountError> {
        let table = self.table()?;
        let (parent, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", ""));
        let joined = |parent: &Path| if name.is_empty() { parent.to_owned() } else { parent.join(name) };
        let parent =
            existing(Path::new(if parent.is_empty() { "/" } else { parent })).map_err(look("look at", path))?;
        let whole = joined(&parent);
        // A mount point is no link, and its file system may hang.
        if !table.at(&whole.to_string_lossy()).is_empty() {
            return Ok(whole.to_string_lossy().into_owned());
        }
        let whole = existing(&whole).map_err(look("look at", path))?;
        Ok(whole.to_string_lossy().into_owned())
    }

    async fn find(&self, source: &str) -> Result<Found, MountError> {
        let Some(path) = self.by_name(source).await else {
            return Ok(if is_tag(source) { Found::Missing } else { Found::Word });
        };
        let real = match fs::canonicalize(&path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(look("look at", source)(error)),
        };
        let meta = fs::metadata(&real).map_err(look("look at", source))?;
        let path = real.to_string_lossy().into_owned();
        Ok(if meta.file_type().is_block_device() {
            let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            Found::Device { path, number: format!("{major}:{minor}") }
        } else if meta.is_dir() {
            Found::Folder { path }
        } else {
            Found::File { path }
        })
    }

    fn backing(&self, device: &str) -> Option<String> {
        let name = device.strip_prefix("/dev/").filter(|name| name.starts_with("loop"))?;
        let path = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
        Some(path.trim_end_matches('\n').to_owned())
    }

    fn memory(&self) -> u64 {
        let info = rustix::system::sysinfo();
        info.totalram * u64::from(info.mem_unit.max(1))
    }

    async fn mount(&self, what: &NewMount<'_>) -> Result<(), MountError> {
        let arguments = ["-t", what.fstype, "-o", what.options, "--", what.source, what.path];
        self.run("mount", what.path, &arguments).await
    }

    async fn remount(&self, path: &str, options: &str) -> Result<(), MountError> {
        let table = self.table()?;
        // With source and path mount(8) reads no fstab and adds nothing of its own.
        let source = table.at(path).last().map_or("none", |mount| mount.source.as_str()).to_owned();
        self.run("mount", path, &["-o", &format!("remount,{options}"), "--", &source, path]).await
    }

    async fn propagate(&self, path: &str, how: &str) -> Result<(), MountError> {
        self.run("mount", path, &[&format!("--make-{how}"), "--", path]).await
    }

    async fn unmount(&self, path: &str, recursive: bool) -> Result<(), MountError> {
        if !recursive {
            return self.run("umount", path, &["--", path]).await;
        }
        // Else what goes here would go at the source as well.
        self.propagate(path, "rprivate").await?;
        self.run("umount", path, &["--recursive", "--", path]).await
    }

    fn users(&self, path: &str) -> Vec<User> {
        let Ok(table) = self.table() else { return Vec::new() };
        let mut users: Vec<User> =
            table.below(path).into_iter().map(|mount| User::Mount(mount.point.clone())).collect();
        let inside = format!("{}/", path.trim_end_matches('/'));
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(unescape);
        users.extend(swaps.filter(|swap| swap.starts_with(&inside)).map(User::Swap));
        users.extend(loops(&inside).into_iter().map(User::Loop));
        let Some(top) = table.at(path).last().copied() else { return users };
        let id = u64::try_from(top.id).unwrap_or_default();
        users.extend(processes(&|stat| stat.stx_mnt_id == id));
        let root = table.at("/").last().map(|root| root.device.clone());
        if users.is_empty() && root.as_ref() != Some(&top.device) {
            // Held by its copy in another namespace, a container's mostly, where it has another id.
            users = processes(&|stat| format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor) == top.device);
        }
        users
    }
}

/// The path with its links followed as far as it is there; what is not there is taken as written.
fn existing(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(existing(parent)?.join(name)),
            (_, _) => Err(error),
        },
        Err(error) => Err(error),
    }
}

const TAGS: [(&str, &str); 5] = [
    ("UUID=", "by-uuid"),
    ("LABEL=", "by-label"),
    ("PARTUUID=", "by-partuuid"),
    ("PARTLABEL=", "by-partlabel"),
    ("ID=", "by-id"),
];

fn is_tag(source: &str) -> bool {
    TAGS.iter().any(|(tag, _)| source.starts_with(tag))
}

/// As udev encodes what is no plain character in the names of its links.
fn encode(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii();
    value.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\x{:02x}", u32::from(c)) }).collect()
}

fn loops(inside: &str) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
    files.map(|file| file.trim_end().to_owned()).filter(|file| file.starts_with(inside)).collect()
}

/// Processes that hold something that is so.
fn processes(is_so: &dyn Fn(&Statx) -> bool) -> Vec<User> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let how = holds(pid, is_so)?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(User::Process { pid, name: name.trim_end().to_owned(), how })
    })
    .collect()
}

fn holds(pid: i32, is_so: &dyn Fn(&Statx) -> bool) -> Option<String> {
    let held = |path: &Path| {
        // Not asking the file system itself: its server may be gone.
        let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID).is_ok_and(|stat| is_so(&stat))
    };
    let of = PathBuf::from(format!("/proc/{pid}"));
    for (link, how) in [("cwd", "its working folder"), ("root", "its root folder"), ("exe", "its program")] {
        if held(&of.join(link)) {
            return Some(how.to_owned());
        }
    }
    for (folder, how) in [("fd", "is open"), ("map_files", "is mapped")] {
        for entry in fs::read_dir(of.join(folder)).into_iter().flatten().flatten() {
            if held(&entry.path()) {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                return Some(format!("{} {how}", String::from_utf8_lossy(target.as_os_str().as_bytes())));
            }
        }
    }
    None
}
