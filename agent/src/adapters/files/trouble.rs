//! Why the file system said no, in words that lead on.

use std::{
    ffi::OsStr,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, StatxAttributes, StatxFlags, statx},
    io::Errno,
};

use super::walk::Spot;
use crate::ports::FileError;

/// An error of the system, and the way out where it is known.
#[derive(Debug)]
pub struct Trouble {
    pub source: io::Error,
    pub help: Option<String>,
}

impl From<io::Error> for Trouble {
    fn from(source: io::Error) -> Self {
        Self { source, help: None }
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl Trouble {
    fn new(kind: io::ErrorKind, message: String, help: String) -> Self {
        Self { source: io::Error::new(kind, message), help: Some(help) }
    }

    /// A link on the way that somebody else than root put there, or could have.
    pub fn foreign_link(link: &Path, target: &Path, folder: &Path, owner: u32) -> Self {
        let (link, folder) = (link.display(), folder.display());
        Self::new(
            io::ErrorKind::PermissionDenied,
            format!("{link} is a link to {target:?} that root did not make, or that somebody else may swap"),
            format!(
                "no link is followed where others than root may put one ({folder} is user {owner}'s or others may write it): \
                 take the link away, name the place itself in the site, or give {folder} to root alone"
            ),
        )
    }

    /// A file with another name elsewhere, in a folder where anybody may have put it.
    pub fn another_name(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            io::ErrorKind::PermissionDenied,
            format!("{path} has another name elsewhere (a hard link)"),
            format!("its owner and mode would be those of the other name, too: make {path} a file of its own"),
        )
    }

    pub fn not_in_place(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            io::ErrorKind::PermissionDenied,
            format!("{path} is in a folder that others than root may write"),
            "what is written in place there could be another file by now: use a folder of root's".to_owned(),
        )
    }

    pub fn of_no_kind(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is neither a file nor a folder"),
            format!("see what made it (`stat {path}`) and move it away"),
        )
    }

    /// Something else stands where a folder on the way has to be.
    pub fn no_folder(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            io::ErrorKind::NotADirectory,
            format!("{path} is there and is no folder"),
            format!("move {path} away by hand, or choose another path"),
        )
    }

    pub fn mounted(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            io::ErrorKind::ResourceBusy,
            format!("something is mounted on {path}"),
            format!("`findmnt {path}` says what; unmount it, or leave it out of the site"),
        )
    }

    /// Somebody else changes names in the folder at this moment.
    pub fn meanwhile(path: &Path) -> Self {
        Self::new(
            io::ErrorKind::ResourceBusy,
            format!("somebody changed {} meanwhile", path.display()),
            "the next run tries again: see who owns the folder that it is in".to_owned(),
        )
    }

    pub fn too_deep(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            io::ErrorKind::InvalidInput,
            format!("{path} lies deeper than the agent goes"),
            format!("see who made so many folders, and remove it by hand: rm -r {path}"),
        )
    }

    /// Says where a "not permitted" comes from: a file or its folder may be frozen, which root's rights do not change.
    pub fn explained(self, spot: &Spot) -> Self {
        self.explained_at(&spot.folder, &spot.name, &spot.real)
    }

    /// The same of `name` in an open folder, whose whole path is `path`.
    pub fn explained_at(self, folder: impl AsFd, name: &OsStr, path: &Path) -> Self {
        if self.help.is_some() || Errno::from_io_error(&self.source) != Some(Errno::PERM) {
            return self;
        }
        let above = path.parent().unwrap_or(path);
        frozen(&folder, name, path).or_else(|| frozen(&folder, OsStr::new("."), above)).unwrap_or(self)
    }

    pub fn of(self, what: &'static str, path: impl Into<PathBuf>) -> FileError {
        FileError { what, path: path.into(), source: self.source, help: self.help }
    }
}

/// What `chattr` forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    Immutable,
    Append,
}

impl Freeze {
    pub fn words(self) -> &'static str {
        match self {
            Self::Immutable => "is immutable (chattr +i)",
            Self::Append => "is only to be appended to (chattr +a)",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Immutable => 'i',
            Self::Append => 'a',
        }
    }
}

/// Of the thing itself or, as `.`, of its folder.
pub fn freeze(folder: impl AsFd, name: &OsStr) -> Option<Freeze> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = statx(folder, name, flags, StatxFlags::empty()).ok()?.stx_attributes;
    if found.contains(StatxAttributes::IMMUTABLE) {
        Some(Freeze::Immutable)
    } else {
        found.contains(StatxAttributes::APPEND).then_some(Freeze::Append)
    }
}

/// The same as an error that says so.
pub fn frozen(folder: impl AsFd, name: &OsStr, path: &Path) -> Option<Trouble> {
    let freeze = freeze(folder, name)?;
    let (path, words, letter) = (path.display(), freeze.words(), freeze.letter());
    Some(Trouble::new(
        io::ErrorKind::PermissionDenied,
        format!("{path} {words}"),
        format!("somebody wants it to stay as it is: `chattr -{letter} {path}`, or leave it out of the site"),
    ))
}
