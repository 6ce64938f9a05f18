//! What a file said when it was read last, so that an `apply` that finds it unchanged need not read its text again.
//!
//! It stands beside the state of `apply` and belongs to exactly these inputs: this boot, these facts, and this program and every file that
//! was read, each by mount, device, number, size and times of change. The time of change of a file's data and attributes (ctime) is the
//! kernel's and cannot be set. What it does not tell is not remembered:
//! - what was changed a moment ago: two changes in one tick of the clock have one time, and a write takes its time before its data;
//! - what another user may write, who could keep a page in memory that is written later;
//! - what lies on a file system without such a time, or whose times may be those of whoever made it whole: an image can be exchanged for another
//!   one with the same times, which shows in the mount's number that no other has, or, where the kernel gives none, in a time before the boot.
//!
//! Whatever is not as expected is no error: then the text is read, and this is written anew.
//!
//! Known imprecision: what a program of the same user writes through a shared mapping has its time when the kernel first saw that page
//! written to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use muster_catalog::{
    Catalog, Facts, Resource,
    packed::{self, Packed},
};
use muster_ids::Digest;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, statx};
use serde::{Deserialize, Serialize};

use crate::{facts, ports::Files, temporary};

/// This very program.
const PROGRAM: &str = "/proc/self/exe";
/// A text that is shorter is read in no time.
const LEAST: u64 = 64 << 10;
/// Resources that are read by one thread at once.
const PART: usize = 512;
/// Before the text was read, a file had to be as it was for at least so long.
const SETTLED: Duration = Duration::from_secs(10);
/// Of the index, whose size stands in the file, and of the inputs in it.
const MOST: u64 = 64 << 20;
/// Of all contents together: more is not written down.
const MOST_CONTENTS: u64 = 256 << 20;
/// At the beginning, with the number of the format.
const HEAD: &[u8] = b"muster-agent: what apply read, 1\n";

/// What tells one state of a file from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// 0: the kernel does not number mounts for good (before Linux 6.8).
    mount: u64,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

/// STATX_MNT_ID_UNIQUE of statx(2).
const MOUNT_FOR_GOOD: u32 = 0x4000;

impl Identity {
    fn at(path: &Path) -> io::Result<Self> {
        Self::of(CWD, path, AtFlags::empty())
    }

    fn of(folder: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::from_bits_retain(MOUNT_FOR_GOOD);
        let stat = statx(folder, path, flags, wanted)?;
        Ok(Self {
            mount: if stat.stx_mask & MOUNT_FOR_GOOD == 0 { 0 } else { stat.stx_mnt_id },
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        })
    }

    fn opened(file: &File) -> io::Result<Self> {
        Self::of(file, Path::new(""), AtFlags::EMPTY_PATH)
    }

    /// Unchanged for a while at this time of a machine that runs for so long, and, where nothing else tells mounts apart, changed since it does.
    fn settled(&self, now: SystemTime, runs: Duration) -> bool {
        let changed = u64::try_from(self.changed.0).ok().and_then(|seconds| seconds.checked_add(1));
        let changed = changed.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let age = changed.and_then(|changed| now.duration_since(changed).ok());
        age.is_some_and(|age| age >= SETTLED && (self.mount != 0 || age < runs))
    }
}

/// Local file systems on disks on which the kernel keeps the time of change: ext2 to ext4, XFS, Btrfs, overlayfs, F2FS, ZFS, bcachefs, as in
/// statfs(2). What is in memory alone (tmpfs) is not copied to a disk.
const KEEP_TIME: [u64; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0x794c_7630, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];

/// Whether no change of this file goes unseen.
fn is_seen(file: &File, identity: &Identity) -> io::Result<bool> {
    let runs = u64::try_from(rustix::system::sysinfo().uptime).unwrap_or_default();
    Ok(keeps_time(file)? && is_own(file)? && identity.settled(SystemTime::now(), Duration::from_secs(runs)))
}

fn keeps_time(file: &File) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    let flags = rustix::fs::fstatvfs(file)?.f_flag;
    Ok(KEEP_TIME.contains(&kind) && !flags.contains(StatVfsMountFlags::RDONLY))
}

/// Whether this user alone may write it.
fn is_own(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    Ok(meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0)
}

/// All that what was read depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    boot: String,
    facts: Facts,
    /// The file itself first, by absolute path; then the program, and what the file names.
    files: Vec<(PathBuf, Identity)>,
    #[serde(skip)]
    settled: bool,
}

