//! Builds this workspace's own programs, in the one profile that tests use too, so that nothing is compiled twice.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cache::{Cache, Inputs};
use crate::command::{Cmd, search_path};
use crate::progress::Progress;

/// The cargo that runs us.
pub fn cargo(root: &Path) -> Cmd {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Cmd::new(program).dir(root).env("PATH", search_path())
}

/// A program of the workspace: package and binary name.
pub const EASYPAY: (&str, &str) = ("easypay", "easypay");
pub const MUSTER: (&str, &str) = ("muster-coordinator", "muster");
pub const AGENT: (&str, &str) = ("muster-agent", "muster-agent");

/// Builds programs, showing the compiler's own output; returns their paths in the same order.
pub fn build(root: &Path, programs: &[(&str, &str)]) -> Result<Vec<PathBuf>> {
    let mut command = cargo(root).arg("build").arg("--quiet");
    for (package, binary) in programs {
        command = command.args(["--package", package, "--bin", binary]);
    }
    command.show()?;
    let dir = target_dir(root)?.join("debug");
    Ok(programs.iter().map(|(_, binary)| dir.join(binary)).collect())
}

fn target_dir(root: &Path) -> Result<PathBuf> {
    let text = cargo(root).args(["metadata", "--no-deps", "--format-version=1", "--offline"]).output()?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    Ok(PathBuf::from(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?))
}

/// A copy of a program in the cache without its debug information, which is most of it and nobody reads in an image.
pub fn stripped(cache: &Cache, progress: &Progress, name: &'static str, program: &Path) -> Result<PathBuf> {
    let inputs = Inputs::new(name, 1).file(program)?;
    let folder = cache.folder(progress, &format!("strip {name}"), &inputs, |dir| {
        Cmd::new("strip").args(["--strip-debug", "-o"]).arg(dir.join(name)).arg(program).output().map(drop)
    })?;
    Ok(folder.join(name))
}
