//! The file system. Synchronous: kinds call it from blocking threads, in chunks, because ten thousand small reads cost more in
//! task switches than in system calls.

use std::path::PathBuf;

/// Files, folders, links, by absolute path on the node.
pub trait Files: Send + Sync {
    /// Of the thing itself, links not followed; none where nothing is there.
    fn stat(&self, path: &str) -> Result<Option<Stat>, FileError>;
    /// All of a regular file, links followed; none where nothing is there.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError>;
    /// What a file resource looks at in one go: of a regular file also its content, at most `limit` bytes.
    fn look(&self, path: &str, limit: usize) -> Result<Option<(Stat, Vec<u8>)>, FileError>;
    /// Replaces the file as a whole: a reader sees the old or the new one. Parents are made (0755).
    fn write(&self, path: &str, content: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), FileError>;
    /// Writes into an existing file, for those that cannot be replaced (`/proc/sys`).
    fn write_in_place(&self, path: &str, content: &[u8]) -> Result<(), FileError>;
    /// Makes the folder and its parents (0755, root) where they are missing.
    fn make_dir(&self, path: &str) -> Result<(), FileError>;
    fn set_mode(&self, path: &str, mode: u32) -> Result<(), FileError>;
    fn set_owner(&self, path: &str, uid: u32, gid: u32) -> Result<(), FileError>;
    /// Makes a link, in place of a file or link that is there.
    fn link(&self, path: &str, target: &str) -> Result<(), FileError>;
    /// Where a link leads to; none where there is none.
    fn target(&self, path: &str) -> Result<Option<String>, FileError>;
    /// Removes a file, link or empty folder; with `tree` a folder and all in it. No error where nothing is there.
    fn remove(&self, path: &str, tree: bool) -> Result<(), FileError>;
    /// Names in a folder, sorted; none where it is not there.
    fn list(&self, path: &str) -> Result<Option<Vec<String>>, FileError>;
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Link,
    Other,
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
}

impl From<FileError> for crate::StepError {
    fn from(error: FileError) -> Self {
        use std::io::ErrorKind;
        let (help, retry) = match error.source.kind() {
            ErrorKind::StorageFull => (Some("the disk is full: free some space, the next run goes on"), true),
            ErrorKind::QuotaExceeded => (Some("the quota is used up: free some space, the next run goes on"), true),
            ErrorKind::ReadOnlyFilesystem => (Some("the file system is mounted read-only"), false),
            ErrorKind::PermissionDenied => (Some("the agent needs root's rights on it"), false),
            _other => (None, false),
        };
        let mut step = Self::failed(format!("cannot {} {}", error.what, error.path.display())).because(error.source);
        if let Some(help) = help {
            step = step.help(help);
        }
        if retry { step.retry() } else { step }
    }
}
