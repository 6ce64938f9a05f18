//! Restoring a coordinator: a sealed backup onto an empty state volume, before the coordinator starts from it.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, bail, ensure};

use muster_proto::{Clock as _, Realm, SystemClock};

use super::{containers, manifest::Manifest, start};
use crate::{
    backup,
    cloud::docker::{Role, Upload},
};

/// Restores and starts. Refuses a state volume that holds anything.
pub async fn restore(site: &muster_catalog::Site, file: &Path, key: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let sealed = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let identity = fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
    let folder = tempfile::tempdir()?;
    let realm = Realm { cluster: site.cluster.clone(), environment: site.environment.clone() };
    backup::restore(folder.path(), sealed.as_slice(), &identity, &realm, SystemClock.now())?;
    let scope = start::scope(site);
    let engine = start::engine().await?;
    let volume = containers::state_volume(&scope);
    ensure!(
        engine.container(&scope.name("coordinator")).await?.is_none(),
        "a coordinator of {scope} is here, and its state would be lost\n  help: remove it first if its state is lost: docker rm --force {}",
        scope.name("coordinator")
    );
    if engine.volumes(&scope).await?.contains(&volume) {
        bail!(
            "the volume {volume} is here and may hold a state\n  help: remove it first if it is lost: docker volume rm {volume}"
        );
    }
    engine.ensure_volume(&scope, &volume, Role::Coordinator, HashMap::new()).await?;
    let mut files = Vec::new();
    collect(folder.path(), folder.path(), &mut files)?;
    start::start_with(site, manifest, &files).await?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<Upload>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let at = format!("/var/lib/muster/{}", path.strip_prefix(root)?.display());
        if path.is_dir() {
            files.push(Upload::folder(&at, 0o700));
            collect(root, &path, files)?;
        } else {
            files.push(Upload::file(&at, 0o600, fs::read(&path)?));
        }
    }
    Ok(())
}
