//! Debian packages, by apt and dpkg as programs.

use std::{collections::BTreeMap, sync::Arc};

/// Queries and transactions.
#[async_trait::async_trait]
pub trait Packages: Send + Sync {
    /// All packages that dpkg knows, by name; read in one go.
    async fn installed(&self) -> Result<Arc<BTreeMap<String, Installed>>, PackageError>;
    /// All of it in one transaction. Services are neither started nor restarted by it.
    async fn transact(&self, transaction: &Transaction) -> Result<(), PackageError>;
    /// Reads the index of one source (the stem of its file), or of all.
    async fn update(&self, source: Option<&str>) -> Result<(), PackageError>;
}

/// A package as dpkg knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Empty where it is removed and only its configuration is left.
    pub version: String,
    /// Unpacked and configured; false in the middle of something.
    pub complete: bool,
    pub hold: bool,
}

/// What one run of apt does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Name, and version or pattern where one is asked for.
    pub install: BTreeMap<String, Option<String>>,
    pub remove: Vec<String>,
    pub hold: Vec<String>,
    pub unhold: Vec<String>,
}

impl Transaction {
    pub fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty() && self.hold.is_empty() && self.unhold.is_empty()
    }

    pub fn merge(&mut self, other: Transaction) {
        self.install.extend(other.install);
        self.remove.extend(other.remove);
        self.hold.extend(other.hold);
        self.unhold.extend(other.unhold);
    }
}

/// apt or dpkg did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    #[error("there is no package {name}{}", version.as_ref().map(|v| format!(" of version {v}")).unwrap_or_default())]
    NotFound { name: String, version: Option<String> },
    #[error("the repository {source_name} is not signed by the key that is given for it")]
    Unsigned { source_name: String },
    #[error("the repository {source_name} has no signature")]
    NoSignature { source_name: String },
    /// The package's name, or the file's where it is no package.
    #[error("what {url} gives is not what its repository signed")]
    Altered { url: String, name: String },
    #[error("package {name} is not signed: its repository cannot be trusted")]
    Untrusted { name: String },
    #[error("the package repository does not answer: {what}")]
    Unreachable { what: String },
    #[error("the disk is full")]
    DiskFull,
    #[error("another program holds apt's lock: {holder}")]
    Locked { holder: String },
    #[error("{program} failed: {tail}")]
    Failed { program: String, tail: String },
    #[error("apt is not on this machine")]
    NoApt,
}

impl From<PackageError> for crate::StepError {
    fn from(error: PackageError) -> Self {
        let message = error.to_string();
        let step = Self::failed(message);
        match error {
            PackageError::NotFound { .. } => step.help(
                "check the name and the version, and that an apt_source has it (`apt-cache policy NAME` on the node)",
            ),
            PackageError::Unsigned { .. } => {
                step.help("give the apt_source the repository's own key; nothing was installed from it")
            }
            PackageError::NoSignature { .. } => step.help(
                "check the apt_source's url and suites: muster takes only repositories that are signed; nothing was \
                 installed from it",
            ),
            PackageError::Altered { .. } => step
                .help("nothing was installed from it: find out who changed it, or let its mirror finish; it is fetched anew")
                .retry(),
            PackageError::Untrusted { .. } => {
                step.help("add an apt_source with its key; muster installs nothing unsigned")
            }
            PackageError::Unreachable { .. } => step.help("can this node reach the repository's address?").retry(),
            PackageError::DiskFull => {
                step.help("free some space (`apt-get clean`, old logs); the next run goes on").retry()
            }
            PackageError::Locked { .. } => step.help("it waits and tries again by itself").retry(),
            PackageError::Failed { .. } => step.retry(),
            PackageError::NoApt => step.help("muster's package kind needs a Debian system"),
        }
    }
}
