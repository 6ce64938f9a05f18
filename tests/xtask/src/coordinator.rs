//! Builds muster itself, and the image that its coordinator runs in: the services image with the two programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::artefacts::Manifest;
use crate::cache::{Cache, Inputs};
use crate::progress::Progress;
use crate::{cargo, docker};

const NAME: &str = "muster-coordinator";

/// Older images that are kept: a running coordinator's own, and one to go back to.
const KEEP: usize = 3;

/// muster's programs.
pub struct Programs {
    pub muster: PathBuf,
    pub agent: PathBuf,
}

/// Compiles them.
pub fn build(progress: &Progress, checkout: &Path) -> Result<Programs> {
    let built =
        progress.stage("build muster and muster-agent", || cargo::build(checkout, &[cargo::MUSTER, cargo::AGENT]))?;
    let [muster, agent] = <[PathBuf; 2]>::try_from(built).ok().context("cargo built another number of programs")?;
    Ok(Programs { muster, agent })
}

/// Makes the coordinator's image; returns its tag.
pub fn image(cache: &Cache, progress: &Progress, artefacts: &Manifest, programs: &Programs) -> Result<String> {
    let muster = cargo::stripped(cache, progress, "muster", &programs.muster)?;
    let agent = cargo::stripped(cache, progress, "muster-agent", &programs.agent)?;
    let dockerfile = format!(
        "FROM {}\nCOPY muster muster-agent /usr/local/bin/\nENTRYPOINT [\"/usr/local/bin/muster\", \"coordinator\", \"serve\"]\n",
        artefacts.services_image
    );
    let tag = format!("{NAME}:{}", Inputs::new(NAME, 1).text(&dockerfile).file(&muster)?.file(&agent)?.hash());
    if !docker::has_image(&tag) {
        progress.stage(&format!("make image {tag}"), || {
            let context = tempfile::tempdir_in(cache.root().join("tmp"))?;
            fs::write(context.path().join("Dockerfile"), &dockerfile)?;
            for (program, name) in [(&muster, "muster"), (&agent, "muster-agent")] {
                fs::hard_link(program, context.path().join(name))?;
            }
            docker::build(context.path(), &tag, &cache.new_log(NAME))
        })?;
        for old in docker::tags(NAME)?.iter().skip(KEEP) {
            docker::remove_unused(&format!("{NAME}:{old}"));
        }
    }
    Ok(tag)
}
