//! The kernel's mounts, and the programs that change them.

use muster_plan::mounts::Table;

use super::CommandError;

/// Looks at mounts and changes them. Paths are absolute; those to change have no links in them.
#[async_trait::async_trait]
pub trait Mounts: Send + Sync {
    /// All mounts of this process's namespace.
    fn table(&self) -> Result<Table, MountError>;
    /// The path with its links followed, as far as it is there. Does not touch what is mounted at it.
    fn resolve(&self, path: &str) -> Result<String, MountError>;
    /// What a source stands for: a path, `UUID=…`, `LABEL=…`, `PARTUUID=…`, `PARTLABEL=…`.
    async fn find(&self, source: &str) -> Result<Found, MountError>;
    /// The file behind a loop device; none where it is none.
    fn backing(&self, device: &str) -> Option<String>;
    /// Bytes, of which a tmpfs takes its share.
    fn memory(&self) -> u64;
    async fn mount(&self, what: &NewMount<'_>) -> Result<(), MountError>;
    /// `options` are all of the mount's own flags, and what is to change of the file system.
    async fn remount(&self, path: &str, options: &str) -> Result<(), MountError>;
    /// As `shared`, `rprivate`.
    async fn propagate(&self, path: &str, how: &str) -> Result<(), MountError>;
    /// Takes off the topmost mount at the path. With `recursive` also all below it, in this namespace's tree alone.
    async fn unmount(&self, path: &str, recursive: bool) -> Result<(), MountError>;
    /// Who holds the topmost mount at the path.
    fn users(&self, path: &str) -> Vec<User>;
}

/// What to mount where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewMount<'a> {
    pub source: &'a str,
    pub path: &'a str,
    pub fstype: &'a str,
    /// Separated by commas.
    pub options: &'a str,
}

/// What is behind a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It names no device and no path.
    Word,
    Device {
        path: String,
        /// Major and minor: "8:1".
        number: String,
    },
    File {
        path: String,
    },
    Folder {
        path: String,
    },
    Missing,
}

/// A program or a part of the kernel that keeps a mount from going.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    Process {
        pid: i32,
        name: String,
        /// "its working folder", "/srv/x/data is open".
        how: String,
    },
    /// Another mount, below it.
    Mount(String),
    Swap(String),
    /// A loop device with its file in it.
    Loop(String),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process { pid, name, how } => write!(f, "{name} (pid {pid}: {how})"),
            Self::Mount(path) => write!(f, "what is mounted at {path}"),
            Self::Swap(path) => write!(f, "the swap file {path}"),
            Self::Loop(path) => write!(f, "a loop device with the file {path}"),
        }
    }
}

/// The kernel or mount(8) said no.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot {verb} {path}")]
    Look {
        verb: &'static str,
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{path} is in use")]
    Busy { path: String },
    /// In the program's words.
    #[error("`{program}` refuses {path}: {said}")]
    Refused { program: &'static str, path: String, said: String },
    #[error(transparent)]
    Program(#[from] CommandError),
}

impl From<MountError> for crate::StepError {
    fn from(error: MountError) -> Self {
        let message = error.to_string();
        match error {
            MountError::Program(error) => error.into(),
            MountError::Look { source, .. } => Self::failed(message).because(source).retry(),
            MountError::Busy { .. } => Self::failed(message).help("stop what uses it").retry(),
            MountError::Refused { .. } => Self::failed(message).help("`dmesg` on the node may say more").retry(),
        }
    }
}
