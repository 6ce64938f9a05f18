//! The agent as a service: start, converge what is on disk at once, and then forever whenever something may have changed.
//!
//! Tasks joined by channels: the keeper keeps the certificate, the watch brings pushes, the puller brings catalogs, the reporter
//! takes reports and metrics away, the leader's what it sees of the cluster, and the loop converges. Each of the others may fail for days without stopping the last.
//! A wake says only that there is something to look at; what to do is decided by looking.

mod drafts;
mod leader;
mod metrics;
mod notify;
mod pause;
mod puller;
mod reporter;
mod run;
mod wakes;
mod work;

pub use leader::report as report_cluster;
pub use metrics::Meter;
pub use notify::Notifier;
pub use run::Daemon;
pub use work::{Converge, Rights, Signed, Work};
