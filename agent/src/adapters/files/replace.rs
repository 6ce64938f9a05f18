//! A file as a whole: another one takes its place.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
};

use rustix::{
    fs::{
        AtFlags, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fallocate, fchmod, fchown,
        fstat, mkdirat, openat, renameat, renameat_with, symlinkat, unlinkat,
    },
    io::Errno,
};

use super::{
    kept::{self, Attribute},
    trouble::{Trouble, frozen},
    walk::{Spot, is_ours},
};
use crate::temporary;

/// What a file is to be.
pub struct New<'a> {
    pub content: &'a [u8],
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A reader sees the old or the new one. Where something is mounted on the file itself, as on a container's `/etc/hosts`,
/// no other can take its place: that one is written in place.
pub fn replace(spot: &Spot, new: &New<'_>) -> Result<(), Trouble> {
    let old = spot.stat()?;
    let mut keep = Vec::new();
    match old.map(|old| FileType::from_raw_mode(old.st_mode)) {
        Some(FileType::RegularFile) => {
            if kept::is_mount(&spot.folder, &spot.name)? {
                return write_on_mount(spot, new);
            }
            let file = File::from(spot.open(OFlags::RDONLY | OFlags::NONBLOCK)?);
            let stat = fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                keep = kept::of(&file, &stat, spot, new.uid)?.kept;
            }
        }
        Some(FileType::Directory) => return Err(Errno::ISDIR.into()),
        Some(_) | None => {}
    }
    not_frozen(spot)?;
    let temporary = temporary::name(&spot.name);
    let written = write_new(spot, &temporary, new, old.as_ref(), &keep).and_then(|()| {
        renameat(&spot.folder, &temporary, &spot.folder, &spot.name)?;
        Ok(spot.sync()?)
    });
    // Where it was renamed already nothing is there to remove; where the disk is full it must not stay.
    if written.is_err() {
        let _ = unlinkat(&spot.folder, &temporary, AtFlags::empty());
    }
    written
}

/// In a frozen folder the temporary could be made and not be renamed nor removed.
fn not_frozen(spot: &Spot) -> Result<(), Trouble> {
    frozen(&spot.folder, OsStr::new("."), spot.real.parent().unwrap_or(&spot.real)).map_or(Ok(()), Err)
}

fn write_new(
    spot: &Spot,
    temporary: &OsStr,
    new: &New<'_>,
    old: Option<&Stat>,
    keep: &[Attribute],
) -> Result<(), Trouble> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&spot.folder, temporary, flags, Mode::from_raw_mode(0o600))?);
    // A list from the folder is for what is made there anew, and only where it is root's or the owner's will.
    if old.is_some() || !(spot.private || spot.owner == new.uid) {
        kept::take(&file)?;
    }
    // It is empty until its rights are those that it ends with: the list that it keeps brings rights of the old file, which may be more.
    own(&file, new)?;
    kept::give(&file, keep)?;
    fchmod(&file, Mode::from_raw_mode(new.mode & !SET_ID))?;
    file.write_all(new.content)?;
    set_id(&file, new)?;
    Ok(file.sync_all()?)
}

/// What runs as another user does so once it is whole.
const SET_ID: u32 = 0o6000;

fn set_id(file: &File, new: &New<'_>) -> Result<(), Errno> {
    if new.mode & SET_ID == 0 { Ok(()) } else { fchmod(file, Mode::from_raw_mode(new.mode)) }
}

/// The owner before the mode: a change of owner clears the set-id bits.
fn own(file: &File, new: &New<'_>) -> Result<(), Errno> {
    let stat = fstat(file)?;
    if (stat.st_uid, stat.st_gid) == (new.uid, new.gid) {
        return Ok(());
    }
    fchown(file, Some(Uid::from_raw(new.uid)), Some(Gid::from_raw(new.gid)))
}

