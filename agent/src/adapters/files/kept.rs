//! What a file has beside content, owner and mode, and what of it its replacement keeps.
//!
//! An access control list is kept where it is root's or the owner's own will. In a folder that others may write it could be
//! theirs: they would read a secret by a list that they set on the file before it, or on its folder. Capabilities and
//! signatures belong to the old content and go with it.

use std::{ffi::OsStr, os::fd::AsFd};

use rustix::{
    fs::{
        AtFlags, Mode, OFlags, Stat, StatxAttributes, StatxFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr,
        fsetxattr, openat, statx,
    },
    io::Errno,
};

use super::walk::{Spot, is_ours};

const LIST: &str = "system.posix_acl_access";
const DEFAULT_LIST: &str = "system.posix_acl_default";

/// An attribute's name and value.
pub type Attribute = (String, Vec<u8>);

/// What is there, split by whether a replacement owned by `uid` keeps it.
#[derive(Default)]
pub struct Attributes {
    pub kept: Vec<Attribute>,
    pub lost: Vec<String>,
}

/// Of an open file or folder, whose state is `stat`.
pub fn of(fd: impl AsFd, stat: &Stat, spot: &Spot, uid: u32) -> Result<Attributes, Errno> {
    let mut found = Attributes::default();
    let trusted = is_trusted(stat, spot, uid);
    for name in names(&fd)? {
        let belongs = name == LIST
            || name == DEFAULT_LIST
            || name.starts_with("user.")
            || name == "security.selinux"
            || name.starts_with("security.SMACK64");
        if !belongs || !trusted {
            found.lost.push(name);
            continue;
        }
        let mut value = Vec::with_capacity(64 * 1024);
        fgetxattr(&fd, name.as_str(), rustix::buffer::spare_capacity(&mut value))?;
        found.kept.push((name, value));
    }
    Ok(found)
}

/// Whether what `stat` shows had its lists from root, or from who is to own it.
pub fn is_trusted(stat: &Stat, spot: &Spot, uid: u32) -> bool {
    if spot.private {
        is_ours(stat.st_uid) || stat.st_uid == uid
    } else {
        // Its owner could set them again at any time.
        stat.st_uid == uid && spot.owner == uid
    }
}

fn names(fd: impl AsFd) -> Result<Vec<String>, Errno> {
    let mut list = Vec::with_capacity(64 * 1024);
    match flistxattr(fd, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Its access control lists.
pub fn lists(fd: impl AsFd) -> Result<Vec<String>, Errno> {
    Ok(names(fd)?.into_iter().filter(|name| [LIST, DEFAULT_LIST].contains(&name.as_str())).collect())
}

/// Gives a new file what the old one had.
pub fn give(fd: impl AsFd, attributes: &[Attribute]) -> Result<(), Errno> {
    attributes.iter().try_for_each(|(name, value)| match fsetxattr(&fd, name.as_str(), value, XattrFlags::empty()) {
        // A label of a security module that does not run here, or not for us.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) if name.starts_with("security.") => Ok(()),
        set => set,
    })
}

/// Takes away the lists that a new or taken-over thing has from others.
pub fn take(fd: impl AsFd) -> Result<(), Errno> {
    for name in [LIST, DEFAULT_LIST] {
        match fremovexattr(&fd, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            // What is no folder has no default list.
            Err(Errno::ACCESS | Errno::INVAL) if name == DEFAULT_LIST => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A folder just made in one that others may write has no lists from there.
pub fn inherit_nothing(parent: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    take(openat(parent, name, flags, Mode::empty())?)
}

/// Whether something is mounted on the thing itself.
pub fn is_mount(folder: impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    match statx(folder, name, flags, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// An attribute in the words of plans.
pub fn shown(name: &str) -> String {
    match name {
        LIST => "its access control list".to_owned(),
        DEFAULT_LIST => "its default access control list".to_owned(),
        "security.capability" => "its capabilities (security.capability)".to_owned(),
        name => format!("its attribute {name}"),
    }
}
