//! From a path to descriptors that nobody can swap.
//!
//! A folder is *private* where root alone (or who the agent runs as) may put and rename names in it, and in every folder
//! above it. In all others somebody may swap a name at any time, between any two calls: there no link is followed, whoever
//! owns it, and what is done is done to descriptors. A link in a private folder was put there by root, as `/var/run` was,
//! and is followed where root owns it.
//!
//! Group-writable counts as everybody's: an access control list shows there, too. So does a sticky folder like `/tmp`: who
//! may not rename in it may still make a name that is not there yet.

use std::{
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, mkdirat, openat, openat2, readlinkat, statat,
    },
    io::Errno,
};

use super::{kept, tree, trouble::Trouble};
use crate::ports::Entry;

/// The folder that absolute paths begin in: `/` but in tests.
pub struct Root(PathBuf);

/// An open folder and a name in it.
pub struct Spot {
    pub folder: OwnedFd,
    /// Nobody but root puts names into the folder or into one above it.
    pub private: bool,
    /// The folder's owner.
    pub owner: u32,
    /// `.` stands for the folder itself.
    pub name: OsString,
    /// The whole path without a link in it.
    pub real: PathBuf,
}

/// Folders on the way that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Stop,
    /// `0755`, root's.
    Make,
}

/// A link at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Keep,
    Follow,
}

struct Level {
    fd: OwnedFd,
    private: bool,
    owner: u32,
    name: OsString,
}

/// As the kernel has it.
const MOST_LINKS: usize = 40;

impl Root {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens it in one call; `LOOP` where a link is on the way, which only [`Root::walk`] may judge.
    pub fn quick(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let opened = if self.0.as_os_str() == "/" {
            openat2(CWD, path, flags, Mode::empty(), resolve)
        } else {
            let relative = path.trim_start_matches('/');
            openat2(self.open()?, if relative.is_empty() { "." } else { relative }, flags, Mode::empty(), resolve)
        };
        match opened {
            // A kernel or a sandbox that does not know the call: it is walked.
            Err(Errno::NOSYS | Errno::PERM) => Err(Errno::LOOP),
            opened => opened,
        }
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        openat(CWD, &self.0, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Goes name by name; none where a folder on the way is not there.
    pub fn walk(&self, path: &Path, missing: Missing, last: Last) -> Result<Option<Spot>, Trouble> {
        let root = self.open()?;
        let stat = fstat(&root)?;
        let mut levels =
            vec![Level { fd: root, private: is_private(&stat), owner: stat.st_uid, name: OsString::new() }];
        let mut left = names(path);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                if levels.len() > 1 {
                    levels.pop();
                }
                continue;
            }
            if left.is_empty() && last == Last::Keep {
                return Ok(Some(spot(levels, name)));
            }
            let Some(top) = levels.last() else { return Ok(None) };
            let child = match child(top, &name) {
                Err(Errno::NOENT) if left.is_empty() => return Ok(Some(spot(levels, name))),
                Err(Errno::NOENT) if missing == Missing::Make => {
                    make(top, &name)?;
                    child(top, &name)?
                }
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                child => child?,
            };
            let stat = fstat(&child)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let private = top.private && is_private(&stat);
                    levels.push(Level { fd: child, private, owner: stat.st_uid, name });
                }
                FileType::Symlink => {
                    let target = PathBuf::from(OsString::from_vec(readlinkat(&child, "", Vec::new())?.into_bytes()));
                    if !top.private || !is_ours(stat.st_uid) {
                        let folder = shown(&levels, None);
                        return Err(Trouble::foreign_link(&shown(&levels, Some(&name)), &target, &folder, top.owner));
                    }
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        levels.truncate(1);
                    }
                    left.extend(names(&target));
                }
                _file if left.is_empty() => return Ok(Some(spot(levels, name))),
                _file if missing == Missing::Make => return Err(Trouble::no_folder(&shown(&levels, Some(&name)))),
                _file => return Ok(None),
            }
        }
        Ok(Some(spot(levels, OsString::from("."))))
    }
}

impl Spot {
    /// Of the thing itself; none where nothing is there.
    pub fn stat(&self) -> Result<Option<Stat>, Errno> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the thing itself, never what a link in its place leads to.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(&self.folder, &self.name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// What is in its folder, sorted.
    pub fn siblings(&self) -> Result<Vec<Entry>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        tree::entries(openat(&self.folder, ".", flags, Mode::empty())?)
    }

    /// What was done in the folder is on disk.
    pub fn sync(&self) -> Result<(), Errno> {
        sync(&self.folder)
    }
}

/// Last first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn child(top: &Level, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(&top.fd, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn make(top: &Level, name: &OsStr) -> Result<(), Errno> {
    match mkdirat(&top.fd, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error),
    }
    if !top.private {
        kept::inherit_nothing(&top.fd, name)?;
    }
    sync(&top.fd)
}

fn sync(folder: &OwnedFd) -> Result<(), Errno> {
    let folder = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fsync(folder)
}

fn spot(mut levels: Vec<Level>, name: OsString) -> Spot {
    let real = shown(&levels, (name != ".").then_some(&name));
    // The root is never taken away.
    let top = levels.swap_remove(levels.len() - 1);
    Spot { folder: top.fd, private: top.private, owner: top.owner, name, real }
}

fn shown(levels: &[Level], name: Option<&OsString>) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(levels.iter().skip(1).map(|level| &level.name).chain(name));
    path
}

/// Root's, or of who the agent runs as.
pub fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn is_private(stat: &Stat) -> bool {
    is_ours(stat.st_uid) && stat.st_mode & 0o022 == 0
}
