//! Pure: policy, inventory, parent blueprint, now and seed in; blueprint and report out.
//!
//! The loop around it: read the provider ([`Inventory`]), [`plan()`], store the blueprint, take its [`steps()`], read
//! again. Nothing here knows a clock, a file or a socket.

pub mod blueprint;
pub mod check;
pub mod diff;
pub mod foresee;
pub mod inventory;
pub mod plan;
pub mod policy;
pub mod report;
pub mod revoke;
pub mod steps;
pub mod turns;

pub use blueprint::Blueprint;
pub use check::{Finding, check, check_change, check_seen};
pub use diff::{CloudAction, CloudRow, bytes, rows};
pub use foresee::foresee;
pub use inventory::{Inventory, Seen};
pub use plan::{AddressTaken, Input, addresses_taken, plan};
pub use policy::Policy;
pub use report::{PlanReport, Waiting};
pub use revoke::{NotRevocable, may_revoke};
pub use steps::{Step, steps};
pub use turns::{Turn, may_disrupt};
