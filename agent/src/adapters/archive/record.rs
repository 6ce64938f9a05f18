//! What was unpacked into a folder, kept in a file in it.

use std::{collections::BTreeMap, ffi::OsStr, fs::File, io::Read as _, os::fd::OwnedFd};

use muster_plan::kinds::archive::Origin;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    adapters::files::{tree, trouble::Trouble, walk::is_ours},
    ports::{Entry, FileKind},
};

/// In the folder.
pub const NAME: &str = ".muster-archive";
/// A longer one is none of ours.
const MOST: i64 = 256 << 20;

/// What was unpacked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub from: Origin,
    /// By path in the folder.
    pub entries: BTreeMap<String, Stamp>,
}

/// What a path was when it was unpacked. Of a folder others may change size and time.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<(u64, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

/// What stands for the record in a folder.
pub enum Mark {
    None,
    /// Somebody else's, who may own the folder: a pipe that nobody writes to, a link to anywhere.
    Foreign,
    /// Root's own file, and not whole.
    Broken,
    Ours(Record),
}

pub fn of(folder: &OwnedFd) -> Result<Mark, Trouble> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = match openat(folder, NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Mark::None),
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::WOULDBLOCK) => return Ok(Mark::Foreign),
        Err(error) => return Err(error.into()),
    };
    let stat = fstat(&file)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || !is_ours(stat.st_uid) || stat.st_mode & 0o022 != 0 || stat.st_nlink != 1 || stat.st_size > MOST {
        return Ok(Mark::Foreign);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).map_or(Mark::Broken, Mark::Ours))
}

/// The stamps of what is in a folder, and of it as the empty path; links are not followed and other file systems not entered.
pub struct Seen(pub BTreeMap<String, Stamp>);

impl Seen {
    /// With `known`, only folders among these are entered: others may be as deep and as full as somebody likes.
    pub fn of(folder: &OwnedFd, known: Option<&BTreeMap<String, Stamp>>) -> Result<Self, Trouble> {
        let mut seen = Self(BTreeMap::new());
        seen.0.insert(String::new(), stamp(&fstat(folder)?, None));
        seen.enter(folder, "", known)?;
        Ok(seen)
    }

    fn enter(&mut self, folder: &OwnedFd, path: &str, known: Option<&BTreeMap<String, Stamp>>) -> Result<(), Trouble> {
        for Entry { name, kind } in tree::entries(folder)? {
            let Some(stat) = look(folder, &name)? else { continue };
            let link = match kind {
                FileKind::Link => match readlinkat(folder, &name, Vec::new()) {
                    Ok(target) => Some(target.to_string_lossy().into_owned()),
                    Err(Errno::NOENT | Errno::INVAL) => None,
                    Err(error) => return Err(error.into()),
                },
                FileKind::File | FileKind::Directory | FileKind::Socket | FileKind::Other => None,
            };
            let name_shown = name.to_string_lossy();
            let whole = if path.is_empty() { name_shown.into_owned() } else { format!("{path}/{name_shown}") };
            if whole == NAME {
                continue;
            }
            let enter = kind == FileKind::Directory && known.is_none_or(|known| known.contains_key(&whole));
            if enter {
                match tree::open_below(folder, &name) {
                    Ok(opened) => self.enter(&opened, &whole, known)?,
                    // A mount, or swapped meanwhile.
                    Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.0.insert(whole, stamp(&stat, link));
        }
        Ok(())
    }
}

/// None where it is gone meanwhile.
fn look(folder: &OwnedFd, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn stamp(stat: &Stat, link: Option<String>) -> Stamp {
    let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let file = file.then_some((stat.st_size as u64, stat.st_mtime));
    Stamp { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, file, link }
}

/// Of a folder that will have this owner, with the rights of all archives' folders.
pub fn folder_stamp(uid: u32, gid: u32) -> Stamp {
    Stamp { mode: FileType::Directory.as_raw_mode() | super::fresh::MODE, uid, gid, file: None, link: None }
}
