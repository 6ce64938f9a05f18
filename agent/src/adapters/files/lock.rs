//! A lock between processes: `flock` on a file of its own, which ends with its process.

use std::{fs::File, io::ErrorKind, path::Path, thread::sleep, time::Duration};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, openat},
    io::Errno,
};

use super::{
    trouble::Trouble,
    walk::{Last, Missing, Root},
};
use crate::ports::Lock;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// Who has it longer hangs.
const TRIES: u32 = 1500;

pub fn take(root: &Root, path: &str) -> Result<Lock, Trouble> {
    let spot = root.walk(Path::new(path), Missing::Make, Last::Keep)?.ok_or(Errno::NOENT)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(&spot.folder, &spot.name, flags, Mode::RUSR | Mode::WUSR)?);
    for _ in 0..TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock::held(file)),
            Err(Errno::WOULDBLOCK) => sleep(PAUSE),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let help = format!("another process holds it: `lslocks` names it, `fuser {path}` too");
    Err(Trouble { source: ErrorKind::TimedOut.into(), help: Some(help) })
}
