//! `cargo xtask bench`: muster against its peers, side by side in one run.
//!
//! Machines differ and are noisy, so a figure alone says little: every one is printed beside its peer's from the same run,
//! as the median of several that took turns, and as a ratio. A peer that is not installed is said to be absent. Programs
//! are built as they are shipped, with optimisation.

mod converge;
mod idle;
mod peers;
mod table;
mod up;
mod validate;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use crate::Built;
use crate::cache::Cache;
use crate::progress::Progress;

pub use peers::install as install_peers;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// `muster up` against a bare shell script
    Up,
    /// A converge with nothing to do, of 1,000 and 10,000 files
    Converge,
    /// `muster validate` of 5,000 and 50,000 files
    Validate,
    /// An agent that waits: memory and CPU
    Idle,
}

/// What all parts need.
pub struct Bench<'a> {
    pub progress: &'a Progress,
    pub checkout: &'a Path,
    pub cache: &'a Cache,
    pub built: &'a Built,
    pub rounds: usize,
    /// An earlier `muster` that takes turns with the present one where that makes sense.
    pub before: Option<&'a Path>,
}

pub fn run(bench: &Bench, parts: &[Part]) -> Result<()> {
    let all = parts.is_empty();
    // The quick ones first: a slip shows early.
    if all || parts.contains(&Part::Converge) {
        converge::run(bench)?;
    }
    if all || parts.contains(&Part::Validate) {
        validate::run(bench)?;
    }
    if all || parts.contains(&Part::Up) {
        up::run(bench)?;
    }
    if all || parts.contains(&Part::Idle) {
        idle::run(bench)?;
    }
    Ok(())
}
