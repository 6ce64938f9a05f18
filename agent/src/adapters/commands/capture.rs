//! What a program writes and reads, in memory that no one else has a name for.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    os::unix::fs::FileExt,
    process::Stdio,
};

use rustix::fs::{MemfdFlags, OFlags};

/// Output beyond this is cut out of the middle.
const MOST: usize = 16 * 1024 * 1024;
/// After so much had to be cut, this much at the end is kept.
const LAST: u64 = 1024 * 1024;
/// As much as the last words of a program are.
const WORDS: u64 = 64 * 1024;

/// One stream of a program.
pub(super) struct Capture {
    file: File,
    /// The beginning, once there was too much.
    first: Vec<u8>,
    /// The end of what was cut last: a program's last words may be there.
    words: Vec<u8>,
}

impl Capture {
    pub(super) fn new() -> io::Result<Self> {
        let file = memory()?;
        // Several processes write it at once, and it is emptied under them: each write goes to its end.
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(Self { file, first: Vec::new(), words: Vec::new() })
    }

    /// For the program.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.file.try_clone()?.into())
    }

    /// Keeps a program that writes without end from filling the memory.
    pub(super) fn trim(&mut self) {
        let length = self.length();
        if self.first.is_empty() && length > MOST as u64 {
            self.first = self.part(0, MOST);
        } else if self.first.is_empty() || length <= LAST {
            return;
        }
        self.words = self.part(length.saturating_sub(WORDS), WORDS as usize);
        // Where that fails the next look tries again.
        let _ = self.file.set_len(0);
    }

    /// All that was written until now, but for what was cut.
    pub(super) fn read(&mut self) -> Vec<u8> {
        let length = self.length();
        let mut all = std::mem::take(&mut self.first);
        all.append(&mut self.words);
        let mut from = 0;
        if all.is_empty() {
            all = self.part(0, MOST);
            from = all.len() as u64;
        }
        let from = from.max(length.saturating_sub(LAST));
        all.extend(self.part(from, usize::try_from(length.saturating_sub(from)).unwrap_or(MOST)));
        all
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    fn part(&self, from: u64, most: usize) -> Vec<u8> {
        let most = most.min(usize::try_from(self.length().saturating_sub(from)).unwrap_or(most));
        let mut part = vec![0; most];
        let mut filled = 0;
        while filled < most {
            match self.file.read_at(&mut part[filled..], from + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        part.truncate(filled);
        part
    }
}

/// What a program is to read.
pub(super) fn input(text: &[u8]) -> io::Result<Stdio> {
    if text.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = memory()?;
    file.write_all(text)?;
    file.rewind()?;
    Ok(file.into())
}

fn memory() -> io::Result<File> {
    let made = rustix::fs::memfd_create("muster-command", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL);
    let file = match made {
        // Older than 6.3.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("muster-command", MemfdFlags::CLOEXEC),
        made => made,
    };
    Ok(File::from(file?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_keeps_its_beginning_and_its_end() {
        let mut capture = Capture::new().unwrap();
        let mut program = capture.file.try_clone().unwrap();
        program.write_all(b"first ").unwrap();
        program.write_all(&vec![b'x'; MOST]).unwrap();
        capture.trim();
        program.write_all(&vec![b'y'; LAST as usize + 1]).unwrap();
        program.write_all(b"the last words, ").unwrap();
        capture.trim();
        assert_eq!(capture.length(), 0);
        program.write_all(b"and more").unwrap();
        capture.trim();
        let all = capture.read();
        assert!(all.starts_with(b"first x") && all.ends_with(b"ythe last words, and more"), "{}", all.len());
    }

    #[test]
    fn too_much_between_two_looks_is_cut_the_same() {
        let mut capture = Capture::new().unwrap();
        let mut program = capture.file.try_clone().unwrap();
        program.write_all(b"first ").unwrap();
        program.write_all(&vec![b'x'; MOST * 2]).unwrap();
        program.write_all(b"last").unwrap();
        let all = capture.read();
        assert_eq!(all.len(), MOST + LAST as usize);
        assert!(all.starts_with(b"first x") && all.ends_with(b"xlast"));
        let mut little = Capture::new().unwrap();
        little.file.try_clone().unwrap().write_all(b"all of it").unwrap();
        assert_eq!(little.read(), b"all of it");
    }
}
