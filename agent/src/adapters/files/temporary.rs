//! Names of files that are not whole yet, and what a killed agent left of them.
//!
//! A leftover stands in the folder of a file that is still to be written, so a folder is swept when the first file is
//! written into it.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat},
    io::Errno,
};

use super::walk::Spot;

static NUMBER: AtomicU64 = AtomicU64::new(0);
const MARK: &str = ".muster-";

/// A name for what is to become `name`, cut so that it stays within the 255 bytes that a name may have.
pub fn name(name: &OsStr) -> OsString {
    let stem = &name.as_bytes()[..name.len().min(150)];
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut all = b".".to_vec();
    all.extend_from_slice(stem);
    all.extend_from_slice(format!("{MARK}{}-{number}", std::process::id()).as_bytes());
    OsString::from_vec(all)
}

/// The agent that gave the name.
fn process(name: &OsStr) -> Option<u32> {
    let name = name.as_bytes().strip_prefix(b".")?;
    let mark = name.windows(MARK.len()).rposition(|part| part == MARK.as_bytes())?;
    let (process, number) = std::str::from_utf8(&name[mark + MARK.len()..]).ok()?.split_once('-')?;
    number.parse::<u64>().ok()?;
    process.parse().ok()
}

/// Whether it is such a name for what is to become `of`.
pub fn is_for(name: &OsStr, of: &OsStr) -> bool {
    let stem = &of.as_bytes()[..of.len().min(150)];
    let rest = name.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(stem));
    rest.is_some_and(|rest| rest.starts_with(MARK.as_bytes())) && process(name).is_some()
}

/// Another agent, or this one, may be writing it at this moment.
pub fn is_being_written(name: &OsStr) -> bool {
    process(name).is_some_and(|process| process == std::process::id() || is_an_agent(process))
}

/// Under the same program's name; another program may have the number by now. One that has ended and that nobody asked for its end yet
/// writes nothing any more.
pub fn is_an_agent(process: u32) -> bool {
    let name = |process: &str| {
        let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
        // `7 (name) S …`, and the name may hold anything.
        let (begins, ends) =
            (stat.iter().position(|byte| *byte == b'(')?, stat.iter().rposition(|byte| *byte == b')')?);
        let runs = !matches!(stat.get(ends + 2)?, b'Z' | b'X');
        runs.then(|| stat[begins..ends].to_vec())
    };
    let theirs = name(&process.to_string());
    theirs.is_some() && theirs == name("self")
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_known() {
        assert_eq!(process(&name(OsStr::new("passwd"))), Some(std::process::id()));
        assert_eq!(process(OsStr::new(".a.muster-b.muster-7-1")), Some(7));
        for other in
            ["x.muster-7-1", ".x.muster-7", ".x.muster-7-", ".x.muster--1", ".x.muster-7-1~", ".muster-7-x", "."]
        {
            assert_eq!(process(OsStr::new(other)), None, "{other}");
        }
        assert!(
            is_for(OsStr::new(".a.muster-7-1"), OsStr::new("a"))
                && !is_for(OsStr::new(".ab.muster-7-1"), OsStr::new("a"))
        );
        assert!(is_being_written(&name(OsStr::new("x"))));
        assert!(!is_being_written(OsStr::new(".x.muster-1-1")), "the first process is no agent");
    }

    #[test]
    fn a_process_that_has_ended_is_no_agent_whether_or_not_somebody_asked_for_its_end() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        // Under this program's name, until its input ends.
        let script = format!("printf %s '{}' >/proc/self/comm; exec 2>/dev/null; echo; read line", own.trim_end());
        let mut child = std::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert!(is_an_agent(child.id()));
        child.kill().unwrap();
        let ended = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ");
        while !ended() {
            std::thread::yield_now();
        }
        assert!(!is_an_agent(child.id()));
        child.wait().unwrap();
    }
}
