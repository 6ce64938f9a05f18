//! What the agent needs of the system and of the coordinator, each as a trait with a real and a fake adapter.

mod archives;
mod clock;
mod commands;
mod coordinator;
mod docker;
mod files;
mod health;
mod kube;
mod mounts;
mod packages;
mod units;

pub use archives::{ArchiveError, Archives};
pub use clock::Clock;
pub use commands::{CommandError, Commands, Invocation, Once, Output, Run};
pub use coordinator::{HeldTurn, JoinTicket, PortError, Secrets, Taken, Tickets, Turn, Turns};
pub use docker::{ContainerState, Docker, DockerError, DockerEvent};
pub use files::{Beside, Entry, FileError, FileKind, Files, InUse, Inside, Lock, Stat};
pub use health::Health;
pub use kube::Kube;
pub use mounts::{Found, MountError, Mounts, NewMount, User};
pub use packages::{Installed, Known, Owed, PackageError, Packages, Transaction};
pub use units::{UnitError, UnitEvent, UnitState, Units};
