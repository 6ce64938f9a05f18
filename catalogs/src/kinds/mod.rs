//! The kinds of resources: one file each, a closed enum over all of them.

pub mod apt_source;
pub mod cluster_member;
pub mod command;
pub mod container;
pub mod directory;
pub mod file;
pub mod group;
pub mod image;
pub mod kernel_module;
pub mod manifest;
pub mod mount;
pub mod package;
pub mod pod_network;
pub mod service;
pub mod sysctl;
pub mod user;

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use muster_ids::ResourceId;
use serde::{Deserialize, Serialize};

/// What every kind says of its resources.
pub trait Kind: Serialize + serde::de::DeserializeOwned + schemars::JsonSchema {
    /// What it alone owns: two resources of one node with the same claim are an error.
    fn claims(&self) -> Vec<Claim>;

    /// What must be converged before it, where the node has it.
    fn needs(&self) -> Vec<Need>;

    /// What its keys together must fulfil.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
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
    /// One resource of this kind and name.
    Named(&'static str, String),
    /// Folders and mounts above this path.
    Above(String),
    /// Files and folders at this path or below it.
    Within(String),
    /// What brings this systemd unit: the package of its name, else any package, unless `after` names one or the
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

/// The one table of kinds: the variant, its key in TOML, its module's spec, and the spec's naming field.
macro_rules! kinds {
    ($($variant:ident $key:literal $spec:path, $written:path, $name:ident;)*) => {
        /// What a resource should be. The compiler lists every place that a new kind must be added to.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Spec {
            $($variant($spec),)*
        }

        impl Spec {
            /// The keys of all kinds, as they stand in TOML.
            pub const KINDS: &'static [&'static str] = &[$($key),*];

            pub fn kind(&self) -> &'static str {
                match self {
                    $(Spec::$variant(_) => $key,)*
                }
            }

            /// What tells resources of one kind apart: a path, a name.
            pub fn name(&self) -> &str {
                match self {
                    $(Spec::$variant(spec) => &spec.$name,)*
                }
            }

            pub fn id(&self) -> ResourceId {
                ResourceId::new(self.kind(), self.name())
            }

            pub fn claims(&self) -> Vec<Claim> {
                match self {
                    $(Spec::$variant(spec) => spec.claims(),)*
                }
            }

            pub fn needs(&self) -> Vec<Need> {
                match self {
                    $(Spec::$variant(spec) => spec.needs(),)*
                }
            }

            pub fn faults(&self) -> Vec<Fault> {
                match self {
                    $(Spec::$variant(spec) => spec.faults(),)*
                }
            }

            /// The key by which resources of a kind are told apart, as it stands in the site.
            pub(crate) fn naming_key(kind: &str) -> &'static str {
                match kind {
                    $($key => stringify!($name),)*
                    _ => "name",
                }
            }

            /// Decodes a resource whose shape was checked.
            pub(crate) fn decode(kind: &str, value: serde_json::Value) -> Result<Self, serde_json::Error> {
                match kind {
                    $($key => serde_json::from_value(value).map(Spec::$variant),)*
                    _ => Err(serde::de::Error::custom("no such kind")),
                }
            }
        }

        /// The schema of each kind as it stands in a role: its keys and those that all resources have.
        pub(crate) static SCHEMAS: LazyLock<BTreeMap<&'static str, serde_json::Value>> = LazyLock::new(|| {
            BTreeMap::from([$(($key, with_common(crate::shape::schema_of::<$written>()))),*])
        });
    };
}

kinds! {
    AptSource "apt_source" apt_source::AptSourceSpec, apt_source::AptSourceSpec, name;
    ClusterMember "cluster_member" cluster_member::ClusterMemberSpec, cluster_member::Written, name;
    Command "command" command::CommandSpec, command::CommandSpec, name;
    Container "container" container::ContainerSpec, container::ContainerSpec, name;
    Directory "directory" directory::DirectorySpec, directory::DirectorySpec, path;
    File "file" file::FileSpec, file::FileSpec, path;
    Group "group" group::GroupSpec, group::GroupSpec, name;
    Image "image" image::ImageSpec, image::ImageSpec, name;
    KernelModule "kernel_module" kernel_module::KernelModuleSpec, kernel_module::KernelModuleSpec, name;
    Manifest "manifest" manifest::ManifestSpec, manifest::ManifestSpec, name;
    Mount "mount" mount::MountSpec, mount::MountSpec, path;
    Package "package" package::PackageSpec, package::PackageSpec, name;
    PodNetwork "pod_network" pod_network::PodNetworkSpec, pod_network::Written, pods;
    Service "service" service::ServiceSpec, service::ServiceSpec, name;
    Sysctl "sysctl" sysctl::SysctlSpec, sysctl::SysctlSpec, key;
    User "user" user::UserSpec, user::UserSpec, name;
}

/// Adds the keys that every resource has to a kind's own.
fn with_common(mut schema: serde_json::Value) -> serde_json::Value {
    let common = crate::shape::schema_of::<crate::tables::Common>();
    for part in ["properties", "$defs"] {
        let Some(add) = common.get(part).and_then(serde_json::Value::as_object) else { continue };
        if let Some(to) = schema.as_object_mut() {
            let to = to.entry(part).or_insert_with(|| serde_json::json!({}));
            if let Some(to) = to.as_object_mut() {
                to.extend(add.clone());
            }
        }
    }
    schema
}

pub(crate) fn root() -> String {
    "root".to_owned()
}

pub(crate) fn yes() -> bool {
    true
}
