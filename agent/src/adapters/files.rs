//! The real file system, below a root that is `/` but in tests.
//!
//! A path is opened in one call that follows no link. Only where there is one it is walked name by name, see `walk`.

pub(in crate::adapters) mod kept;
mod lock;
mod replace;
mod swept;
pub(in crate::adapters) mod tree;
pub(in crate::adapters) mod trouble;
pub(in crate::adapters) mod walk;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, readlinkat, unlinkat},
    io::Errno,
};

use self::{
    swept::Swept,
    trouble::Trouble,
    walk::{Last, Missing, Root, Spot},
};
use crate::ports::{Beside, Entry, FileError, FileKind, Files, InUse, Inside, Lock, Stat};

/// Files below a root.
pub struct RealFiles {
    root: Root,
    swept: Swept,
}

impl RealFiles {
    pub fn new() -> Self {
        Self::below("/")
    }

    /// Absolute paths are taken relative to `root`, targets of links too.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: Root::new(root.into()), swept: Swept::default() }
    }
}

impl Default for RealFiles {
    fn default() -> Self {
        Self::new()
    }
}

fn stat_of(meta: &rustix::fs::Stat) -> Stat {
    let kind = tree::kind_of(FileType::from_raw_mode(meta.st_mode));
    Stat {
        kind,
        mode: meta.st_mode & 0o7777,
        uid: meta.st_uid,
        gid: meta.st_gid,
        size: meta.st_size as u64,
        shared: kind == FileKind::File && meta.st_nlink > 1,
    }
}

/// Nothing is there: no such file, or a parent that is no folder.
fn absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR)
}

