//! What every adapter of a port promises.

mod archives;
mod clock;
mod cluster;
mod commands;
mod docker;
mod files;
mod mounts;
mod packages;
mod units;
