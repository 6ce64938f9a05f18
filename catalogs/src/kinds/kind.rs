//! What a kind says of its resources: all that the compiler of catalogs, the scheduler, the agent's looks, its watch for
//! drift and its purges must know of it. Nothing outside asks "which kind is it?" for any of this, so a new kind answers
//! these and is known everywhere.
//!
//! What loses data or opens a secret when it is forgotten has no default.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

/// What every kind says of its resources.
pub trait Kind: Serialize + DeserializeOwned + schemars::JsonSchema {
    /// A boot takes away at least a part of what it makes: to make that again is no drift.
    const ENDS_WITH_BOOT: bool = false;
    /// What is done for others may take it back: after a converge that changed something it is looked at once more.
    const UNDONE_BY_OTHERS: bool = false;

    /// What it alone owns: two resources of one node with the same claim are an error.
    fn claims(&self) -> Vec<Claim>;

    /// What must be converged before it, where the node has it.
    fn needs(&self) -> Vec<Need>;

    /// What on the node's disks is its own while it is present: no purge and no removal of a folder takes it away.
    fn owns(&self) -> Vec<Owned>;

    /// Whether it is to be there. What is to go goes before what is to come, and in the opposite order.
    fn presence(&self) -> Presence;

    /// The secrets that its node may fetch for it.
    fn secrets(&self) -> Vec<SecretName<'_>>;

    /// What a look at it costs.
    fn cost(&self) -> Cost {
        Cost::Reading
    }

    /// What shows that somebody may have changed it on the node: by default, what it owns.
    fn signals(&self) -> Vec<Signal> {
        self.owns().into_iter().map(|owned| Signal::Path(owned.path)).collect()
    }

    /// Where it stands among the node's paths, where others may stand above or below it.
    fn place(&self) -> Option<Place<'_>> {
        None
    }

    /// Where a path that it makes leads, as a bind mount's: what is below the one is below the other.
    fn leads(&self) -> Option<Leads<'_>> {
        None
    }

    /// Its content and the keys that name a file of the site for it, where it has these.
    fn texts(&mut self) -> Option<Texts<'_>> {
        None
    }

    /// What follows from a content of the site, once it is there.
    fn resolved(&mut self) {}

    /// What its keys together must fulfil.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// Whether a resource is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Present,
    Absent,
}

impl Presence {
    pub(crate) fn absent_if(absent: bool) -> Self {
        if absent { Self::Absent } else { Self::Present }
    }
}

/// A path that belongs to a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owned {
    pub path: String,
    /// With all below it.
    pub tree: bool,
}

impl Owned {
    pub fn one(path: impl Into<String>) -> Self {
        Self { path: path.into(), tree: false }
    }

    pub fn tree(path: impl Into<String>) -> Self {
        Self { path: path.into(), tree: true }
    }
}

/// A secret that a resource names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretName<'a> {
    pub name: &'a str,
    /// Where it stands in the resource: a key, and the place in its list.
    pub key: &'static str,
    pub index: Option<usize>,
}

/// What a look costs, and so when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// One or two system calls: thousands in a row on a thread that may block.
    File,
    /// dpkg's database is read once for all of them.
    Package,
    /// systemd is asked once for all of them.
    Unit,
    /// Some small files of its own.
    Reading,
    /// A program or a call over a network: only when its turn comes, or when a plan wants everything.
    Call,
}

/// What shows that a resource may have been changed on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A file or folder, come, gone or changed.
    Path(String),
    /// Anything in a folder.
    Inside(String),
    /// A systemd unit, by its whole name.
    Unit(String),
    /// A Docker container.
    Container(String),
    /// An image in Docker's store.
    Image(String),
    /// The kernel's table of mounts.
    Mounts,
    /// The kernel's list of swap space in use.
    Swaps,
    /// The kernel's routes and devices, and the interface with this address.
    Routes(String),
    /// The Node object of this name.
    Node(String),
    /// What belongs to the whole cluster and not to a set, where this node leads: labels and taints of Nodes, cluster DNS.
    Cluster,
    /// Kubernetes objects of one set, as YAML.
    Objects { set: String, text: String },
}

/// Where a resource stands among the node's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub path: &'a str,
    /// Others may lie in it.
    pub holds: bool,
}

/// A resource's content, and the keys that name a file of the site for it. Compiled, only `content` is left.
pub struct Texts<'a> {
    pub content: &'a mut Option<String>,
    pub source: &'a mut Option<String>,
    /// None for kinds whose content is never rendered.
    pub template: Option<&'a mut Option<String>>,
    /// The place of a content that is no text, for kinds that may have one.
    pub binary: Option<&'a mut Option<crate::Binary>>,
}

/// A path below which all is what is below another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leads<'a> {
    pub path: &'a str,
    /// Absolute.
    pub to: String,
}

/// Something that one resource alone may own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// "package"; empty for a path.
    what: &'static str,
    name: String,
}

impl Claim {
    pub fn new(what: &'static str, name: impl Into<String>) -> Self {
        Self { what, name: name.into() }
    }

    pub fn path(path: impl Into<String>) -> Self {
        Self::new("", path)
    }

    /// What is owned: "package"; empty for a path.
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.what.is_empty() { f.write_str(&self.name) } else { write!(f, "{} {}", self.what, self.name) }
    }
}

/// What a resource needs before it; what the node's catalog does not have is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Every resource of this kind.
    Kind(&'static str),
    /// Every resource of this kind that is to be there, or to go.
    Those(&'static str, Presence),
    /// One resource of this kind and name.
    Named(&'static str, String),
    /// Folders and mounts above this path.
    Above(String),
    /// Folders and mounts above a user's home; folders that wait for the user are made around it.
    AboveHome(String),
    /// Files and folders at this path or below it.
    Within(String),
    /// What brings the systemd unit of this whole name: the package that is called like it, else any package, unless `after` names one or the
    /// unit is a file of the site.
    Unit(String),
}

/// What is wrong with a resource's keys together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key to point at.
    pub key: &'static str,
    pub message: String,
    pub label: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn new(key: &'static str, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { key, message: message.into(), label: label.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What something at a path with an owner needs.
pub(crate) fn owned(path: &str, owner: &str, group: &str) -> Vec<Need> {
    vec![Need::Above(path.to_owned()), Need::Named("user", owner.to_owned()), Need::Named("group", group.to_owned())]
}
