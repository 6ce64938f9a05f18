//! The composition root: the only place that names concrete adapters.

mod config;
mod log;
mod operator;
mod parts;
mod serve;

pub use crate::backup::restore;
pub use config::{Config, ConfigError, ProviderKind};
pub use operator::{ca, issue_operator};
pub use parts::{Parts, Running, start};
pub use serve::serve;

/// Why the coordinator did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("the state folder {path} cannot be used")]
    Folder { path: std::path::PathBuf, source: std::io::Error },
    #[error("{0} is missing and the state beside it is there: restore a backup (muster coordinator restore)")]
    Missing(std::path::PathBuf),
    #[error("the coordinator is still starting\n  help: try again in a moment")]
    Starting,
    #[error("another coordinator uses {0}")]
    Locked(std::path::PathBuf),
    #[error("{address} cannot be listened on")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the agent's program {path} cannot be read")]
    Agent { path: std::path::PathBuf, source: std::io::Error },
    #[error("the store cannot be opened")]
    Store(#[from] crate::store::StoreError),
    #[error("the state cannot be read")]
    State(#[from] crate::state::StateError),
    #[error("the local state cannot be opened")]
    Local(#[from] crate::state::LocalError),
    #[error("the master key cannot be used")]
    Secret(#[from] crate::secrets::SecretError),
    #[error("the CA cannot be opened")]
    Ca(#[from] crate::ca::CaError),
    #[error("the coordinator has no certificate")]
    Rotation(#[from] crate::ca::RotationError),
    #[error("Docker cannot be used")]
    Docker(#[from] crate::cloud::docker::DockerError),
    #[error("the gRPC server ended")]
    Serve(#[from] tonic::transport::Error),
}
