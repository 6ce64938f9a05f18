//! Archives on the real file system, below a root that is `/` but in tests.
//!
//! An archive is read twice: first all of its names and links are checked (`entries`), and only then something is written. It is unpacked into a
//! new folder that root alone may enter, beside the place where it belongs, and exchanged with what is there. A file in the folder says what it
//! was unpacked from and what each path was then.
//!
//! Somebody else may own the folder above, and then swap names in it at any time: what is written and removed is reached by descriptors. Where
//! the archive's folder is his own, only a record that is root's is one.

mod entries;
mod fresh;
mod record;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use muster_plan::kinds::archive::{Origin, There, Unpacked};
use rustix::{
    fs::{OFlags, RenameFlags, renameat, renameat_with},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use self::{
    entries::Entries,
    fresh::Fresh,
    record::{Mark, Seen},
};
use super::files::{
    tree,
    trouble::Trouble,
    walk::{Last, Missing, Root, Spot},
};
use crate::{
    ports::{ArchiveError, Archives},
    temporary,
};

/// Archives below a root.
pub struct RealArchives {
    root: Root,
}

impl RealArchives {
    pub fn new() -> Self {
        Self::below("/")
    }

    /// Absolute paths are taken relative to `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: Root::new(root.into()) }
    }

    fn spot(&self, folder: &str, missing: Missing) -> Result<Option<Spot>, Trouble> {
        match self.root.walk(Path::new(folder), missing, Last::Keep)? {
            Some(spot) if spot.name == "." => Err(Errno::INVAL.into()),
            spot => Ok(spot),
        }
    }
}

impl Default for RealArchives {
    fn default() -> Self {
        Self::new()
    }
}

fn failed<E: Into<Trouble>>(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> ArchiveError {
    move |error| error.into().of(what, path).into()
}

impl Archives for RealArchives {
    fn look(&self, folder: &str) -> Result<There, ArchiveError> {
        let failed = |trouble: Trouble| trouble.of("look at", folder);
        let Some(spot) = self.spot(folder, Missing::Stop).map_err(failed)? else { return Ok(There::Nothing) };
        let opened = match spot.open(OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(There::Nothing),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(There::Other),
            Err(error) => return Err(failed(error.into()).into()),
        };
        look(&opened, folder).map_err(|trouble| failed(trouble).into())
    }

    fn unpack(&self, archive: &str, folder: &str, from: &Origin) -> Result<(), ArchiveError> {
        let path = self.root.path().join(archive.trim_start_matches('/'));
        let mut file = File::open(&path).map_err(failed("read", &path))?;
        let found = digest(&mut file).map_err(failed("read", &path))?;
        if found != from.sha256 {
            return Err(ArchiveError::Digest { found, wanted: from.sha256.clone() });
        }
        let entries = Entries::checked(reader(&file)?, from.strip)?;
        let spot = self.spot(folder, Missing::Make).map_err(failed("unpack into", folder))?;
        let spot = spot.ok_or(Errno::NOENT).map_err(failed("unpack into", folder))?;
        let old = ours(&spot)?;
        fresh::sweep(&spot).map_err(failed("clean up", folder))?;
        let new = Fresh::make(&spot).map_err(failed("make a folder beside", folder))?;
        let unpacked = new.fill(&spot, &file, &entries, from).and_then(|()| {
            let kept = put(&spot, &new, old.is_some());
            kept.map_err(|trouble| trouble.explained(&spot).of("put in its place", folder).into())
        });
        let former = match unpacked {
            Ok(former) => former,
            Err(error) => {
                // The error that counts is the one before.
                let _ = new.remove(&spot);
                return Err(error);
            }
        };
        let Some(old) = old else { return Ok(()) };
        fresh::remove(&spot, &former, &old).map_err(failed("remove what was in", folder))
    }

    fn remove(&self, folder: &str) -> Result<(), ArchiveError> {
        let Some(spot) = self.spot(folder, Missing::Stop).map_err(failed("remove", folder))? else { return Ok(()) };
        let Some(old) = ours(&spot)? else { return Ok(()) };
        // Emptied in its place and cut off, a half of it would still be taken for what was unpacked.
        let name = aside(&spot).map_err(failed("remove", folder))?;
        fresh::remove(&spot, &name, &old).map_err(failed("remove", folder))
    }

    fn left(&self, folder: &str) -> Result<bool, ArchiveError> {
        let failed = |trouble: Trouble| trouble.of("look beside", folder);
        let Some(spot) = self.spot(folder, Missing::Stop).map_err(failed)? else { return Ok(false) };
        Ok(!fresh::left(&spot).map_err(failed)?.is_empty())
    }

    fn clear(&self, folder: &str) -> Result<(), ArchiveError> {
        let Some(spot) = self.spot(folder, Missing::Stop).map_err(failed("clean up", folder))? else { return Ok(()) };
        fresh::sweep(&spot).map_err(failed("clean up", folder))
    }
}

fn look(opened: &OwnedFd, folder: &str) -> Result<There, Trouble> {
    let record = match record::of(opened)? {
        Mark::None if tree::entries(opened)?.is_empty() => return Ok(There::Empty),
        Mark::None | Mark::Foreign => return Ok(There::Other),
        Mark::Broken => {
            let changed = vec![format!("{folder}/{}", record::NAME)];
            return Ok(There::Unpacked(Unpacked { changed, ..Unpacked::default() }));
        }
        Mark::Ours(record) => record,
    };
    let seen = Seen::of(opened, Some(&record.entries))?.0;
    let whole = |path: &str| if path.is_empty() { folder.to_owned() } else { format!("{folder}/{path}") };
    let changed = record.entries.iter().filter(|(path, stamp)| seen.get(*path) != Some(*stamp));
    // Of a folder that somebody put there, the folder alone.
    let strangers = seen.keys().filter(|path| !record.entries.contains_key(*path));
    Ok(There::Unpacked(Unpacked {
        changed: changed.map(|(path, _)| whole(path)).collect(),
        strangers: strangers.map(|path| whole(path)).collect(),
        mounts: Vec::new(),
        from: record.from,
    }))
}

/// The folder that is there: empty, or unpacked by us, and one that can be removed as a whole. Looked at again by its descriptor, because another
/// may have taken its name since.
fn ours(spot: &Spot) -> Result<Option<OwnedFd>, ArchiveError> {
    let failed = |trouble: Trouble| ArchiveError::from(trouble.explained(spot).of("replace", &spot.real));
    let opened = match tree::open_below(&spot.folder, &spot.name) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::XDEV) => return Err(failed(Trouble::mounted(&spot.real))),
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(ArchiveError::Taken { path: spot.real.clone() }),
        Err(error) => return Err(failed(error.into())),
    };
    let empty = || tree::entries(&opened).map(|entries| entries.is_empty());
    match record::of(&opened).map_err(failed)? {
        Mark::Ours(_) | Mark::Broken => {}
        Mark::None if empty().map_err(|error| failed(error.into()))? => {}
        Mark::None | Mark::Foreign => return Err(ArchiveError::Taken { path: spot.real.clone() }),
    }
    tree::may_go(&spot.folder, &spot.name, &opened, &spot.real).map_err(failed)?;
    Ok(Some(opened))
}

