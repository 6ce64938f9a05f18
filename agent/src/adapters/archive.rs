//! Archives on the real file system, below a root that is `/` but in tests.
//!
//! An archive is read twice: first all of its names and links are checked (`entries`), and only then something is written. It is unpacked into a
//! new folder that root alone may enter, beside the place where it belongs, and exchanged with what is there. A file in the folder says what it
//! was unpacked from and what each path was then.

mod entries;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use muster_plan::kinds::archive::{Origin, There, Unpacked};
use rustix::fs::{AtFlags, CWD, Gid, RenameFlags, Uid};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::entries::{Entries, Kind, place};
use crate::ports::{ArchiveError, Archives};

/// Archives below a root.
pub struct RealArchives {
    root: PathBuf,
}

/// In the folder, written before it is put in its place.
const RECORD: &str = ".muster-archive";

/// What was unpacked.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    from: Origin,
    /// By path in the folder.
    entries: BTreeMap<String, Stamp>,
}

/// What a path was when it was unpacked. Of a folder others may change size and time.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<(u64, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

impl RealArchives {
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

impl Default for RealArchives {
    fn default() -> Self {
        Self::new()
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io { what, path, source }
}

impl Archives for RealArchives {
    fn look(&self, folder: &str) -> Result<There, ArchiveError> {
        let place = self.at(folder);
        let meta = match fs::symlink_metadata(&place) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
            Err(error) => return Err(failed("look at", &place)(error)),
        };
        if !meta.is_dir() {
            return Ok(There::Other);
        }
        let text = match fs::read(place.join(RECORD)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut names = fs::read_dir(&place).map_err(failed("list", &place))?;
                return Ok(if names.next().is_none() { There::Empty } else { There::Other });
            }
            Err(error) => return Err(failed("read", &place.join(RECORD))(error)),
        };
        let Ok(record) = serde_json::from_slice::<Record>(&text) else {
            let changed = vec![format!("{folder}/{RECORD}")];
            return Ok(There::Unpacked(Unpacked { changed, ..Unpacked::default() }));
        };
        let mut seen = BTreeMap::new();
        walk(&place, Path::new(""), meta.dev(), &mut seen).map_err(failed("look at", &place))?;
        let whole = |path: &str| if path.is_empty() { folder.to_owned() } else { format!("{folder}/{path}") };
        let changed = record.entries.iter().filter(|(path, stamp)| seen.get(*path) != Some(*stamp));
        let strangers = seen.keys().filter(|path| !record.entries.contains_key(*path) && *path != RECORD);
        // Of a folder that somebody put there, the folder alone.
        let inside = |path: &&String| {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            record.entries.contains_key(parent)
        };
        Ok(There::Unpacked(Unpacked {
            changed: changed.map(|(path, _)| whole(path)).collect(),
            strangers: strangers.filter(inside).map(|path| whole(path)).collect(),
            mounts: Vec::new(),
            from: record.from,
        }))
    }

    fn unpack(&self, archive: &str, folder: &str, from: &Origin) -> Result<(), ArchiveError> {
        let path = self.at(archive);
        let mut file = File::open(&path).map_err(failed("read", &path))?;
        let found = digest(&mut file).map_err(failed("read", &path))?;
        if found != from.sha256 {
            return Err(ArchiveError::Digest { found, wanted: from.sha256.clone() });
        }
        let entries = Entries::checked(reader(&file)?, from.strip)?;
        let place = self.at(folder);
        let Some(parent) = place.parent() else {
            return Err(failed("unpack into", &place)(io::ErrorKind::InvalidInput.into()));
        };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed("make the folder", parent))?;
        self.clear(folder)?;
        let [new, old] = beside(&place);
        let unpacked = fill(&new, &file, &entries, from)
            .and_then(|()| put(&new, &old, &place).map_err(failed("put in its place", &place)));
        if unpacked.is_err() {
            // The error that counts is the one before.
            let _ = remove_tree(&new);
        }
        unpacked
    }

    fn remove(&self, folder: &str) -> Result<(), ArchiveError> {
        let place = self.at(folder);
        self.clear(folder)?;
        let [_new, old] = beside(&place);
        // Emptied in its place and cut off, without its record it would be somebody else's.
        match fs::rename(&place, &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| remove_tree(&old)).map_err(failed("remove", &place)),
        }
    }

    fn left(&self, folder: &str) -> Result<bool, ArchiveError> {
        for path in beside(&self.at(folder)) {
            match fs::symlink_metadata(&path) {
                Ok(_) => return Ok(true),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(failed("look at", &path)(error)),
            }
        }
        Ok(false)
    }

    fn clear(&self, folder: &str) -> Result<(), ArchiveError> {
        beside(&self.at(folder)).iter().try_for_each(|path| remove_tree(path).map_err(failed("remove", path)))
    }
}

