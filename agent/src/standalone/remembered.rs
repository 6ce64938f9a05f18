//! What a file said when it was read last, so that an `apply` that finds it unchanged need not read its text again.
//!
//! It stands beside the state of `apply` and belongs to exactly these inputs: this boot, this program, these facts, and every file that was
//! read, each by device, number, size and times of change. The time of change of a file's data and attributes (ctime) is the kernel's and
//! cannot be set; two changes in one tick of its clock are told apart by nothing, so what was changed within the last second is not
//! remembered. Nor is what lies on a file system without such a time: one over a network, or an image that came whole with the times of
//! whoever made it; under an overlay, such an image is exchanged with the boot. Whatever is not as expected is no error: then the text is
//! read, and this is written anew.
//!
//! Known imprecision: what a program writes through a shared mapping has its time when the kernel first saw that page written to.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::AsRawFd as _,
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
use serde::{Deserialize, Serialize};

use crate::{facts, temporary};

/// This very program.
const PROGRAM: &str = "/proc/self/exe";
/// A text that is shorter is read in no time.
const LEAST: u64 = 64 << 10;
/// Resources that are read by one thread at once.
const PART: usize = 512;
/// Before the text was read, a file had to be as it was for at least so long.
const SETTLED: Duration = Duration::from_secs(1);
/// Of the index, whose size stands in the file.
const MOST: u64 = 64 << 20;

/// What tells one state of a file from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Identity {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::metadata(path)?))
    }

    fn settled(&self, now: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0).ok();
        let changed = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds + 1)));
        changed.is_some_and(|changed| changed + SETTLED <= now)
    }
}

/// Local file systems on which the kernel keeps the time of change: ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, F2FS, ZFS, bcachefs. As in statfs(2).
const KEEP_TIME: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];

/// Whether no change of this file can go unseen.
fn keeps_time(file: &File) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    let flags = rustix::fs::fstatvfs(file)?.f_flag;
    Ok(KEEP_TIME.contains(&kind) && !flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// All that what was read depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    boot: String,
    program: Identity,
    facts: Facts,
    /// The file itself first, by absolute path.
    files: Vec<(PathBuf, Identity)>,
    #[serde(skip)]
    settled: bool,
}

impl Inputs {
    /// Before the file is read. None where it is no plain file or its text too short.
    pub(super) fn begin(path: &Path, facts: &Facts, file: &File) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        let Some(boot) = facts::boot().filter(|_| meta.is_file() && meta.size() >= LEAST) else { return Ok(None) };
        let program = Identity::at(Path::new(PROGRAM))?;
        let mut inputs = Self { boot, program, facts: facts.clone(), files: Vec::new(), settled: true };
        inputs.add(path, file)?;
        Ok(Some(inputs))
    }

    /// A file that is about to be read.
    pub(super) fn add(&mut self, path: &Path, file: &File) -> io::Result<()> {
        let identity = Identity::from(&file.metadata()?);
        self.settled &= identity.settled(SystemTime::now()) && keeps_time(file)?;
        self.files.push((std::path::absolute(path)?, identity));
        Ok(())
    }

    /// Whether they are what this run would read.
    fn hold(&self, path: &Path, facts: &Facts) -> io::Result<bool> {
        let path = std::path::absolute(path)?;
        let same = self.files.first().is_some_and(|(first, _)| path == *first)
            && self.facts == *facts
            && facts::boot().is_some_and(|boot| boot == self.boot)
            && self.program == Identity::at(Path::new(PROGRAM))?;
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
    state.with_extension("read")
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

/// Writes down what was read. What stands in the way of that is in the way of nothing else.
pub fn remember(memory: &Path, inputs: &Inputs, catalog: &Catalog) {
    if !inputs.settled {
        return;
    }
    let (Some(folder), Some(name)) = (memory.parent(), memory.file_name()) else { return };
    let temporary = folder.join(temporary::name(name));
    let written = write(&temporary, inputs, catalog).and_then(|()| fs::rename(&temporary, memory));
    if let Err(error) = written {
        // Half of it would hold the space that it lacked.
        let _ = fs::remove_file(&temporary);
        tracing::debug!(%error, path = %memory.display(), "what was read cannot be remembered");
    }
}

fn write(path: &Path, inputs: &Inputs, catalog: &Catalog) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    let (mut at, mut parts) = (0, Vec::new());
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
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

#[cfg(test)]
mod tests;
