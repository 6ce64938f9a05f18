//! `[[archive]]`: fetched, checked, unpacked beside its folder and put in its place.

use std::{sync::Arc, time::Duration};

use muster_catalog::kinds::archive::ArchiveSpec;
use muster_ids::Digest;
use muster_plan::kinds::archive::{Change, Does, Observed, Origin, There};

use super::accounts::{self, known};
use crate::{
    Context, Done, StepError,
    ports::{ArchiveError, Invocation, Once},
};

/// Where archives lie while they are unpacked.
const FETCHED: &str = "/var/lib/muster-agent/archives";
/// A large one over a slow line.
const FETCH: Duration = Duration::from_secs(1800);

pub async fn observe(ctx: &Context, spec: &ArchiveSpec) -> Result<Observed, StepError> {
    let (uid, gid) = {
        let accounts = accounts::of_one(ctx, &spec.owner, &spec.group).await?;
        (accounts.uid(&spec.owner)?, accounts.gid(&spec.group)?)
    };
    let mut there = ctx.archives.look(&spec.path)?;
    if let There::Unpacked(unpacked) = &mut there {
        let path = ctx.mounts.resolve(&spec.path)?;
        let table = ctx.mounts.table()?;
        let mounts = table.at(&path).into_iter().chain(table.below(&path));
        unpacked.mounts = mounts.map(|mount| mount.point.clone()).collect();
    }
    let left = ctx.archives.left(&spec.path)? || ctx.files.stat(&fetched(spec))?.is_some();
    Ok(Observed { there, left, uid, gid })
}

pub async fn apply(ctx: &Context, spec: &ArchiveSpec, change: &Change) -> Result<Done, StepError> {
    match &change.does {
        Does::Refuse(why) => Err(StepError::failed(why.clone())
            .help("nothing was changed: move it away by hand, or name another folder for the archive")),
        Does::Remove => {
            ctx.files.remove(&fetched(spec), false)?;
            blocking(ctx, spec, |archives, spec| archives.remove(&spec.path)).await?;
            Ok(Done::default())
        }
        Does::Clear => {
            ctx.files.remove(&fetched(spec), false)?;
            blocking(ctx, spec, |archives, spec| archives.clear(&spec.path)).await?;
            Ok(Done::default())
        }
        Does::Unpack { uid, gid } => {
            let from = Origin {
                sha256: spec.digest().to_owned(),
                strip: spec.strip,
                uid: known(*uid, "user", &spec.owner)?,
                gid: known(*gid, "group", &spec.group)?,
            };
            let archive = fetch(ctx, spec).await?;
            let place = archive.clone();
            let unpacked = blocking(ctx, spec, move |archives, spec| archives.unpack(&place, &spec.path, &from)).await;
            ctx.files.remove(&archive, false)?;
            unpacked?;
            Ok(Done::default())
        }
    }
}

async fn blocking(
    ctx: &Context,
    spec: &ArchiveSpec,
    work: impl FnOnce(&dyn crate::ports::Archives, &ArchiveSpec) -> Result<(), ArchiveError> + Send + 'static,
) -> Result<(), StepError> {
    let (archives, spec) = (Arc::clone(&ctx.archives), spec.clone());
    match tokio::task::spawn_blocking(move || work(&*archives, &spec)).await {
        Ok(done) => Ok(done?),
        Err(ended) => Err(StepError::failed("unpacking ended early").because(ended)),
    }
}

/// Each folder has a place of its own: two archives of one digest are fetched at once, and what a kill left is found again.
fn fetched(spec: &ArchiveSpec) -> String {
    format!("{FETCHED}/{}", Digest::of(&spec.path))
}

/// By apt's own downloader, which is on every Debian node before any package of ours is; or from the catalog.
async fn fetch(ctx: &Context, spec: &ArchiveSpec) -> Result<String, StepError> {
    let url = spec.url.as_deref().unwrap_or_default();
    let failed = || {
        StepError::failed(format!("the archive cannot be fetched from {url}"))
            .help("can this node reach it? `/usr/lib/apt/apt-helper download-file URL FILE` on the node tries the same")
            .retry()
    };
    let path = fetched(spec);
    ctx.files.make_dir(FETCHED)?;
    if let Some(content) = spec.bytes() {
        ctx.files.write(&path, content, 0o600, 0, 0)?;
        return Ok(path);
    }
    let run = Invocation::new(["/usr/lib/apt/apt-helper", "download-file", url, &path]).timeout(FETCH);
    // No command's name has a blank in it.
    let name = format!("archive {}", spec.path);
    let output = loop {
        // One of a killed agent would write into ours.
        if let Some(other) = ctx.commands.under_way(&name).await? {
            ctx.commands.ended(&other, FETCH.saturating_sub(Duration::from_secs(other.age))).await?;
        }
        ctx.files.remove(&path, false)?;
        match ctx.commands.once(&name, run.clone()).await.map_err(|error| failed().because(error))? {
            Once::Ended(output) => break output,
            Once::UnderWay(_) => {}
        }
    };
    if !output.success() {
        ctx.files.remove(&path, false)?;
        return Err(failed().because(output.tail(2)));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
