//! Debian packages, by apt and dpkg as programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use muster_plan::kinds::package::transaction::Move;

/// Queries and transactions. Names are a package's, with an architecture where it is not the machine's own.
#[async_trait::async_trait]
pub trait Packages: Send + Sync {
    /// All packages that dpkg knows; read in one go.
    async fn installed(&self) -> Result<Arc<Known>, PackageError>;
    /// The version that apt would install of each of these, where the indexes have one. Reads only.
    async fn candidates(&self, names: &BTreeSet<String>) -> Result<Arc<BTreeMap<String, String>>, PackageError>;
    /// What this transaction would do to every package, in apt's order. Reads only.
    async fn simulate(&self, transaction: &Transaction) -> Result<Vec<Move>, PackageError>;
    /// Finishes what a run of dpkg that was cut off left, except for these, which the next transaction changes.
    /// A package whose own scripts fail is no error here.
    async fn finish(&self, except: &BTreeSet<String>) -> Result<(), PackageError>;
    /// All of it in one run. Services are neither started nor restarted by it; those of removed packages stop.
    async fn transact(&self, transaction: &Transaction) -> Result<(), PackageError>;
    /// Reads the index of one source (the stem of its file), or of all.
    async fn update(&self, source: Option<&str>) -> Result<(), PackageError>;
    /// Units that still run as they did before their package was upgraded, though the package asked for a restart.
    async fn owed(&self) -> Vec<Owed>;
    /// systemd units that an installed package brings.
    fn units(&self, name: &str) -> Vec<String>;
}

/// A restart that a package asked for and did not get yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The unit's own name and its aliases, whole.
    pub units: Vec<String>,
    pub package: String,
}

/// What dpkg knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The machine's own architecture.
    pub native: String,
    /// By name without the machine's own architecture.
    pub packages: BTreeMap<String, Installed>,
}

impl Known {
    /// The name under which a package is known: without the machine's own architecture.
    pub fn name<'a>(&self, name: &'a str) -> &'a str {
        match name.split_once(':') {
            Some((bare, arch)) if arch == self.native || matches!(arch, "all" | "any" | "native") => bare,
            Some(_) | None => name,
        }
    }

    pub fn get(&self, name: &str) -> Option<&Installed> {
        self.packages.get(self.name(name))
    }
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
    /// Held when it ends, also where they were before and the change of version takes the hold away.
    pub hold: Vec<String>,
    pub unhold: Vec<String>,
    /// All packages that may go, those of `remove` and those that go with them. Where it is empty apt removes nothing.
    pub goes: BTreeSet<String>,
}

impl Transaction {
    pub fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty() && self.hold.is_empty() && self.unhold.is_empty()
    }

    /// Whether apt has to run, and not only a mark is to be set.
    pub fn changes_packages(&self) -> bool {
        !self.install.is_empty() || !self.remove.is_empty()
    }

    pub fn merge(&mut self, other: Transaction) {
        self.install.extend(other.install);
        self.remove.extend(other.remove);
        self.hold.extend(other.hold);
        self.unhold.extend(other.unhold);
        self.goes.extend(other.goes);
    }
}

