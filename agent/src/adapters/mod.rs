//! The ports' real adapters, and the fakes that are held to the same contract.

pub mod apt;
pub mod archive;
pub mod clock;
pub mod commands;
pub mod docker;
pub mod fake;
pub mod files;
mod journal;
pub mod local;
pub mod mounts;
pub mod sandbox;
pub mod systemd;
