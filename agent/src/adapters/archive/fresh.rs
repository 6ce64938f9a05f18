//! The new folder that an archive is unpacked into. Until it is whole root alone may enter it, and so nobody swaps anything in it; its own name
//! may be swapped by whoever owns the folder above, so it is held by a descriptor.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use muster_plan::kinds::archive::Origin;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat, unlinkat};

use super::{
    entries::{Entries, Kind, place},
    failed, reader,
    record::{self, Mark, Record, Seen, folder_stamp},
};
use crate::{
    adapters::files::{kept, tree, trouble::Trouble, walk::Spot, walk::is_ours},
    ports::{ArchiveError, Entry, FileKind},
    temporary,
};

/// Of an archive's folder.
pub const MODE: u32 = 0o755;

pub struct Fresh {
    pub name: OsString,
    folder: OwnedFd,
}

impl Fresh {
    pub fn make(spot: &Spot) -> Result<Self, Trouble> {
        let name = temporary::name(&spot.name);
        mkdirat(&spot.folder, &name, Mode::RWXU).map_err(|error| Trouble::from(error).explained(spot))?;
        let folder = tree::open_below(&spot.folder, &name)?;
        let stat = fstat(&folder)?;
        if !is_ours(stat.st_uid) || stat.st_mode & 0o077 != 0 || !tree::entries(&folder)?.is_empty() {
            // Another took its place.
            return Err(Trouble::meanwhile(&spot.real));
        }
        if !spot.private {
            kept::take(&folder)?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // An empty record: this one is ours to remove, if a kill leaves it.
        openat(&folder, record::NAME, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { name, folder })
    }

    pub fn remove(&self, spot: &Spot) -> Result<(), Trouble> {
        remove(spot, &self.name, &self.folder)
    }

    /// The folder itself, whatever its name leads to by now.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.folder.as_raw_fd()).into()
    }

    pub fn fill(&self, spot: &Spot, file: &File, entries: &Entries, from: &Origin) -> Result<(), ArchiveError> {
        let mut archive = tar::Archive::new(reader(file)?);
        let unreadable = |source| ArchiveError::Format { kind: "", source: Some(source) };
        for entry in archive.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let name = entry.path().map_err(unreadable)?.into_owned();
            let Some(path) = place(&name, from.strip)? else { continue };
            let Some(kind) = entries.get(&path) else { continue };
            write(&mut entry, kind, &self.path(), &path).map_err(failed("unpack", spot.real.join(&path)))?;
        }
        self.finish(entries, from).map_err(failed("unpack into", &spot.real))
    }

    /// Owners and the modes of folders, the record, and all of it on the disk.
    fn finish(&self, entries: &Entries, from: &Origin) -> Result<(), Trouble> {
        let (uid, gid) = (Uid::from_raw(from.uid), Gid::from_raw(from.gid));
        let below = self.path();
        for path in Seen::of(&self.folder, None)?.0.keys().filter(|path| !path.is_empty()) {
            let whole = below.join(path);
            rustix::fs::chownat(CWD, &whole, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            if let Some(Kind::Folder { mode }) = entries.get(Path::new(path)) {
                fs::set_permissions(&whole, fs::Permissions::from_mode(*mode))?;
            } else if fs::symlink_metadata(&whole)?.is_dir() {
                fs::set_permissions(&whole, fs::Permissions::from_mode(0o755))?;
            }
        }
        let mut stamps = Seen::of(&self.folder, None)?.0;
        stamps.insert(String::new(), folder_stamp(from.uid, from.gid));
        let record = serde_json::to_vec(&Record { from: from.clone(), entries: stamps }).map_err(io::Error::from)?;
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        File::from(openat(&self.folder, record::NAME, flags, Mode::empty())?).write_all(&record)?;
        // From here on it is open, under a name that nobody knows.
        fchown(&self.folder, Some(uid), Some(gid))?;
        fchmod(&self.folder, Mode::from_raw_mode(MODE))?;
        Ok(rustix::fs::syncfs(&self.folder)?)
    }
}

fn write(entry: &mut tar::Entry<'_, impl Read>, kind: &Kind, folder: &Path, path: &Path) -> io::Result<()> {
    let to = &folder.join(path);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let again = |made: io::Result<()>| match made {
        // Written a second time in the archive: the later one counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(to).map(|()| true),
        made => made.map(|()| false),
    };
    match kind {
        Kind::Folder { .. } => fs::create_dir_all(to),
        Kind::File { mode, time } => {
            if fs::symlink_metadata(to).is_ok() {
                fs::remove_file(to)?;
            }
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
            io::copy(entry, &mut file)?;
            file.set_permissions(fs::Permissions::from_mode(*mode))?;
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(*time))
        }
        Kind::Link { target } => {
            if again(std::os::unix::fs::symlink(target, to))? {
                std::os::unix::fs::symlink(target, to)?;
            }
            Ok(())
        }
        Kind::Same { path } => {
            if again(fs::hard_link(folder.join(path), to))? {
                fs::hard_link(folder.join(path), to)?;
            }
            Ok(())
        }
    }
}

/// Removes the folder that stands as `name` beside the place. Its record goes last: cut off, the rest is known by it.
pub fn remove(spot: &Spot, name: &OsStr, folder: &OwnedFd) -> Result<(), Trouble> {
    let path = spot.real.with_file_name(name);
    for entry in tree::entries(folder)?.iter().filter(|entry| entry.name != record::NAME) {
        match entry.kind {
            FileKind::Directory => tree::remove(folder, &entry.name, &path.join(&entry.name))?,
            FileKind::File | FileKind::Link | FileKind::Socket | FileKind::Other => {
                unlinkat(folder, &entry.name, AtFlags::empty())?;
            }
        }
    }
    tree::remove_opened(&spot.folder, name, folder, &path, 0)
}

/// What killed agents left beside the place, opened. Only what bears root's record, or is empty: in a folder of somebody else's, any may bear such
/// a name.
pub fn left(spot: &Spot) -> Result<Vec<(OsString, OwnedFd)>, Trouble> {
    let mut left = Vec::new();
    for Entry { name, kind } in spot.siblings()? {
        let ours = kind == FileKind::Directory && temporary::is_for(&name, &spot.name);
        if !ours || temporary::is_being_written(&name) {
            continue;
        }
        let Ok(opened) = tree::open_below(&spot.folder, &name) else { continue };
        match record::of(&opened)? {
            Mark::Broken | Mark::Ours(_) => left.push((name, opened)),
            Mark::None if tree::entries(&opened)?.is_empty() => left.push((name, opened)),
            Mark::None | Mark::Foreign => {}
        }
    }
    Ok(left)
}

/// Removes that.
pub fn sweep(spot: &Spot) -> Result<(), Trouble> {
    left(spot)?.iter().try_for_each(|(name, opened)| remove(spot, name, opened))
}
