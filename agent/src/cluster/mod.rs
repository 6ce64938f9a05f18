//! The cluster as seen from a node: how one becomes a member, and what the control plane that leads does for all.
//!
//! kubeadm does what is its own (certificates, static pods, kubelet's first start), phase by phase; this decides which
//! phases, and does the waiting itself, because kubeadm polls. Everything that changes the cluster for others goes by the
//! API of this node's own control plane, never by the load balancer: a node that dials its balancer and is balanced to
//! itself hangs where client addresses are preserved.

pub mod api;
pub mod approve;
pub mod birth;
pub mod bootstrap;
pub mod burial;
pub mod client;
pub mod differences;
pub mod discovery;
pub mod dns;
pub mod documents;
pub mod drift;
pub mod encryption;
pub mod etcd;
mod first;
pub mod fragments;
pub mod join;
pub mod kubeadm;
pub mod lease;
pub mod leave;
pub mod lost;
mod mark;
pub mod membership;
mod midwife;
pub mod network;
pub mod node;
pub mod objects;
pub mod plane;
mod processes;
pub mod reach;
pub mod refuse;
pub mod sets;
pub mod settings;
pub mod sign;
pub mod tickets;
pub mod watch;
pub mod workloads;

pub use node::{node_ready, pods};
pub use workloads::behind as workloads;

/// Where kubeadm keeps its files.
pub(crate) const KUBERNETES: &str = "/etc/kubernetes";
/// Every control plane's own API server, which has this name in its certificate.
pub(crate) const LOCAL_API: &str = "https://127.0.0.1:6443";
/// Who writes, in managed fields.
pub(crate) const MANAGER: &str = "muster";
