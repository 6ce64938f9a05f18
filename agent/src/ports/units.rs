//! systemd's units.

use futures::stream::BoxStream;
use muster_plan::kinds::service::{Again, Once};

/// Looks at units and acts on them. Names are whole (`containerd.service`); an alias is as good as a unit's own name. Every
/// action waits for its job to end.
#[async_trait::async_trait]
pub trait Units: Send + Sync {
    async fn state(&self, name: &str) -> Result<UnitState, UnitError>;
    /// Of many in one call, in the same order.
    async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError>;
    /// A name for its present run, or for the last one where it does not run: another one after each start. Empty before the first.
    async fn run(&self, name: &str) -> Result<String, UnitError>;
    /// Reads unit files again.
    async fn daemon_reload(&self) -> Result<(), UnitError>;
    async fn enable(&self, name: &str) -> Result<(), UnitError>;
    /// Takes away the links that start it at boot, those that point nowhere too.
    async fn disable(&self, name: &str) -> Result<(), UnitError>;
    async fn unmask(&self, name: &str) -> Result<(), UnitError>;
    /// Whatever systemd counted against it before: its start limit begins anew.
    async fn start(&self, name: &str) -> Result<(), UnitError>;
    /// Stops it, and ends what of it is left in its control group.
    async fn stop(&self, name: &str) -> Result<(), UnitError>;
    /// As [`Units::start`] for what does not run.
    async fn restart(&self, name: &str) -> Result<(), UnitError>;
    /// Reloads, or restarts where the unit cannot reload. What the reload ends is an error.
    async fn reload(&self, name: &str) -> Result<(), UnitError>;
    /// Waits until what was started has stood for a while: some seconds, where systemd calls it started before it could say that
    /// it is ready, and where systemd started it again. An error where it ended meanwhile.
    async fn stands(&self, name: &str) -> Result<(), UnitError>;
    async fn changes(&self) -> Result<BoxStream<'static, UnitEvent>, UnitError>;
}

/// What happened to units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitEvent {
    /// The state or the file of this one changed. It goes by its own name, never by an alias.
    Changed(String),
    /// Unit files were read again: aliases may be others now.
    Reloaded,
}

/// A unit as systemd sees it, in its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// Its own name; another than the one that it was asked by where that is an alias.
    pub id: String,
    /// False where there is no unit file that can be used.
    pub loaded: bool,
    pub masked: bool,
    /// Why its unit file cannot be used.
    pub bad: Option<String>,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `indirect`, …; empty where there is no unit file. Of an init script: `enabled` or `disabled`.
    pub file: String,
    /// Links that start it at boot are there without its unit file.
    pub dangling: bool,
    /// The unit file on disk is newer than what systemd read.
    pub needs_reload: bool,
    pub can_reload: bool,
    /// Of a oneshot service that is not active: how its last run since the boot ended.
    pub once: Option<Once>,
    /// It runs because systemd started it again by itself.
    pub again: Option<Again>,
    /// Processes of it though it is not active, as in `sleep (412)`: those that its `KillMode` leaves on purpose are not among them.
    pub left: Vec<String>,
}

/// systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error("systemd cannot be reached over D-Bus")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there is no unit {name}")]
    NotFound { name: String },
    #[error("{name} is masked")]
    Masked { name: String },
    /// In systemd's words.
    #[error("the unit file of {name} is bad: {words}")]
    Bad { name: String, words: String },
    /// The job ended with this result; `how` says how its program did, and `tail` holds its last words and systemd's.
    #[error("{verb} of {name} ended as `{result}`{}{}", in_brackets(how), log(tail))]
    Job { verb: &'static str, name: String, result: String, how: String, tail: String },
    /// It started, and did not stay.
    #[error("{name} ended soon after its start: {how}{}", log(tail))]
    Ended { name: String, how: String, tail: String },
    /// It did not start, because this is not so.
    #[error("{name} does not start, because its unit file says {condition}")]
    Condition { name: String, condition: String },
    #[error("systemd does not {verb} {name} for anybody: its unit file has RefuseManual{}", if *verb == "start" { "Start" } else { "Stop" })]
    NotByHand { verb: &'static str, name: String },
    #[error("{name} is stopped, and still has processes: {left}")]
    Left { name: String, left: String },
    #[error("systemd refuses to {verb} {name}")]
    Refused {
        verb: &'static str,
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn in_brackets(how: &str) -> String {
    if how.is_empty() { String::new() } else { format!(" ({how})") }
}

fn log(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("; its log ends: {tail}") }
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
            UnitError::Masked { name } => Self::failed(message).help(format!(
                "somebody ran `systemctl mask {name}`: add `unmask = true` to the service, if it should run all the same"
            )),
            UnitError::Bad { name, .. } => {
                Self::failed(message).help(format!("mend it; `systemd-analyze verify {name}` on the node tells all of it"))
            }
            UnitError::Job { name, .. } => {
                Self::failed(message).help(format!("see `journalctl -u {name}` on the node")).retry()
            }
            UnitError::Ended { name, how, .. } if how.contains("status 0") => Self::failed(message)
                .help(format!(
                    "a service whose program ends by itself is `Type=oneshot`, one that goes on in the background \
                     `Type=forking`; see `journalctl -u {name}` on the node"
                ))
                .retry(),
            UnitError::Ended { name, .. } => {
                Self::failed(message).help(format!("see `journalctl -u {name}` on the node")).retry()
            }
            UnitError::Condition { .. } => {
                Self::failed(message).help("a unit that is not for this node is left out with `when`").retry()
            }
            UnitError::Left { name, .. } => Self::failed(message)
                .help(format!("they wait for the kernel, perhaps for a disk: see `systemctl status {name}` on the node"))
                .retry(),
            UnitError::NotByHand { name, .. } => Self::failed(message).help(format!(
                "it goes with the units that want it: leave it to them, or say otherwise in a file of yours in \
                 /etc/systemd/system/{name}.d"
            )),
            UnitError::Refused { source, .. } => Self::failed(message).because(source).retry(),
        }
    }
}