fn write_on_mount(spot: &Spot, new: &New<'_>) -> Result<(), Trouble> {
    let file = File::from(spot.open(OFlags::WRONLY | OFlags::NONBLOCK)?);
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !kept::is_mount(&file, OsStr::new(""))? {
        // It was unmounted meanwhile: the next look decides.
        return Err(io::Error::from(io::ErrorKind::ResourceBusy).into());
    }
    // On a full disk it stays as it is. What is there is written over, but where a file system copies on write.
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, new.content.len() as u64) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    // Who may read the old content may not read the new one for that: it may be a secret.
    fchmod(&file, Mode::from_raw_mode(stat.st_mode & new.mode & !SET_ID & 0o7777))?;
    own(&file, new)?;
    fchmod(&file, Mode::from_raw_mode(new.mode & !SET_ID))?;
    file.write_all_at(new.content, 0)?;
    file.set_len(new.content.len() as u64)?;
    set_id(&file, new)?;
    Ok(file.sync_all()?)
}

/// Puts a link in place of a file or link.
pub fn link(spot: &Spot, target: &str) -> Result<(), Trouble> {
    not_frozen(spot)?;
    let temporary = temporary::name(&spot.name);
    symlinkat(target, &spot.folder, &temporary)?;
    let renamed = renameat(&spot.folder, &temporary, &spot.folder, &spot.name).and_then(|()| spot.sync());
    if renamed.is_err() {
        let _ = unlinkat(&spot.folder, &temporary, AtFlags::empty());
    }
    Ok(renamed?)
}

/// A new folder under its name at once with its owner and mode.
pub fn folder(spot: &Spot, mode: u32, uid: u32, gid: u32) -> Result<(), Trouble> {
    let temporary = temporary::name(&spot.name);
    mkdirat(&spot.folder, &temporary, Mode::RWXU)?;
    let made = set_up(spot, &temporary, mode, uid, gid).and_then(|()| {
        renameat_with(&spot.folder, &temporary, &spot.folder, &spot.name, RenameFlags::NOREPLACE)?;
        Ok(spot.sync()?)
    });
    if made.is_err() {
        let _ = unlinkat(&spot.folder, &temporary, AtFlags::REMOVEDIR);
    }
    made
}

fn set_up(spot: &Spot, folder: &OsStr, mode: u32, uid: u32, gid: u32) -> Result<(), Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(&spot.folder, folder, flags, Mode::empty())?;
    if !spot.private {
        // Who may write the parent could have put another one of root's there.
        let entries = Dir::read_from(&made)?.filter(|entry| {
            let name = entry.as_ref().map(|entry| entry.file_name().to_bytes().to_vec()).unwrap_or_default();
            !matches!(name.as_slice(), b"." | b"..")
        });
        if entries.count() > 0 || !is_ours(fstat(&made)?.st_uid) {
            return Err(io::Error::from(io::ErrorKind::ResourceBusy).into());
        }
        kept::take(&made)?;
    }
    let stat = fstat(&made)?;
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(fchmod(&made, Mode::from_raw_mode(mode))?)
}

/// Owner and mode of a file or folder, on one descriptor.
pub fn set(spot: &Spot, mode: u32, uid: u32, gid: u32) -> Result<(), Trouble> {
    let opened = spot.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    let file = File::from(match opened {
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(Trouble::of_no_kind(&spot.real)),
        opened => opened?,
    });
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            // Lists that the former owner set would let him in for good.
            if !kept::is_trusted(&stat, spot, uid) {
                kept::take(&file)?;
            }
        }
        FileType::RegularFile if !spot.private && !is_its_only_name(&stat, spot)? => {
            return Err(Trouble::another_name(&spot.real));
        }
        FileType::RegularFile => {}
        _other => return Err(Trouble::of_no_kind(&spot.real)),
    }
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        // The new group has no use of rights that were another one's, not for a moment.
        let narrow = stat.st_mode & mode & 0o7777;
        if narrow != stat.st_mode & 0o7777 {
            fchmod(&file, Mode::from_raw_mode(narrow))?;
        }
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// Whether what was opened, of which `stat` was taken then, has the name that it was opened by and no other. Somebody may take
/// the name away between the opening and the count, which leaves one, the other: so the name is looked for after it. To give
/// the name back in between would take a link to a file that is not his own (`fs.protected_hardlinks`).
fn is_its_only_name(stat: &Stat, spot: &Spot) -> Result<bool, Errno> {
    let named = spot.stat()?.is_some_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino));
    Ok(stat.st_nlink == 1 && named)
}
