//! What a killed agent left of files that were not whole yet.
//!
//! A leftover stands in the folder of a file that is still to be written, so a folder is swept when the first file is
//! written into it.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat},
    io::Errno,
};

use super::walk::Spot;
use crate::temporary::{is_an_agent, process};

/// Folders that were swept, by device and number. Nothing is made in one while it is being swept.
#[derive(Default)]
pub struct Swept(Mutex<HashSet<(u64, u64)>>);

impl Swept {
    /// Removes what is left in the folder by agents that are gone; once for each folder.
    pub fn sweep(&self, spot: &Spot) -> Result<(), Errno> {
        let stat = fstat(&spot.folder)?;
        let mut swept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !swept.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&spot.folder, ".", flags, Mode::empty())?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let flags = match entry.file_type() {
                FileType::RegularFile | FileType::Symlink | FileType::Unknown => AtFlags::empty(),
                // Made empty and named at once; another is none of ours.
                FileType::Directory => AtFlags::REMOVEDIR,
                _other => continue,
            };
            // Those of this very process are from an earlier one with its number: it begins with this sweep here.
            let gone = |process| process == std::process::id() || !is_an_agent(process);
            if process(name).is_some_and(gone) {
                match unlinkat(&folder, name, flags) {
                    Ok(()) => tracing::info!(folder = %spot.real.display(), ?name, "removed what a killed agent left"),
                    // An archive's, which that kind sees to.
                    Err(Errno::NOTEMPTY | Errno::EXIST) if flags == AtFlags::REMOVEDIR => {}
                    Err(error) => tracing::warn!(?name, %error, "what a killed agent left cannot be removed"),
                }
            }
        }
        Ok(())
    }
}
