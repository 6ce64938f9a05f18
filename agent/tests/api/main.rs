//! Sets of Kubernetes objects against a real API server: etcd, kube-apiserver and the controllers that delete, as plain
//! processes on loopback.
//!
//! All but the fake's contract are ignored ones, for they need the programs that `cargo xtask` builds, and fail loudly without them.

mod contract;
mod lab;
mod move_between;
mod peers;
mod refused;