fn digest(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(file, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// The tar archive in the file, from its beginning.
fn reader(mut file: &File) -> Result<Box<dyn Read + '_>, ArchiveError> {
    let unreadable = |source| ArchiveError::Format { kind: "", source: Some(source) };
    let mut begins = [0; 6];
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut filled = 0;
    while filled < begins.len() {
        match file.read(&mut begins[filled..]).map_err(unreadable)? {
            0 => break,
            read => filled += read,
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let kind = match begins {
        [0x1f, 0x8b, ..] => return Ok(Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file)))),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [b'P', b'K', 3, 4, ..] => "zip",
        _tar => return Ok(Box::new(BufReader::new(file))),
    };
    Err(ArchiveError::Format { kind, source: None })
}

/// Puts the new folder in its place and returns the name that the old one has by then. Where something is there already, both change places at
/// once. File systems that cannot do that have a moment with neither.
fn put(spot: &Spot, new: &Fresh, old: bool) -> Result<OsString, Trouble> {
    let how = if old { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    let mut former = new.name.clone();
    match renameat_with(&spot.folder, &new.name, &spot.folder, &spot.name, how) {
        Ok(()) => {}
        // Not on this file system.
        Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV) => {
            if old {
                former = aside(spot)?;
            }
            if let Err(error) = renameat(&spot.folder, &new.name, &spot.folder, &spot.name) {
                if old {
                    renameat(&spot.folder, &former, &spot.folder, &spot.name)?;
                }
                return Err(error.into());
            }
        }
        Err(Errno::EXIST | Errno::NOENT) => return Err(Trouble::meanwhile(&spot.real)),
        Err(error) => return Err(error.into()),
    }
    spot.sync()?;
    Ok(former)
}

/// Gives what is at the place another name beside it, under which the next run finds it again if this one is cut off.
fn aside(spot: &Spot) -> Result<OsString, Trouble> {
    let name = temporary::name(&spot.name);
    renameat(&spot.folder, &spot.name, &spot.folder, &name)?;
    Ok(name)
}
