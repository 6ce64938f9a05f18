//! Builds this workspace's own programs: in the profile that tests use too, so that nothing is compiled twice, or, to be
//! measured, as they are shipped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cache::{Cache, Inputs};
use crate::command::{Cmd, search_path};
use crate::progress::Progress;

/// How long stripped programs of earlier edits stay.
const KEPT_DAYS: u64 = 2;

/// The cargo that runs us.
pub fn cargo(root: &Path) -> Cmd {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Cmd::new(program).dir(root).env("PATH", search_path())
}

/// This workspace's programs, as cargo built them.
pub struct Programs {
    pub muster: PathBuf,
    pub agent: PathBuf,
    pub easypay: PathBuf,
}

/// Selects all programs with the features that the tests have. Cargo turns on what development dependencies ask of shared
/// ones (tokio's `test-util`) only where it builds tests or examples, and without `--examples`, of which there need be none,
/// tokio and all above it would be compiled a second time.
const AS_IN_TESTS: [&str; 3] = ["--workspace", "--bins", "--examples"];
const SHIPPED: [&str; 3] = ["--workspace", "--bins", "--release"];

/// How programs are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As tests are: quick to compile.
    Dev,
    /// Quick to run; takes minutes.
    Release,
}

impl Profile {
    /// The list of artefacts with these programs.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Dev => "local.json",
            Self::Release => "release.json",
        }
    }
}

/// Builds all programs, by one command over the workspace: asked for one by one, each would have its own features, and
/// its dependencies would be compiled anew.
pub fn build(progress: &Progress, root: &Path, profile: Profile) -> Result<Programs> {
    let (title, selected) = match profile {
        Profile::Dev => ("build muster, muster-agent and easypay", &AS_IN_TESTS[..]),
        Profile::Release => ("build muster, muster-agent and easypay for release", &SHIPPED[..]),
    };
    progress
        .stage(title, || cargo(root).args(["build", "--quiet"]).args(selected).args(["--exclude", "xtask"]).show())?;
    built(root, profile)
}

/// The programs where an earlier build left them.
pub fn built(root: &Path, profile: Profile) -> Result<Programs> {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    let dir = target_dir(root)?.join(folder);
    ensure!(dir.join("muster").is_file(), "{} holds no programs: build first", dir.display());
    Ok(Programs { muster: dir.join("muster"), agent: dir.join("muster-agent"), easypay: dir.join("easypay") })
}

/// Builds the application alone, which is all of ours that artefacts hold.
pub fn build_easypay(progress: &Progress, root: &Path) -> Result<PathBuf> {
    progress.stage("build easypay", || {
        // Over the workspace, as all of it is built: by itself it has other features, and its dependencies would be compiled twice.
        cargo(root).args(["build", "--quiet", "--workspace", "--examples", "--bin", "easypay"]).show()
    })?;
    Ok(target_dir(root)?.join("debug/easypay"))
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
    cache.remove_old(name, KEPT_DAYS, &folder)?;
    Ok(folder.join(name))
}
