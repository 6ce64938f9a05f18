//! The file system. Synchronous: kinds call it from blocking threads, in chunks, because ten thousand small reads cost more in
//! task switches than in system calls.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Files, folders, links, by absolute path on the node.
///
/// Where somebody else than root may put names into a folder, no link in it or below it is followed: that is an error with
/// the link's name, for looks as for changes.
pub trait Files: Send + Sync {
    /// Of the thing itself, links not followed; none where nothing is there.
    fn stat(&self, path: &str) -> Result<Option<Stat>, FileError>;
    /// All of a regular file, links followed; none where nothing is there.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError>;
    /// What a file resource looks at in one go: of a regular file also its content, at most `limit` bytes.
    fn look(&self, path: &str, limit: usize) -> Result<Option<(Stat, Vec<u8>)>, FileError>;
    /// What a replacement of the file or a change of its owner to `uid` (none: the one that it has) would take from it.
    fn beside(&self, path: &str, uid: Option<u32>) -> Result<Beside, FileError>;
    /// Replaces the file as a whole: a reader sees the old or the new one. Parents are made (0755). It keeps its access control
    /// list and its attributes but for those in [`Beside::lost`]. A file that something is mounted on is written in place.
    fn write(&self, path: &str, content: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), FileError>;
    /// Writes into an existing file, for those that cannot be replaced (`/proc/sys`), in folders that root alone may write.
    fn write_in_place(&self, path: &str, content: &[u8]) -> Result<(), FileError>;
    /// Makes the folder and its parents (0755, root) where they are missing.
    fn make_dir(&self, path: &str) -> Result<(), FileError>;
    /// Makes a folder of this mode and owner, which nobody sees before it has them. Its parent has to be there, and nothing in its place.
    fn make_own_dir(&self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), FileError>;
    /// Owner and mode of a file or folder.
    fn set(&self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), FileError>;
    /// Makes a link, in place of a file or link that is there.
    fn link(&self, path: &str, target: &str) -> Result<(), FileError>;
    /// Where a link leads to; none where there is none.
    fn target(&self, path: &str) -> Result<Option<String>, FileError>;
    /// Removes a file, link or empty folder; with `tree` a folder and all in it, on this file system. No error where nothing is
    /// there.
    fn remove(&self, path: &str, tree: bool) -> Result<(), FileError>;
    /// The same by a name of any bytes.
    fn remove_path(&self, path: &Path, tree: bool) -> Result<(), FileError>;
    /// Names in a folder, sorted; none where it is not there.
    fn list(&self, path: &str) -> Result<Option<Vec<String>>, FileError>;
    /// The same with what they are.
    fn entries(&self, folder: &Path) -> Result<Option<Vec<Entry>>, FileError>;
    /// Why a thing cannot be removed or a folder not be changed, where `chattr` forbids it: "is immutable (chattr +i)".
    fn frozen(&self, path: &Path) -> Result<Option<&'static str>, FileError>;
    /// What is in a folder however deep, on its file system; nothing where it is no folder.
    fn inside(&self, folder: &Path) -> Result<Inside, FileError>;
    /// The path with all links in its folders followed, its last name as it is; none where a folder on the way is not there.
    fn real(&self, path: &Path) -> Result<Option<PathBuf>, FileError>;
    /// Whether root alone may put and rename names in the folders on the way to a path.
    fn private(&self, path: &str) -> Result<bool, FileError>;
    /// Takes the lock that this file stands for, made where it is missing: one process of the node has it at a time, until it drops
    /// it or ends. Waits for half a minute.
    fn lock(&self, path: &str) -> Result<Lock, FileError>;
    /// What programs and the kernel hold at this moment.
    fn in_use(&self) -> Result<InUse, FileError>;
}

/// A lock in hand; none where there are no other processes.
#[derive(Debug, Default)]
pub struct Lock {
    /// Closed, it is given back.
    _file: Option<std::fs::File>,
}

impl Lock {
    /// Held by an open file.
    pub fn held(file: std::fs::File) -> Self {
        Self { _file: Some(file) }
    }
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub kind: FileKind,
    /// The low twelve bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// A file that has another name elsewhere.
    pub shared: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Link,
    Socket,
    Other,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    pub kind: FileKind,
}

/// What a file has beside content, owner and mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// In words, what would go: "its access control list".
    pub lost: Vec<String>,
    /// Something is mounted on it.
    pub mounted: bool,
}

/// What is in a folder, however deep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    pub count: usize,
    /// There is more that was not counted.
    pub more: bool,
    pub sockets: Vec<PathBuf>,
    /// What cannot be removed, and why: "is immutable (chattr +i)".
    pub frozen: Vec<(PathBuf, &'static str)>,
}

/// What programs and the kernel hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// Where something is mounted, without links.
    pub mounts: Vec<PathBuf>,
    /// Names of sockets, without their folders.
    pub sockets: BTreeSet<OsString>,
    /// Files that the kernel has as disks (loop devices) or as swap space.
    pub files: Vec<PathBuf>,
}

/// The file system said no.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", .path.display())]
pub struct FileError {
    /// As in "read".
    pub what: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
    /// What a person can do, where it hangs on more than the kind of error.
    pub help: Option<String>,
}

impl From<FileError> for crate::StepError {
    fn from(error: FileError) -> Self {
        use std::io::ErrorKind;
        let permitted = "the kernel refuses it even to root: a security module, a file system of another machine, or a right \
                         that the agent's container lacks (`dmesg` may tell)";
        let (help, retry) = match error.source.kind() {
            ErrorKind::StorageFull => (Some("the disk is full: free some space, the next run goes on"), true),
            ErrorKind::QuotaExceeded => (Some("the quota is used up: free some space, the next run goes on"), true),
            ErrorKind::ReadOnlyFilesystem => (Some("the file system is mounted read-only"), false),
            ErrorKind::PermissionDenied if rustix::process::geteuid().is_root() => (Some(permitted), false),
            ErrorKind::PermissionDenied => (Some("the agent needs root's rights on it"), false),
            ErrorKind::ResourceBusy => {
                (Some("something is mounted or runs there: `findmnt` and `fuser` say what"), true)
            }
            ErrorKind::DirectoryNotEmpty => (Some("it is not empty: `purge = true` removes what is in it, too"), false),
            ErrorKind::WouldBlock => {
                (Some("a program holds a lease on it, which the kernel ends: /proc/locks names its process"), true)
            }
            ErrorKind::TimedOut => (None, true),
            _other => (None, false),
        };
        let help = error.help.or(help.map(str::to_owned));
        let mut step = Self::failed(format!("cannot {} {}", error.what, error.path.display())).because(error.source);
        if let Some(help) = help {
            step = step.help(help);
        }
        if retry { step.retry() } else { step }
    }
}
