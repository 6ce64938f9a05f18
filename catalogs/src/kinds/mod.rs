//! The kinds of resources: one file each, one table, and a closed enum over all of them.

pub mod apt_source;
pub mod archive;
pub mod authorized_key;
pub mod block;
pub mod ca_certificate;
pub mod cluster_member;
pub mod command;
pub mod container;
mod content;
pub mod directory;
pub mod file;
pub mod group;
pub mod hostname;
pub mod image;
pub mod kernel_module;
mod kind;
pub mod link;
pub mod manifest;
pub mod mount;
pub mod package;
pub mod pod_network;
pub mod service;
pub mod swap;
pub mod sysctl;
pub mod timer;
pub mod timezone;
pub mod user;

use std::sync::LazyLock;

use muster_ids::ResourceId;
use serde::{Deserialize, Serialize};

pub(crate) use kind::owned;
pub use kind::{Claim, Cost, Fault, Kind, Leads, Need, Owned, Place, Presence, SecretName, Signal, Texts};

/// The one table of kinds, for this crate and for those that look, decide and act: hands `$callback` a row for each kind.
/// A row has the variant, its module, its key in TOML, what of it stands in a site, its spec, and the field that names it.
#[macro_export]
macro_rules! each_kind {
    ($callback:ident) => {
        $callback! {
            AptSource apt_source "apt_source" AptSourceSpec AptSourceSpec name;
            Archive archive "archive" ArchiveSpec ArchiveSpec path;
            AuthorizedKey authorized_key "authorized_key" AuthorizedKeySpec AuthorizedKeySpec name;
            Block block "block" BlockSpec BlockSpec name;
            CaCertificate ca_certificate "ca_certificate" CaCertificateSpec CaCertificateSpec name;
            ClusterMember cluster_member "cluster_member" Written ClusterMemberSpec name;
            Command command "command" CommandSpec CommandSpec name;
            Container container "container" ContainerSpec ContainerSpec name;
            Directory directory "directory" DirectorySpec DirectorySpec path;
            File file "file" FileSpec FileSpec path;
            Group group "group" GroupSpec GroupSpec name;
            Hostname hostname "hostname" HostnameSpec HostnameSpec name;
            Image image "image" ImageSpec ImageSpec name;
            KernelModule kernel_module "kernel_module" KernelModuleSpec KernelModuleSpec name;
            Link link "link" LinkSpec LinkSpec path;
            Manifest manifest "manifest" ManifestSpec ManifestSpec name;
            Mount mount "mount" MountSpec MountSpec path;
            Package package "package" PackageSpec PackageSpec name;
            PodNetwork pod_network "pod_network" Written PodNetworkSpec pods;
            Service service "service" ServiceSpec ServiceSpec name;
            Swap swap "swap" SwapSpec SwapSpec path;
            Sysctl sysctl "sysctl" SysctlSpec SysctlSpec key;
            Timer timer "timer" TimerSpec TimerSpec name;
            Timezone timezone "timezone" TimezoneSpec TimezoneSpec name;
            User user "user" UserSpec UserSpec name;
        }
    };
}

macro_rules! asked {
    ($self:ident, $($variant:ident)*, $method:ident) => {
        match $self {
            $(Self::$variant(spec) => spec.$method(),)*
        }
    };
}

macro_rules! kinds {
    ($($variant:ident $module:ident $key:literal $written:ident $spec:ident $name:ident;)*) => {
        /// What a resource should be.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Spec {
            $($variant($module::$spec),)*
        }

        impl Spec {
            /// The keys of all kinds, as they stand in TOML.
            pub const KINDS: &'static [&'static str] = &[$($key),*];

            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $key,)*
                }
            }

            /// What tells resources of one kind apart: a path, a name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant(spec) => &spec.$name,)*
                }
            }

            pub fn claims(&self) -> Vec<Claim> {
                asked!(self, $($variant)*, claims)
            }

            pub fn needs(&self) -> Vec<Need> {
                asked!(self, $($variant)*, needs)
            }

            pub fn owns(&self) -> Vec<Owned> {
                asked!(self, $($variant)*, owns)
            }

            pub fn presence(&self) -> Presence {
                asked!(self, $($variant)*, presence)
            }

            pub fn secrets(&self) -> Vec<SecretName<'_>> {
                asked!(self, $($variant)*, secrets)
            }

            pub fn cost(&self) -> Cost {
                asked!(self, $($variant)*, cost)
            }

            pub fn signals(&self) -> Vec<Signal> {
                asked!(self, $($variant)*, signals)
            }

            pub fn place(&self) -> Option<Place<'_>> {
                asked!(self, $($variant)*, place)
            }

            pub fn leads(&self) -> Option<Leads<'_>> {
                asked!(self, $($variant)*, leads)
            }

            pub(crate) fn texts(&mut self) -> Option<Texts<'_>> {
                asked!(self, $($variant)*, texts)
            }

            pub(crate) fn resolved(&mut self) {
                asked!(self, $($variant)*, resolved)
            }

            pub fn faults(&self) -> Vec<Fault> {
                asked!(self, $($variant)*, faults)
            }

            /// Whether a boot takes away what resources of this kind make.
            pub fn ends_with_boot(kind: &str) -> bool {
                match kind {
                    $($key => <$module::$spec as Kind>::ENDS_WITH_BOOT,)*
                    _ => false,
                }
            }

            /// Whether what is done for others may take resources of this kind back.
            pub fn undone_by_others(&self) -> bool {
                match self {
                    $(Self::$variant(_) => <$module::$spec as Kind>::UNDONE_BY_OTHERS,)*
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
            pub(crate) fn decode<'de, D: serde::Deserializer<'de>>(kind: &str, value: D) -> Result<Self, D::Error> {
                match kind {
                    $($key => $module::$spec::deserialize(value).map(Self::$variant),)*
                    _ => Err(serde::de::Error::custom("no such kind")),
                }
            }
        }

        impl std::ops::Index<&str> for Schemas {
            type Output = serde_json::Value;

            /// Of a kind that is there.
            fn index(&self, kind: &str) -> &serde_json::Value {
                match kind {
                    $($key => {
                        static SCHEMA: LazyLock<serde_json::Value> =
                            LazyLock::new(|| with_common(crate::shape::schema_of::<$module::$written>()));
                        &SCHEMA
                    })*
                    _ => panic!("there is no kind {kind}"),
                }
            }
        }
    };
}

/// The schema of each kind as it stands in a role: its keys and those that all resources have. Each is made when it is asked for.
pub(crate) static SCHEMAS: Schemas = Schemas;

pub(crate) struct Schemas;

impl Schemas {
    #[cfg(test)]
    pub(crate) fn values(&self) -> impl Iterator<Item = &serde_json::Value> {
        Spec::KINDS.iter().map(|kind| &self[kind])
    }
}

each_kind!(kinds);

impl Spec {
    pub fn id(&self) -> ResourceId {
        ResourceId::new(self.kind(), self.name())
    }

    pub fn absent(&self) -> bool {
        self.presence() == Presence::Absent
    }
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
