//! The embedded default: systemd containers as nodes, haproxy as load balancers, volumes as disks, on the Docker daemon
//! of this machine.
//!
//! [`Engine`] is the low level, idempotent by name and label, and also starts the coordinator's own container;
//! [`DockerCloud`] is the adapter of the cloud port over it. Everything carries the label of its environment
//! ([`Scope`]), and nothing without it is ever touched.

mod archive;
mod balancer;
mod capabilities;
mod cloud;
mod container;
mod engine;
mod error;
mod exec;
#[cfg(test)]
mod live;
mod network;
mod node;
mod observe;
mod scope;
mod served;
mod volume;

pub use archive::Upload;
pub use capabilities::bounding_capabilities;
pub use cloud::{DockerCloud, DockerConfig};
pub use container::{ContainerSpec, Found, Mount, State};
pub use engine::{DEFAULT_SOCKET, Engine, Removed, own_socket, socket};
pub use error::DockerError;
pub use exec::Ran;
pub(crate) use scope::NODE;
pub use scope::{Role, Scope};
pub use served::get;
