//! What an archive would write, checked as a whole before anything is written.
//!
//! No path leaves the folder, and no path goes through a link of the archive, so each name is where it says. A link's target may go up only at its
//! beginning, and not above the folder; what follows goes down, perhaps through other links, which stay inside for the same reason.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Component, Path, PathBuf},
};

use tar::EntryType;

use super::record;
use crate::ports::ArchiveError;

/// By path in the folder.
pub(super) struct Entries(BTreeMap<PathBuf, Kind>);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder {
        mode: u32,
    },
    File {
        mode: u32,
        /// Seconds since the epoch.
        time: u64,
    },
    Link {
        target: PathBuf,
    },
    /// The same file as that one.
    Same {
        path: PathBuf,
    },
}

impl Kind {
    fn is_folder(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }
}

fn refused(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Refused { why: why.into() }
}

impl Entries {
    pub(super) fn checked(archive: impl Read, strip: u8) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Format { kind: "", source: Some(source) };
        let mut all: BTreeMap<PathBuf, Kind> = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.path().map_err(unreadable)?.into_owned();
            let link = entry.link_name().map_err(unreadable)?.map(|link| link.into_owned());
            let shown = name.display();
            let header = entry.header();
            // No set-id bits: who may become another user is not an archive's to say.
            let mode = header.mode().map_err(unreadable)? & 0o777;
            let kind = match (header.entry_type(), link) {
                (EntryType::XGlobalHeader, _) => continue,
                (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, _) => {
                    Kind::File { mode, time: header.mtime().map_err(unreadable)? }
                }
                (EntryType::Directory, _) => Kind::Folder { mode },
                (EntryType::Symlink, Some(target)) => Kind::Link { target },
                (EntryType::Link, Some(target)) => match place(&target, strip)? {
                    Some(path) => Kind::Same { path },
                    None => {
                        return Err(refused(format!(
                            "`{shown}` is the same as `{}`, which is left out",
                            target.display()
                        )));
                    }
                },
                (EntryType::Block | EntryType::Char | EntryType::Fifo, _) => {
                    return Err(refused(format!("`{shown}` is a device or a pipe")));
                }
                (_other, _) => return Err(refused(format!("`{shown}` is of a kind that is not known"))),
            };
            let Some(path) = place(&name, strip)? else { continue };
            if path == Path::new(record::NAME) {
                return Err(refused(format!("`{shown}` is the name of muster's own record")));
            }
            if let Some(before) = all.get(&path)
                && Kind::is_folder(before) != kind.is_folder()
            {
                return Err(refused(format!("`{shown}` is a folder and none")));
            }
            all.insert(path, kind);
        }
        let entries = Self(all);
        entries.check()?;
        Ok(entries)
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Kind> {
        self.0.get(path)
    }

    fn check(&self) -> Result<(), ArchiveError> {
        if self.0.is_empty() {
            return Err(refused("nothing in it is left to unpack: is `strip` too large?"));
        }
        for (path, kind) in &self.0 {
            let shown = path.display();
            let through =
                path.ancestors().skip(1).find(|above| self.0.get(*above).is_some_and(|kind| !kind.is_folder()));
            if let Some(above) = through {
                return Err(refused(format!("`{shown}` lies in `{}`, which is no folder", above.display())));
            }
            match kind {
                Kind::Link { target } if !stays(path, target) => {
                    return Err(refused(format!("the link `{shown}` to `{}` leads out of it", target.display())));
                }
                Kind::Same { path: other } if !matches!(self.0.get(other), Some(Kind::File { .. })) => {
                    return Err(refused(format!(
                        "`{shown}` is the same as `{}`, which is no file in it",
                        other.display()
                    )));
                }
                Kind::Folder { .. } | Kind::File { .. } | Kind::Link { .. } | Kind::Same { .. } => {}
            }
        }
        Ok(())
    }
}

/// Where a name of the archive is unpacked; nowhere where nothing is left of it.
pub(super) fn place(name: &Path, strip: u8) -> Result<Option<PathBuf>, ArchiveError> {
    if name.to_str().is_none() {
        return Err(refused(format!("`{}` is no name in UTF-8", name.display())));
    }
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused(format!("`{}` leads out of it", name.display())));
            }
        }
    }
    let left: PathBuf = parts.iter().skip(strip.into()).collect();
    Ok((!left.as_os_str().is_empty()).then_some(left))
}

fn stays(path: &Path, target: &Path) -> bool {
    let depth = path.components().count() - 1;
    let (mut up, mut down) = (0, false);
    for part in target.components() {
        match part {
            Component::ParentDir if down => return false,
            Component::ParentDir => up += 1,
            Component::Normal(_) => down = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    up <= depth
}
