//! Folders with what is in them: named, counted, removed, never over a link nor over a mount.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat},
    io::Errno,
};

use super::{
    kept,
    trouble::{Trouble, freeze, frozen},
};
use crate::ports::{Entry, FileKind, Inside};

/// Folders in folders beyond which nobody's files lie; each holds a descriptor while it is walked.
const DEEPEST: usize = 200;
/// Further files are not counted: a plan shows that there are many.
const MOST: usize = 100_000;

pub fn kind_of(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        FileType::Socket => FileKind::Socket,
        _other => FileKind::Other,
    }
}

/// A folder below another one on the same mount.
pub fn open_below(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(&parent, name, flags, Mode::empty(), resolve) {
        // A kernel or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            if kept::is_mount(&parent, name)? {
                return Err(Errno::XDEV);
            }
            openat(parent, name, flags, Mode::empty())
        }
        opened => opened,
    }
}

/// What is in an open folder, sorted.
pub fn entries(folder: impl AsFd) -> Result<Vec<Entry>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            },
            kind => kind,
        };
        found.push(Entry { name: OsStr::from_bytes(name.to_bytes()).to_owned(), kind: kind_of(kind) });
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Counts what is in the folder `name` of `parent`, however deep, and names its sockets and what `chattr` forbids to remove.
pub fn inside(parent: impl AsFd, name: &OsStr, path: &Path, deep: usize, found: &mut Inside) -> Result<(), Trouble> {
    let folder = match open_below(parent, name) {
        // Mounted since, or gone: the removal says so.
        Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        folder => folder?,
    };
    if deep == DEEPEST {
        return Err(Trouble::too_deep(path));
    }
    for entry in entries(&folder)? {
        if found.count >= MOST {
            found.more = true;
            return Ok(());
        }
        found.count += 1;
        let whole = path.join(&entry.name);
        if let Some(word) = freeze(&folder, &entry.name) {
            found.frozen.push((whole.clone(), word.words()));
        }
        match entry.kind {
            FileKind::Directory => inside(&folder, &entry.name, &whole, deep + 1, found)?,
            FileKind::Socket => found.sockets.push(whole),
            FileKind::File | FileKind::Link | FileKind::Other => {}
        }
    }
    Ok(())
}

/// Removes the folder `name` of `parent` with all in it, or nothing, where a part of it cannot go.
pub fn remove(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<(), Trouble> {
    let folder = match open_below(&parent, name) {
        Err(Errno::XDEV) => return Err(Trouble::mounted(path)),
        Err(Errno::NOENT) => return Ok(()),
        folder => folder?,
    };
    may_go(&parent, name, &folder, path)?;
    remove_opened(&parent, name, &folder, path, 0)
}

/// An error where `folder`, which stands as `name` in `parent`, or something in it cannot be removed.
pub fn may_go(parent: impl AsFd, name: &OsStr, folder: &OwnedFd, path: &Path) -> Result<(), Trouble> {
    melted(parent, name, path)?;
    all_may_go(folder, path, 0)
}

fn all_may_go(folder: &OwnedFd, path: &Path, deep: usize) -> Result<(), Trouble> {
    if deep == DEEPEST {
        return Err(Trouble::too_deep(path));
    }
    for Entry { name, kind } in entries(folder)? {
        let below = path.join(&name);
        melted(folder, &name, &below)?;
        if kind == FileKind::Directory {
            match open_below(folder, &name) {
                Ok(opened) => all_may_go(&opened, &below, deep + 1)?,
                Err(Errno::XDEV) => return Err(Trouble::mounted(&below)),
                // Swapped or gone meanwhile: the removal sees to it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        } else if kept::is_mount(folder, &name)? {
            return Err(Trouble::mounted(&below));
        }
    }
    Ok(())
}

fn melted(folder: impl AsFd, name: &OsStr, path: &Path) -> Result<(), Trouble> {
    frozen(folder, name, path).map_or(Ok(()), Err)
}

/// Removes all that is in `folder`, which stands as `name` in `parent`, and then it.
pub fn remove_opened(
    parent: impl AsFd,
    name: &OsStr,
    folder: &OwnedFd,
    path: &Path,
    deep: usize,
) -> Result<(), Trouble> {
    if deep == DEEPEST {
        return Err(Trouble::too_deep(path));
    }
    // Again, where somebody makes files meanwhile, and not for ever.
    for _try in 0..3 {
        for Entry { name, kind } in entries(folder)? {
            let below = path.join(&name);
            if kind == FileKind::Directory {
                match open_below(folder, &name) {
                    Ok(opened) => remove_opened(folder, &name, &opened, &below, deep + 1)?,
                    Err(Errno::XDEV) => return Err(Trouble::mounted(&below)),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            match unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY) => return Err(Trouble::mounted(&below)),
                Err(error) => return Err(Trouble::from(error).explained_at(folder, &name, &below)),
            }
        }
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            // Its name leads to something else by now.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(Errno::BUSY) => return Err(Trouble::mounted(path)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Names of the sockets that programs hold, from one network's `/proc/…/net/unix`. Without the folder: a program in a
/// container knows its socket by another path.
pub fn sockets(table: &[u8], found: &mut BTreeSet<OsString>) {
    for line in table.split(|byte| *byte == b'\n').skip(1) {
        let mut rest = line.trim_ascii();
        // Six numbers and an inode stand before the path.
        for _field in 0..7 {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            rest = rest[end..].trim_ascii_start();
        }
        if !rest.starts_with(b"@")
            && let Some(name) = Path::new(OsStr::from_bytes(rest)).file_name()
        {
            found.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_known_by_name() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 20711 /run/a b.sock\n0000000000000000: 00000003 00000000 00000000 0001 03    93 @abstract\n0000000000000000: 00000003 00000000 00000000 0001 03 20712\n0000000000000000: 00000002 00000000 00010000 0001 01     7 /run/x/y.sock\n";
        let mut found = BTreeSet::new();
        sockets(table, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a b.sock", "y.sock"]);
    }
}
