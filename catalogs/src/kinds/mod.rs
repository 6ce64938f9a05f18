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

use muster_ids::ResourceId;
use serde::{Deserialize, Serialize};

/// The one table of kinds: the variant, its key in TOML, its module's spec, and the spec's naming field.
macro_rules! kinds {
    ($($variant:ident $key:literal $spec:path, $name:ident;)*) => {
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

            pub fn id(&self) -> ResourceId {
                match self {
                    $(Spec::$variant(spec) => ResourceId::new($key, spec.$name.clone()),)*
                }
            }
        }
    };
}

kinds! {
    AptSource "apt_source" apt_source::AptSourceSpec, name;
    ClusterMember "cluster_member" cluster_member::ClusterMemberSpec, name;
    Command "command" command::CommandSpec, name;
    Container "container" container::ContainerSpec, name;
    Directory "directory" directory::DirectorySpec, path;
    File "file" file::FileSpec, path;
    Group "group" group::GroupSpec, name;
    Image "image" image::ImageSpec, name;
    KernelModule "kernel_module" kernel_module::KernelModuleSpec, name;
    Manifest "manifest" manifest::ManifestSpec, name;
    Mount "mount" mount::MountSpec, path;
    Package "package" package::PackageSpec, name;
    PodNetwork "pod_network" pod_network::PodNetworkSpec, pods;
    Service "service" service::ServiceSpec, name;
    Sysctl "sysctl" sysctl::SysctlSpec, key;
    User "user" user::UserSpec, name;
}

pub(crate) fn root() -> String {
    "root".to_owned()
}

pub(crate) fn yes() -> bool {
    true
}