impl Inputs {
    /// Before the file is read. None where it is no plain file or its text too short.
    pub(super) fn begin(path: &Path, facts: &Facts, file: &File) -> Option<Self> {
        let meta = file.metadata().ok().filter(|meta| meta.is_file() && meta.size() >= LEAST);
        let boot = meta.and_then(|_| facts::boot())?;
        let mut inputs = Self { boot, facts: facts.clone(), files: Vec::new(), settled: true };
        inputs.add(path, file);
        inputs.add(Path::new(PROGRAM), &File::open(PROGRAM).ok()?);
        Some(inputs)
    }

    /// A file that is about to be read.
    pub(super) fn add(&mut self, path: &Path, file: &File) {
        let seen = |path: PathBuf| {
            let identity = Identity::opened(file)?;
            let seen = is_seen(file, &identity)?;
            self.files.push((path, identity));
            Ok::<_, io::Error>(seen)
        };
        self.settled &= std::path::absolute(path).and_then(seen).unwrap_or_default();
    }

    /// Whether they are what this run would read.
    fn hold(&self, path: &Path, facts: &Facts) -> io::Result<bool> {
        let path = std::path::absolute(path)?;
        let same = self.files.first().is_some_and(|(first, _)| path == *first)
            && self.facts == *facts
            && facts::boot().is_some_and(|boot| boot == self.boot);
        if !same {
            return Ok(false);
        }
        for (path, identity) in &self.files {
            if Identity::at(path)? != *identity {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Stands at the end; behind it its digest and its length.
#[derive(Serialize, Deserialize)]
struct Index {
    inputs: Inputs,
    /// Without its resources.
    catalog: Catalog,
    parts: Vec<Part>,
}

/// Some resources: their text, and behind it what they hold.
#[derive(Serialize, Deserialize)]
struct Part {
    at: u64,
    text: usize,
    /// CRC-32 of the text and of what they hold: an error of the disk is none of the catalog.
    sum: u32,
}

/// Where it stands: beside the state of `apply`.
pub fn beside(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".read");
    name.into()
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What is remembered of this file, where that holds.
pub(super) fn recall(memory: &Path, path: &Path, facts: &Facts) -> Option<Catalog> {
    match try_recall(memory, path, facts) {
        Ok(found) => found,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::debug!(%error, path = %memory.display(), "what is remembered cannot be used");
            }
            None
        }
    }
}

fn try_recall(memory: &Path, path: &Path, facts: &Facts) -> io::Result<Option<Catalog>> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32 | super::NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(memory)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err(wrong("it is not this user's own"));
    }
    if !is_memory(&file)? {
        return Err(wrong("it is something else"));
    }
    let Index { inputs, mut catalog, parts } = index(&mut file, meta.size())?;
    if !inputs.hold(path, facts)? {
        return Ok(None);
    }
    // Opened anew by each thread, for a place of its own in it.
    let same = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len()).max(1);
    let read = |parts: &[Part]| -> io::Result<Vec<Resource>> {
        let mut file = BufReader::new(File::open(&same)?);
        let mut all = Vec::with_capacity(parts.len() * PART);
        for part in parts {
            all.extend(part.read(&mut file, meta.size())?);
        }
        Ok(all)
    };
    let shares: Vec<&[Part]> = parts.chunks(parts.len().div_ceil(threads).max(1)).collect();
    let shares = std::thread::scope(|scope| {
        let (own, others) = shares.split_first()?;
        let others: Vec<_> = others.iter().map(|share| scope.spawn(|| read(share))).collect();
        let own = read(own);
        let joined =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Some(std::iter::once(own).chain(joined).collect::<Vec<_>>())
    });
    for share in shares.into_iter().flatten() {
        catalog.resource.extend(share?);
    }
    Ok(Some(catalog))
}

fn is_memory(file: &File) -> io::Result<bool> {
    let mut head = Vec::with_capacity(HEAD.len());
    file.take(HEAD.len() as u64).read_to_end(&mut head)?;
    Ok(head == HEAD)
}

/// Bytes of the digest and of the length behind the index.
const TAIL: u64 = 32 + 8;

