//! Lays images out as docker-registry (CNCF distribution) stores them, so that it can serve them at once, read-only.
//!
//! Nothing is pushed: a push needs a running registry, and turns every blob over once more. Blobs are hard links into the
//! images' own folders, so a registry with one image changed takes milliseconds and no room.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::oci;

/// An image and the name under which the registry serves it.
pub struct Entry {
    /// `coredns/coredns`.
    pub repository: String,
    pub tag: String,
    /// An OCI layout.
    pub image: PathBuf,
}

/// Fills the empty folder `root`, docker-registry's `rootdirectory`.
pub fn lay_out(root: &Path, entries: &[Entry]) -> Result<()> {
    let base = root.join("docker/registry/v2");
    let mut seen = BTreeSet::new();
    for entry in entries {
        if !seen.insert((&entry.repository, &entry.tag)) {
            bail!("two images are named {}:{}", entry.repository, entry.tag);
        }
        let manifest = oci::manifest_digest(&entry.image)?;
        let repository = base.join("repositories").join(&entry.repository);
        for blob in fs::read_dir(entry.image.join("blobs/sha256"))? {
            let blob = blob?;
            let digest = blob.file_name().into_string().ok().context("a blob without a plain name")?;
            let dir = base.join("blobs/sha256").join(&digest[..2]).join(&digest);
            let data = dir.join("data");
            if !data.exists() {
                fs::create_dir_all(&dir)?;
                fs::hard_link(blob.path(), &data).with_context(|| format!("cannot link {}", blob.path().display()))?;
            }
            if digest != manifest {
                link(&repository.join("_layers/sha256").join(&digest), &digest)?;
            }
        }
        let manifests = repository.join("_manifests");
        link(&manifests.join("revisions/sha256").join(&manifest), &manifest)?;
        let tag = manifests.join("tags").join(&entry.tag);
        link(&tag.join("current"), &manifest)?;
        link(&tag.join("index/sha256").join(&manifest), &manifest)?;
    }
    Ok(())
}

/// The registry's form of a pointer: a file `link` that holds a digest.
fn link(dir: &Path, digest: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("link"), format!("sha256:{digest}"))
        .with_context(|| format!("cannot write in {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_two_images_of_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer.tar");
        fs::write(&layer, "").unwrap();
        let image = dir.path().join("image");
        oci::write(&image, &[layer], oci::Compression::Gzip, &oci::Run::default()).unwrap();
        let entry = |tag: &str| Entry { repository: "a/b".into(), tag: tag.into(), image: image.clone() };

        let root = dir.path().join("registry");
        lay_out(&root, &[entry("1"), entry("2")]).unwrap();
        let digest =
            fs::read_to_string(root.join("docker/registry/v2/repositories/a/b/_manifests/tags/1/current/link"))
                .unwrap();
        let hex = digest.strip_prefix("sha256:").unwrap();
        assert!(root.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data").exists());

        assert!(lay_out(&dir.path().join("other"), &[entry("1"), entry("1")]).is_err());
    }
}
