//! The local environment on this machine: which containers stand at which addresses, and how the first of them start.

pub mod addresses;
pub mod containers;
pub mod manifest;
pub mod operator;
pub mod restore;
pub mod standing;
pub mod start;

/// The coordinator's gRPC port.
pub const GRPC_PORT: u16 = 7443;
/// The coordinator's plain HTTP port: health, metrics, the agent's binary.
pub const HTTP_PORT: u16 = 7480;
