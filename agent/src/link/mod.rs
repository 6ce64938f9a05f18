//! The link to the coordinator: who this node is, its catalog, pushes, reports, turns, secrets, tickets.
//!
//! Everything here may fail for hours and must not stop a converge: what was believed last is on disk, and each part
//! tries again by itself. It assumes a folder of its own (`/var/lib/muster-agent`), and that dialer, clock and jitter are
//! handed in.

mod backoff;
mod cache;
mod calls;
mod config;
mod credentials;
pub(crate) mod disk;
mod keeper;
mod secrets;
mod tickets;
mod turns;
mod watch;

pub use backoff::{Backoff, Jitter};
pub use cache::{CatalogCache, Received, Refused, read_draft};
pub use calls::{CallError, Link};
pub use config::{AgentConfig, ConfigError, Instance};
pub use credentials::{CredentialStore, Enrolled, StoredError};
pub use disk::DiskError;
pub use keeper::{Keeper, KeeperError};
pub use secrets::CoordinatorSecrets;
pub use tickets::CoordinatorTickets;
pub use turns::CoordinatorTurns;
pub use watch::{Pushed, follow};
