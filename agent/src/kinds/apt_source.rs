//! `[[apt_source]]`: two files, and the index of this source alone.

use std::time::Duration;

use muster_catalog::kinds::apt_source::AptSourceSpec;
use muster_ids::Digest;
use muster_plan::kinds::apt_source::{Change, Key, Observed, key_path, source_path};

use crate::{Context, Done, StepError, ports::Invocation};

const LISTS: &str = "/var/lib/apt/lists";

pub async fn observe(ctx: &Context, spec: &AptSourceSpec) -> Result<Observed, StepError> {
    let text = |path: &str| {
        let content = ctx.files.read(path)?;
        Ok::<_, StepError>(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    };
    let lists = if spec.absent { Vec::new() } else { ctx.files.list(LISTS)?.unwrap_or_default() };
    Ok(Observed {
        source: text(&source_path(&spec.name))?,
        key: text(&key_path(&spec.name))?,
        indexed: spec.suites.iter().all(|suite| indexed(&lists, &spec.url, suite)),
    })
}

/// apt keeps `http://host/path dists/suite` as `host_path_dists_suite_InRelease`, and a flat one without `dists`.
fn indexed(lists: &[String], url: &str, suite: &str) -> bool {
    let place = url.split_once("://").map_or(url, |(_, place)| place).trim_end_matches('/').replace('/', "_");
    let suite = suite.trim_matches('/').replace('/', "_");
    let begins = match suite.as_str() {
        "" | "." => format!("{place}_"),
        suite => format!("{place}_dists_{suite}_"),
    };
    lists.iter().any(|name| {
        name.strip_prefix(&begins)
            .is_some_and(|rest| matches!(rest, "InRelease" | "Release" | "._InRelease" | "._Release"))
    })
}

pub async fn apply(ctx: &Context, spec: &AptSourceSpec, change: &Change) -> Result<Done, StepError> {
    if change.remove {
        ctx.files.remove(&source_path(&spec.name), false)?;
        ctx.files.remove(&key_path(&spec.name), false)?;
        return Ok(Done::default());
    }
    let key = match &change.key {
        Some(Key::Text(text)) => Some(text.clone().into_bytes()),
        Some(Key::Url(url)) => Some(fetch(ctx, url, spec.key_sha256.as_deref()).await?),
        None => None,
    };
    if let Some(key) = key {
        ctx.files.write(&key_path(&spec.name), &key, 0o644, 0, 0)?;
    }
    if let Some(text) = &change.source {
        ctx.files.write(&source_path(&spec.name), text.as_bytes(), 0o644, 0, 0)?;
    }
    if change.update {
        ctx.packages.update(Some(&spec.name)).await?;
    }
    Ok(Done::default())
}

async fn fetch(ctx: &Context, url: &str, sha256: Option<&str>) -> Result<Vec<u8>, StepError> {
    // apt's own downloader: there on every Debian node, before any package of ours is.
    let failed = || {
        StepError::failed(format!("the key cannot be fetched from {url}"))
            .help("can this node reach it? the key's text can stand in the site instead")
            .retry()
    };
    let path = "/run/muster-agent-key.asc";
    ctx.files.remove(path, false)?;
    let run = Invocation::new(["/usr/lib/apt/apt-helper", "download-file", url, path]).timeout(Duration::from_secs(60));
    let output = ctx.commands.run(run).await.map_err(|error| failed().because(error))?;
    if !output.success() {
        return Err(failed().because(output.tail(2)));
    }
    let key = ctx.files.read(path)?.unwrap_or_default();
    ctx.files.remove(path, false)?;
    if let Some(wanted) = sha256 {
        let found = Digest::of(&key).to_string();
        if found != wanted {
            return Err(StepError::failed(format!(
                "the key from {url} has the SHA-256 {found}, and {wanted} was asked for"
            ))
            .help("nothing was trusted: find out who changed it before you write the new digest"));
        }
    }
    if !key.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Err(StepError::failed(format!("what {url} gives is no ASCII-armoured key"))
            .help("`gpg --armor --export KEY` makes one"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_named_as_apt_names_them() {
        let lists = ["10.89.0.3_debian_dists_muster_InRelease".to_owned(), "h_flat_._InRelease".to_owned()];
        assert!(indexed(&lists, "http://10.89.0.3/debian/", "muster"));
        assert!(!indexed(&lists, "http://10.89.0.3/debian", "must"));
        assert!(indexed(&lists, "https://h/flat", "/"));
    }
}
