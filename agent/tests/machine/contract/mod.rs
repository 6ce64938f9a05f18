//! What every adapter of a port promises.

mod clock;
mod cluster;
mod commands;
mod docker;
mod files;
mod packages;
mod units;
