//! The daemon's log: lines on standard error, which `docker logs` and journald keep.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Logs what `MUSTER_LOG` asks for, such as `warn,muster_coordinator=debug`; by default all from information on.
pub(super) fn start() {
    let usual = Targets::new().with_default(Level::WARN).with_target("muster_coordinator", Level::INFO);
    let (targets, wrong) = match std::env::var("MUSTER_LOG").map(|asked| asked.parse()) {
        Ok(Ok(asked)) => (asked, None),
        Ok(Err(error)) => (usual, Some(error)),
        Err(_) => (usual, None),
    };
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(layer).with(targets).init();
    if let Some(error) = wrong {
        tracing::warn!(%error, "MUSTER_LOG is not used: it is written like warn,muster_coordinator=debug");
    }
}
