//! The real file system, below a root that is `/` but in tests.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::ports::{FileError, FileKind, Files, Stat};

/// Files below a root.
pub struct RealFiles {
    root: PathBuf,
}

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl RealFiles {
    pub fn new() -> Self {
        Self::below("/")
    }

    /// Absolute paths are taken relative to `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Default for RealFiles {
    fn default() -> Self {
        Self::new()
    }
}

fn failed(what: &'static str, path: &str) -> impl Fn(io::Error) -> FileError {
    move |source| FileError { what, path: PathBuf::from(path), source }
}

fn stat_of(meta: &rustix::fs::Stat) -> Stat {
    let kind = match rustix::fs::FileType::from_raw_mode(meta.st_mode) {
        rustix::fs::FileType::RegularFile => FileKind::File,
        rustix::fs::FileType::Directory => FileKind::Directory,
        rustix::fs::FileType::Symlink => FileKind::Link,
        _other => FileKind::Other,
    };
    Stat { kind, mode: meta.st_mode & 0o7777, uid: meta.st_uid, gid: meta.st_gid, size: meta.st_size as u64 }
}

/// Nothing is there: no such file, or a parent that is no folder.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl Files for RealFiles {
    fn stat(&self, path: &str) -> Result<Option<Stat>, FileError> {
        match rustix::fs::lstat(self.at(path)) {
            Ok(meta) => Ok(Some(stat_of(&meta))),
            Err(error) if absent(&error.into()) => Ok(None),
            Err(error) => Err(failed("look at", path)(error.into())),
        }
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError> {
        match fs::read(self.at(path)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    fn look(&self, path: &str, limit: usize) -> Result<Option<(Stat, Vec<u8>)>, FileError> {
        // Non-blocking, so that a pipe with nobody at its other end does not stop the agent.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::open(self.at(path), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => {
                return Ok(self.stat(path)?.map(|stat| (stat, Vec::new())));
            }
            Err(error) if absent(&error.into()) => return Ok(None),
            Err(error) => return Err(failed("open", path)(error.into())),
        };
        let meta = rustix::fs::fstat(&file).map_err(|error| failed("look at", path)(error.into()))?;
        let stat = stat_of(&meta);
        let mut content = Vec::new();
        if stat.kind == FileKind::File && stat.size > 0 {
            let wanted = usize::try_from(stat.size).unwrap_or(limit).min(limit);
            content.resize(wanted, 0);
            let mut filled = 0;
            while filled < wanted {
                match (&file).read(&mut content[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed("read", path)(error)),
                }
            }
            content.truncate(filled);
        }
        Ok(Some((stat, content)))
    }

    fn write(&self, path: &str, content: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
        let target = self.at(path);
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(failed("write", path)(ErrorKind::InvalidInput.into()));
        };
        self.make_parents(folder).map_err(failed("make the folder of", path))?;
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        // Cut so that the temporary's name stays within the 255 bytes that a name may have.
        let stem = String::from_utf8_lossy(&name.as_bytes()[..name.len().min(150)]).into_owned();
        let temporary = folder.join(format!(".{stem}.muster-{}-{number}", std::process::id()));
        let written = (|| {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            // The owner first: a change of owner clears the set-id bits.
            let meta = file.metadata()?;
            if (meta.uid(), meta.gid()) != (uid, gid) {
                std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
            }
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            File::open(folder)?.sync_all()
        })();
        written.map_err(|error| {
            // Where it was renamed already nothing is there to remove; where the disk is full it must not stay.
            let _ = fs::remove_file(&temporary);
            failed("write", path)(error)
        })
    }

    fn write_in_place(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        let written = File::options().write(true).open(self.at(path)).and_then(|mut file| file.write_all(content));
        written.map_err(failed("write", path))
    }

    fn make_dir(&self, path: &str) -> Result<(), FileError> {
        self.make_parents(&self.at(path)).map_err(failed("make the folder", path))
    }

    fn set_mode(&self, path: &str, mode: u32) -> Result<(), FileError> {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
    }

    fn set_owner(&self, path: &str, uid: u32, gid: u32) -> Result<(), FileError> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(rustix::fs::CWD, self.at(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("set the owner of", path)(error.into()))
    }

    fn link(&self, path: &str, target: &str) -> Result<(), FileError> {
        let place = self.at(path);
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = place.with_extension(format!("muster-{}-{number}", std::process::id()));
        let linked = std::os::unix::fs::symlink(target, &temporary).and_then(|()| fs::rename(&temporary, &place));
        linked.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed("link", path)(error)
        })
    }

    fn target(&self, path: &str) -> Result<Option<String>, FileError> {
        match fs::read_link(self.at(path)) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(error) if absent(&error) || error.kind() == ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(failed("look at", path)(error)),
        }
    }

    fn remove(&self, path: &str, tree: bool) -> Result<(), FileError> {
        let target = self.at(path);
        let removed = match fs::symlink_metadata(&target) {
            Err(error) => Err(error),
            Ok(meta) if meta.is_dir() && tree => fs::remove_dir_all(&target),
            Ok(meta) if meta.is_dir() => fs::remove_dir(&target),
            Ok(_) => fs::remove_file(&target),
        };
        match removed {
            Err(error) if !absent(&error) => Err(failed("remove", path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>, FileError> {
        let entries = match fs::read_dir(self.at(path)) {
            Ok(entries) => entries,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(failed("list", path)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("list", path))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(Some(names))
    }
}

impl RealFiles {
    fn make_parents(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).create(folder)
    }
}
