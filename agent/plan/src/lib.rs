//! Pure: what is observed and what is written in, changes out; and the words in which agents report.

pub mod cluster;
pub mod fstab;
pub mod kinds;
pub mod mounts;
pub mod report;
pub mod row;
pub mod schedule;
pub mod text;

pub use report::{Outcome, Report, Skip, StepReport, Workload};
pub use row::{Certainty, Row};
