//! What the local environment is made from, as `cargo xtask artefacts` wrote it down.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// Images by name, folders and files by path, all on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What a node boots.
    pub node_image: String,
    /// haproxy, nginx and the registry.
    pub services_image: String,
    /// The services' image with muster's two programs.
    pub coordinator_image: String,
    /// A signed repository of packages.
    pub apt_repository: PathBuf,
    /// Its key, ASCII-armoured.
    pub apt_key: PathBuf,
    /// The registry's storage.
    pub registry: PathBuf,
    /// As in `1.34.4`.
    pub kubernetes: String,
}

impl Manifest {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is no list of artefacts", path.display()))?;
        for part in [&manifest.apt_repository, &manifest.apt_key, &manifest.registry] {
            ensure!(part.exists(), "{} is gone, which {} names", part.display(), path.display());
        }
        Ok(manifest)
    }
}
