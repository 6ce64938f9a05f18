//! `[[archive]]`: fetched, checked, unpacked beside its folder and put in its place.

use std::{ffi::OsStr, sync::Arc, time::Duration};

use muster_catalog::kinds::archive::ArchiveSpec;
use muster_plan::kinds::archive::{Change, Does, Observed, Origin, There};

use super::accounts::{self, known};
use crate::{
    Context, Done, StepError,
    adapters::files::{is_being_written, temporary_name},
    ports::{ArchiveError, Invocation},
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
    Ok(Observed { there, uid, gid })
}

pub async fn apply(ctx: &Context, spec: &ArchiveSpec, change: &Change) -> Result<Done, StepError> {
    match &change.does {
        Does::Refuse(why) => Err(StepError::failed(why.clone())
            .help("nothing was changed: move it away by hand, or name another folder for the archive")),
        Does::Remove => {
            blocking(ctx, spec, |archives, spec| archives.remove(&spec.path)).await?;
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

/// By apt's own downloader, which is on every Debian node before any package of ours is; or from the catalog.
async fn fetch(ctx: &Context, spec: &ArchiveSpec) -> Result<String, StepError> {
    let url = spec.url.as_deref().unwrap_or_default();
    let failed = || {
        StepError::failed(format!("the archive cannot be fetched from {url}"))
            .help("can this node reach it? `/usr/lib/apt/apt-helper download-file URL FILE` on the node tries the same")
            .retry()
    };
    ctx.files.make_dir(FETCHED)?;
    // What killed agents left. Another agent, or another archive with this digest, may be about to unpack its own.
    for name in ctx.files.list(FETCHED)?.unwrap_or_default() {
        if !is_being_written(OsStr::new(&name)) {
            ctx.files.remove(&format!("{FETCHED}/{name}"), true)?;
        }
    }
    let path = format!("{FETCHED}/{}", temporary_name(OsStr::new(spec.digest())).to_string_lossy());
    if let Some(content) = spec.bytes() {
        ctx.files.write(&path, content, 0o600, 0, 0)?;
        return Ok(path);
    }
    let run = Invocation::new(["/usr/lib/apt/apt-helper", "download-file", url, &path]).timeout(FETCH);
    let output = ctx.commands.run(run).await.map_err(|error| failed().because(error))?;
    if !output.success() {
        ctx.files.remove(&path, false)?;
        return Err(failed().because(output.tail(2)));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