fn index(file: &mut File, size: u64) -> io::Result<Index> {
    let tail = size.checked_sub(TAIL).ok_or_else(|| wrong("it is too short"))?;
    file.seek(SeekFrom::Start(tail))?;
    let (mut digest, mut length) = ([0; 32], [0; 8]);
    file.read_exact(&mut digest)?;
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let at = tail.checked_sub(length).filter(|_| length <= MOST).ok_or_else(|| wrong("it is torn"))?;
    file.seek(SeekFrom::Start(at))?;
    let text = bytes(file, length)?;
    if *Digest::of(&text).as_bytes() != digest {
        return Err(wrong("its index is torn"));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// Exactly so many, where there are as many.
fn bytes(from: &mut impl io::Read, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| wrong("it is too long"))?;
    let mut bytes = Vec::with_capacity(length);
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

impl Part {
    fn read(&self, file: &mut BufReader<File>, size: u64) -> io::Result<Vec<Resource>> {
        file.seek(SeekFrom::Start(self.at))?;
        let mut sum = crc32fast::Hasher::new();
        let mut next = |length: u64| {
            // A torn length is no reason to ask for memory without end.
            let bytes = if length <= size { bytes(file, length)? } else { return Err(wrong("it is torn")) };
            sum.update(&bytes);
            Ok(bytes)
        };
        let text = next(self.text as u64)?;
        let resources = packed::unpack(&text, &mut next)?;
        if sum.finalize() == self.sum { Ok(resources) } else { Err(wrong("its contents are torn")) }
    }
}

/// Writes down what was read, in place of what was remembered before. What stands in the way of that is in the way of nothing else.
pub fn remember(files: &dyn Files, memory: &Path, inputs: &Inputs, catalog: &Catalog) {
    let written = inputs.settled
        && try_remember(files, memory, inputs, catalog).unwrap_or_else(|error| {
            tracing::debug!(%error, path = %memory.display(), "what was read cannot be remembered");
            false
        });
    if !written {
        forget(memory);
    }
}

/// Takes away what is remembered and no longer counts: contents stay nowhere for nothing. What stands there and is no memory stays.
pub fn forget(memory: &Path) {
    if let Ok(true) = ours(memory) {
        let _ = fs::remove_file(memory);
    }
}

/// Whether there is a memory at this path. Something else is an error: it is none of ours.
fn ours(memory: &Path) -> io::Result<bool> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32 | super::NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(memory) {
        Ok(file) if file.metadata()?.is_file() && is_memory(&file)? => Ok(true),
        Ok(_) => Err(wrong("something else stands there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn try_remember(files: &dyn Files, memory: &Path, inputs: &Inputs, catalog: &Catalog) -> io::Result<bool> {
    let (Some(folder), Some(name), Some(text)) = (memory.parent(), memory.file_name(), memory.to_str()) else {
        return Ok(false);
    };
    // Where others may put names, a link could lead this anywhere.
    if !files.private(text).map_err(io::Error::other)? || serde_json::to_vec(inputs)?.len() as u64 > MOST / 2 {
        return Ok(false);
    }
    ours(memory)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        if temporary::is_for(&entry, name) && !temporary::is_being_written(&entry) {
            fs::remove_file(folder.join(entry))?;
        }
    }
    let temporary = folder.join(temporary::name(name));
    let written = write(&temporary, inputs, catalog).and_then(|whole| {
        if whole {
            fs::rename(&temporary, memory)?;
        }
        Ok(whole)
    });
    if !matches!(written, Ok(true)) {
        // Half of it would hold the space that it lacked.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// False where it is too much.
fn write(path: &Path, inputs: &Inputs, catalog: &Catalog) -> io::Result<bool> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    out.write_all(HEAD)?;
    let (mut at, mut parts) = (HEAD.len() as u64, Vec::new());
    for resources in catalog.resource.chunks(PART) {
        let Packed { text, contents } = packed::pack(resources.to_vec())?;
        let mut sum = crc32fast::Hasher::new();
        let mut length = 0;
        for bytes in std::iter::once(&text).chain(&contents) {
            out.write_all(bytes)?;
            sum.update(bytes);
            length += bytes.len() as u64;
        }
        parts.push(Part { at, text: text.len(), sum: sum.finalize() });
        at += length;
        if at > MOST_CONTENTS {
            return Ok(false);
        }
    }
    let head = Catalog {
        cluster: catalog.cluster.clone(),
        environment: catalog.environment.clone(),
        node: catalog.node.clone(),
        generation: catalog.generation,
        draft: catalog.draft,
        resource: Vec::new(),
    };
    let text = serde_json::to_vec(&Index { inputs: inputs.clone(), catalog: head, parts })?;
    out.write_all(&text)?;
    out.write_all(Digest::of(&text).as_bytes())?;
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    // A crash must not leave a name without what it names.
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests;
