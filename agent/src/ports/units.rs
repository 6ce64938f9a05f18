//! systemd's units.

use futures::stream::BoxStream;

/// Looks at units and acts on them. Names are whole (`containerd.service`). Every action waits for its job to end.
#[async_trait::async_trait]
pub trait Units: Send + Sync {
    async fn state(&self, name: &str) -> Result<UnitState, UnitError>;
    /// Of many in one call, in the same order.
    async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError>;
    /// Reads unit files again.
    async fn daemon_reload(&self) -> Result<(), UnitError>;
    async fn enable(&self, name: &str) -> Result<(), UnitError>;
    async fn disable(&self, name: &str) -> Result<(), UnitError>;
    async fn start(&self, name: &str) -> Result<(), UnitError>;
    async fn stop(&self, name: &str) -> Result<(), UnitError>;
    async fn restart(&self, name: &str) -> Result<(), UnitError>;
    /// Reloads, or restarts where the unit cannot reload.
    async fn reload(&self, name: &str) -> Result<(), UnitError>;
    /// Names of units whose state or file changed.
    async fn changes(&self) -> Result<BoxStream<'static, String>, UnitError>;
}

/// A unit as systemd sees it, in its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// False where there is no unit file.
    pub loaded: bool,
    pub masked: bool,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `indirect`, …
    pub file: String,
    /// The unit file on disk is newer than what systemd read.
    pub needs_reload: bool,
}

/// systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error("systemd cannot be reached over D-Bus")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there is no unit {name}")]
    NotFound { name: String },
    /// The job ended with this result; `tail` holds the unit's last log lines.
    #[error("{verb} of {name} ended as `{result}`{}", if tail.is_empty() { String::new() } else { format!("; its log ends: {tail}") })]
    Job { verb: &'static str, name: String, result: String, tail: String },
    #[error("systemd refuses to {verb} {name}")]
    Refused {
        verb: &'static str,
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<UnitError> for crate::StepError {
    fn from(error: UnitError) -> Self {
        let message = error.to_string();
        match error {
            UnitError::Unreachable(source) => Self::failed(message)
                .because(source)
                .help("the service kind needs systemd as the init of this machine")
                .retry(),
            UnitError::NotFound { .. } => {
                Self::failed(message).help("which package brings it? add it, or write the unit file as a file resource")
            }
            UnitError::Job { name, .. } => {
                Self::failed(message).help(format!("see `journalctl -u {name}` on the node")).retry()
            }
            UnitError::Refused { source, .. } => Self::failed(message).because(source).retry(),
        }
    }
}