/// apt or dpkg did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    #[error("there is no package {name}{}", version.as_ref().map(|v| format!(" of version {v}")).unwrap_or_default())]
    NotFound { name: String, version: Option<String> },
    /// `has` are the versions that the indexes have of it.
    #[error("there is no package {name} of version {version}: there are {}", has.join(", "))]
    NoSuchVersion { name: String, version: String, has: Vec<String> },
    /// One package by two names.
    #[error("{name} and {other} are one package here")]
    Twice { name: String, other: String },
    /// A name that only others provide.
    #[error("{name} is no package of its own: {} {} it", providers.join(", "), if providers.len() == 1 { "provides" } else { "provide" })]
    Virtual { name: String, providers: Vec<String> },
    /// `cause` is what the site asks for, with its verb: "installing chrony".
    #[error("{cause} would also remove {}{}", victims.join(", "), if *wanted { ", which the site asks for" } else { ", which is not written absent" })]
    WouldRemove { cause: String, victims: Vec<String>, wanted: bool },
    #[error("{cause} would also change {name} from {from} to {to}, which is held and not written")]
    WouldChangeHeld { cause: String, name: String, from: String, to: String },
    /// `names` are those of the site that take part in it, `said` apt's reasons.
    #[error("{} cannot be had as written: {said}", names.join(" and "))]
    Unmet { names: Vec<String>, said: String },
    #[error("{} must not be removed: Debian cannot do without", if name.is_empty() { "an essential package" } else { name.as_str() })]
    Essential { name: String },
    /// An earlier run was cut off, and apt has to mend what depends on what first.
    #[error("packages are half installed, and apt has to mend them first")]
    HalfDone,
    /// By name: what dpkg and the package's own scripts said. The others of the transaction are done.
    #[error("{}", packages.iter().map(|(name, said)| format!("{name}: {said}")).collect::<Vec<_>>().join("; "))]
    Broken { packages: BTreeMap<String, String> },
    /// It says another name of itself than before, as a new release of Debian does: pins may not hold for it any more.
    #[error("the repository {said}, and is not read until somebody accepts that")]
    Changed { said: String },
    /// Cut off while it was unpacked; apt does nothing at all until it is unpacked again or gone.
    #[error("{name} is half unpacked, and no source has it any more: apt changes nothing before it is whole or gone")]
    Lost { name: String },
    #[error("apt cannot read its sources: {said}")]
    Sources { said: String },
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
            PackageError::NoSuchVersion { .. } => {
                step.help("a version has its epoch (`1:`) and its revision, or ends in `*`: take one of these")
            }
            PackageError::Twice { other, .. } => step.help(format!("write it once: take {other} away, or this one")),
            PackageError::Virtual { providers, .. } => {
                step.help(format!("write the package that you want: {}", providers.join(" or ")))
            }
            PackageError::WouldRemove { victims, wanted, .. } => step.help(if wanted {
                "they exclude each other: keep one, and write the other with `absent = true`".to_owned()
            } else {
                format!(
                    "where that is meant, write `absent = true` for {}",
                    victims.join(" and ")
                )
            }),
            PackageError::WouldChangeHeld { name, .. } => step.help(format!(
                "write {name} with the version that it should have, or `apt-mark unhold {name}` on the node"
            )),
            PackageError::Unmet { .. } => {
                step.help("change one of them, or its version (`apt-get -s install NAME` on the node)")
            }
            PackageError::Essential { .. } => step.help("take its `absent` out of the site"),
            PackageError::HalfDone => step.help("`apt-get --fix-broken install` on the node says what is amiss").retry(),
            PackageError::Changed { said } => {
                let field = said.split('\'').nth(3).unwrap_or("Codename");
                step.help(format!(
                    "where that is meant: `apt-get update --allow-releaseinfo-change` on the node, or for all nodes a file in \
                     /etc/apt/apt.conf.d with `Acquire::AllowReleaseInfoChange::{field} \"true\";`"
                ))
            }
            PackageError::Lost { name } => step.help(format!(
                "add a source that has it, or take it away on the node: `dpkg --remove --force-remove-reinstreq {name}`"
            )),
            PackageError::Broken { packages } if packages.values().any(|said| said.contains("removal script")) => step
                .help(
                    "see /var/log/apt/term.log on the node: give the script what it misses, or mend it where dpkg keeps \
                     it, as /var/lib/dpkg/info/NAME.prerm",
                )
                .retry(),
            PackageError::Broken { .. } => step
                .help(
                    "see /var/log/apt/term.log on the node; a version whose scripts are mended installs over it, and \
                     `absent = true` removes it",
                )
                .retry(),
            PackageError::Sources { .. } => step.help(
                "two sources with one repository need one key: take away the one that muster did not write, in \
                 /etc/apt/sources.list and /etc/apt/sources.list.d",
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
            PackageError::Failed { .. } => step.help("see /var/log/apt/term.log on the node").retry(),
            PackageError::NoApt => step.help("muster's package kind needs a Debian system"),
        }
    }
}