/// Where the new folder is made, and where the old one goes.
fn beside(place: &Path) -> [PathBuf; 2] {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    ["archive", "removed"].map(|what| place.with_file_name(format!(".{name}.muster-{what}")))
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

fn fill(folder: &Path, file: &File, entries: &Entries, from: &Origin) -> Result<(), ArchiveError> {
    fs::DirBuilder::new().mode(0o700).create(folder).map_err(failed("make the folder", folder))?;
    let mut archive = tar::Archive::new(reader(file)?);
    let unreadable = |source| ArchiveError::Format { kind: "", source: Some(source) };
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?.into_owned();
        let Some(path) = place(&name, from.strip)? else { continue };
        let Some(kind) = entries.get(&path) else { continue };
        let to = folder.join(&path);
        write(&mut entry, kind, folder, &to).map_err(failed("unpack", &to))?;
    }
    finish(folder, entries, from).map_err(failed("unpack into", folder))
}

fn write(entry: &mut tar::Entry<'_, impl Read>, kind: &Kind, folder: &Path, to: &Path) -> io::Result<()> {
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

/// Owners and the modes of folders, the record, and all of it on the disk.
fn finish(folder: &Path, entries: &Entries, from: &Origin) -> io::Result<()> {
    let (uid, gid) = (from.uid, from.gid);
    let dev = fs::symlink_metadata(folder)?.dev();
    let mut seen = BTreeMap::new();
    walk(folder, Path::new(""), dev, &mut seen)?;
    for path in seen.keys() {
        let whole = folder.join(path);
        if path.is_empty() {
            continue;
        }
        own(&whole, uid, gid)?;
        if let Some(Kind::Folder { mode }) = entries.get(Path::new(path)) {
            fs::set_permissions(&whole, fs::Permissions::from_mode(*mode))?;
        } else if fs::symlink_metadata(&whole)?.is_dir() {
            fs::set_permissions(&whole, fs::Permissions::from_mode(0o755))?;
        }
    }
    own(folder, uid, gid)?;
    let mut stamps = BTreeMap::new();
    walk(folder, Path::new(""), dev, &mut stamps)?;
    // The folder itself is open from here on, under a name that nobody knows.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    stamps.insert(String::new(), stamp(&fs::symlink_metadata(folder)?, folder)?);
    let record = Record { from: from.clone(), entries: stamps };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(folder.join(RECORD))?;
    serde_json::to_writer(&mut file, &record)?;
    Ok(rustix::fs::syncfs(&file)?)
}

fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if (meta.uid(), meta.gid()) != (uid, gid) {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// All paths in a folder, and it as the empty one; links are not followed and other file systems not entered.
fn walk(folder: &Path, path: &Path, dev: u64, seen: &mut BTreeMap<String, Stamp>) -> io::Result<()> {
    let whole = folder.join(path);
    let meta = match fs::symlink_metadata(&whole) {
        Ok(meta) => meta,
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    seen.insert(path.to_string_lossy().into_owned(), stamp(&meta, &whole)?);
    if meta.is_dir() && meta.dev() == dev {
        for entry in fs::read_dir(&whole)? {
            walk(folder, &path.join(entry?.file_name()), dev, seen)?;
        }
    }
    Ok(())
}

fn stamp(meta: &fs::Metadata, path: &Path) -> io::Result<Stamp> {
    let link = if meta.is_symlink() { Some(fs::read_link(path)?.to_string_lossy().into_owned()) } else { None };
    Ok(Stamp {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        file: meta.is_file().then(|| (meta.size(), meta.mtime())),
        link,
    })
}

/// Where something is there already, both change places at once. File systems that cannot do that have a moment with neither.
fn put(new: &Path, old: &Path, place: &Path) -> io::Result<()> {
    if fs::symlink_metadata(place).is_err() {
        fs::rename(new, place)?;
    } else if rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE).is_ok() {
        remove_tree(new)?;
    } else {
        fs::rename(place, old)?;
        fs::rename(new, place)?;
        remove_tree(old)?;
    }
    match place.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
