//! The image that the coordinator runs in: the services image with muster's two programs.

use std::fs;

use anyhow::Result;

use crate::artefacts::Manifest;
use crate::cache::{Cache, Inputs};
use crate::cargo::{self, Programs};
use crate::docker;
use crate::progress::Progress;

const NAME: &str = "muster-coordinator";

/// Older images that are kept: a running coordinator's own, and one to go back to.
const KEEP: usize = 3;

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
            let context = tempfile::tempdir_in(cache.tmp())?;
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