/// Non-blocking, so that a pipe with nobody at its other end does not stop the agent.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl RealFiles {
    /// Opens what is at the path, a link at its end not followed unless `last` says so; none where nothing is there.
    fn open(&self, path: &str, flags: OFlags, last: Last) -> Result<Option<OwnedFd>, Trouble> {
        match self.root.quick(path, flags | OFlags::NOFOLLOW) {
            Ok(opened) => return Ok(Some(opened)),
            Err(Errno::LOOP) => {}
            Err(error) if absent(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(spot) = self.root.walk(Path::new(path), Missing::Stop, last)? else { return Ok(None) };
        match spot.open(flags) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if absent(error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn spot(&self, path: &Path, missing: Missing) -> Result<Option<Spot>, Trouble> {
        self.root.walk(path, missing, Last::Keep)
    }

    /// As [`Self::spot`], where the path has to be there up to its last name.
    fn must(&self, path: &str) -> Result<Spot, Trouble> {
        self.spot(Path::new(path), Missing::Stop)?.ok_or_else(|| Errno::NOENT.into())
    }

    fn remove_at(spot: &Spot, tree: bool) -> Result<(), Trouble> {
        let Some(stat) = spot.stat()? else { return Ok(()) };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory && tree {
            return tree::remove(&spot.folder, &spot.name, &spot.real);
        }
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&spot.folder, &spot.name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::BUSY) => Err(Trouble::mounted(&spot.real)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a change at a spot, and says why not.
    fn change(
        &self,
        what: &'static str,
        path: &str,
        missing: Missing,
        change: impl FnOnce(&Spot) -> Result<(), Trouble>,
    ) -> Result<(), FileError> {
        let spot = match missing {
            Missing::Make => self.spot(Path::new(path), missing).and_then(|spot| Ok(spot.ok_or(Errno::NOENT)?)),
            Missing::Stop => self.must(path),
        };
        let spot = spot.map_err(|trouble| trouble.of(what, path))?;
        change(&spot).map_err(|trouble| trouble.explained(&spot).of(what, path))
    }
}

/// All of an open regular file.
fn whole(opened: OwnedFd) -> Result<Vec<u8>, Trouble> {
    let mut file = File::from(opened);
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {}
        _other => return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no regular file").into()),
    }
    let mut content = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// The beginning of an open file, at most `wanted` bytes.
fn beginning(file: &File, wanted: usize) -> std::io::Result<Vec<u8>> {
    let mut content = vec![0; wanted];
    let mut filled = 0;
    while filled < wanted {
        match (&*file).read(&mut content[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(content)
}

impl Files for RealFiles {
    fn stat(&self, path: &str) -> Result<Option<Stat>, FileError> {
        let look = || -> Result<_, Trouble> {
            let Some(opened) = self.open(path, OFlags::PATH, Last::Keep)? else { return Ok(None) };
            Ok(Some(stat_of(&fstat(opened)?)))
        };
        look().map_err(|trouble| trouble.of("look at", path))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError> {
        let read = || self.open(path, READ, Last::Follow)?.map(whole).transpose();
        read().map_err(|trouble| trouble.of("read", path))
    }

    fn look(&self, path: &str, limit: usize) -> Result<Option<(Stat, Vec<u8>)>, FileError> {
        let file = match self.open(path, READ, Last::Keep) {
            Ok(Some(file)) => File::from(file),
            Ok(None) => return Ok(None),
            // A link, a socket, a device without a driver: there is nothing to read.
            Err(Trouble { source, help: None })
                if matches!(
                    Errno::from_io_error(&source),
                    Some(Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::OPNOTSUPP)
                ) =>
            {
                return Ok(self.stat(path)?.map(|stat| (stat, Vec::new())));
            }
            Err(trouble) => return Err(trouble.of("open", path)),
        };
        let stat = fstat(&file).map_err(|error| Trouble::from(error).of("look at", path))?;
        let stat = stat_of(&stat);
        let wanted = match stat.kind {
            FileKind::File => usize::try_from(stat.size).unwrap_or(limit).min(limit),
            FileKind::Directory | FileKind::Link | FileKind::Socket | FileKind::Other => 0,
        };
        let content = beginning(&file, wanted).map_err(|error| Trouble::from(error).of("read", path))?;
        Ok(Some((stat, content)))
    }

    fn beside(&self, path: &str, uid: Option<u32>) -> Result<Beside, FileError> {
        let look = || -> Result<_, Trouble> {
            let Some(spot) = self.spot(Path::new(path), Missing::Stop)? else { return Ok(Beside::default()) };
            let opened = match spot.open(READ) {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(Beside::default()),
                Err(error) => return Err(error.into()),
            };
            let stat = fstat(&opened)?;
            let mounted = kept::is_mount(&opened, OsStr::new(""))?;
            let mut lost = Vec::new();
            match FileType::from_raw_mode(stat.st_mode) {
                // It stays as it is, and so does what it has.
                FileType::RegularFile if mounted => {}
                FileType::RegularFile => {
                    let attributes = kept::of(&opened, &stat, &spot, uid.unwrap_or(stat.st_uid))?;
                    lost.extend(attributes.lost.iter().map(|name| kept::shown(name)));
                }
                FileType::Directory if !kept::is_trusted(&stat, &spot, uid.unwrap_or(stat.st_uid)) => {
                    lost.extend(kept::lists(&opened)?.iter().map(|name| kept::shown(name)));
                }
                _other => {}
            }
            Ok(Beside { lost, mounted })
        };
        look().map_err(|trouble| trouble.of("look at", path))
    }

    fn write(&self, path: &str, content: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        self.change("write", path, Missing::Make, |spot| {
            self.swept.sweep(spot)?;
            replace::replace(spot, &replace::New { content, mode, uid, gid })
        })
    }

    fn write_in_place(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        let write = || -> Result<(), Trouble> {
            let spot = self.root.walk(Path::new(path), Missing::Stop, Last::Follow)?.ok_or(Errno::NOENT)?;
            // What is opened there may be anybody's, whatever its names say a moment later.
            if !spot.private {
                return Err(Trouble::not_in_place(&spot.real));
            }
            let opened = spot.open(OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            Ok(File::from(opened).write_all(content)?)
        };
        write().map_err(|trouble| trouble.of("write", path))
    }

    fn lock(&self, path: &str) -> Result<Lock, FileError> {
        lock::take(&self.root, path).map_err(|trouble| trouble.of("lock", path))
    }

    fn make_dir(&self, path: &str) -> Result<(), FileError> {
        // A name behind it makes all before it.
        let inside = Path::new(path).join(".muster");
        let made = self.root.walk(&inside, Missing::Make, Last::Keep);
        made.map(drop).map_err(|trouble| trouble.of("make the folder", path))
    }

    fn make_own_dir(&self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        self.change("make the folder", path, Missing::Stop, |spot| {
            self.swept.sweep(spot)?;
            replace::folder(spot, mode, uid, gid)
        })
    }

    fn set(&self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        self.change("set the owner and mode of", path, Missing::Stop, |spot| replace::set(spot, mode, uid, gid))
    }

    fn link(&self, path: &str, target: &str) -> Result<(), FileError> {
        self.change("make the link", path, Missing::Make, |spot| {
            self.swept.sweep(spot)?;
            replace::link(spot, target)
        })
    }

    fn target(&self, path: &str) -> Result<Option<String>, FileError> {
        let look = || -> Result<_, Trouble> {
            let Some(spot) = self.spot(Path::new(path), Missing::Stop)? else { return Ok(None) };
            match readlinkat(&spot.folder, &spot.name, Vec::new()) {
                Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
                Err(Errno::NOENT | Errno::INVAL) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        look().map_err(|trouble| trouble.of("look at", path))
    }

    fn remove(&self, path: &str, tree: bool) -> Result<(), FileError> {
        self.remove_path(Path::new(path), tree)
    }

    fn remove_path(&self, path: &Path, tree: bool) -> Result<(), FileError> {
        let spot = self.spot(path, Missing::Stop).map_err(|trouble| trouble.of("remove", path))?;
        let Some(spot) = spot else { return Ok(()) };
        Self::remove_at(&spot, tree).map_err(|trouble| trouble.explained(&spot).of("remove", path))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>, FileError> {
        let name = |entry: Entry| entry.name.to_string_lossy().into_owned();
        Ok(self.entries(Path::new(path))?.map(|entries| entries.into_iter().map(name).collect()))
    }

    fn entries(&self, folder: &Path) -> Result<Option<Vec<Entry>>, FileError> {
        let look = || -> Result<_, Trouble> {
            let Some(spot) = self.root.walk(folder, Missing::Stop, Last::Follow)? else { return Ok(None) };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&spot.folder, &spot.name, flags, Mode::empty()) {
                Ok(opened) => Ok(Some(tree::entries(opened)?)),
                Err(error) if absent(error) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        look().map_err(|trouble| trouble.of("list", folder))
    }

    fn frozen(&self, path: &Path) -> Result<Option<&'static str>, FileError> {
        let spot = self.spot(path, Missing::Stop).map_err(|trouble| trouble.of("look at", path))?;
        Ok(spot.and_then(|spot| trouble::freeze(&spot.folder, &spot.name)).map(trouble::Freeze::words))
    }

    fn inside(&self, folder: &Path) -> Result<Inside, FileError> {
        let look = || -> Result<_, Trouble> {
            let mut found = Inside::default();
            if let Some(spot) = self.spot(folder, Missing::Stop)? {
                tree::inside(&spot.folder, &spot.name, folder, 0, &mut found)?;
            }
            Ok(found)
        };
        look().map_err(|trouble| trouble.of("look through", folder))
    }

    fn real(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        let spot = self.spot(path, Missing::Stop).map_err(|trouble| trouble.of("look at", path))?;
        Ok(spot.map(|spot| spot.real))
    }

    fn private(&self, path: &str) -> Result<bool, FileError> {
        // Of a path that is not there, what is there of it.
        for path in Path::new(path).ancestors() {
            if let Some(spot) = self.spot(path, Missing::Stop).map_err(|trouble| trouble.of("look at", path))? {
                return Ok(spot.private);
            }
        }
        Ok(false)
    }

    fn in_use(&self) -> Result<InUse, FileError> {
        let table = "/proc/self/mountinfo";
        let mounts = std::fs::read(table).map_err(|error| Trouble::from(error).of("read", table))?;
        let root = self.root.path();
        let below = |path: PathBuf| path.strip_prefix(root).ok().map(|path| Path::new("/").join(path));
        Ok(InUse {
            mounts: muster_plan::mounts::points(&mounts).into_iter().filter_map(below).collect(),
            sockets: sockets_in_use(),
            files: disks_in_use().into_iter().filter_map(below).collect(),
        })
    }
}

/// Behind loop devices, and swap. A node that is a container sees those of its host, too: then they are at no path of its own.
fn disks_in_use() -> Vec<PathBuf> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices.filter_map(|device| std::fs::read(device.path().join("loop/backing_file")).ok());
    let mut found: Vec<PathBuf> = files.map(|path| OsString::from_vec(path.trim_ascii_end().to_vec()).into()).collect();
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    found.extend(muster_plan::kinds::swap::active(&swaps).into_iter().map(|active| active.path.into()));
    found
}

/// In every network namespace: a service or container may have one of its own.
fn sockets_in_use() -> BTreeSet<OsString> {
    let mut found = BTreeSet::new();
    let mut networks = BTreeSet::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
        // Processes end meanwhile.
        let Ok(network) = std::fs::read_link(process.join("ns/net")) else { continue };
        if networks.insert(network)
            && let Ok(table) = std::fs::read(process.join("net/unix"))
        {
            tree::sockets(&table, &mut found);
        }
    }
    found
}
