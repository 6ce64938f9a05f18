//! Writes container images as OCI layouts, with no daemon and no builder: a layer is a compressed tar file, the rest is JSON.
//!
//! The same inputs give the same digests: times are zero, owners are numbers, names are sorted. Layers are zstd-compressed,
//! which containerd unpacks several times faster than gzip. Docker 20.10 knows gzip only, so an image that Docker itself
//! must pull says so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::command::Cmd;

pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zstd,
    Gzip,
}

/// How a container of the image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run<'a> {
    pub entrypoint: &'a [&'a str],
    pub cmd: &'a [&'a str],
    pub env: &'a [&'a str],
    /// `999:999`; empty is root.
    pub user: &'a str,
    pub stop_signal: &'a str,
}

impl Run<'_> {
    fn config(&self) -> Value {
        let mut config = serde_json::Map::new();
        let mut env = self.env.to_vec();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        config.insert("Env".into(), json!(env));
        config.insert("WorkingDir".into(), json!("/"));
        for (name, list) in [("Entrypoint", self.entrypoint), ("Cmd", self.cmd)] {
            if !list.is_empty() {
                config.insert(name.into(), json!(list));
            }
        }
        for (name, text) in [("User", self.user), ("StopSignal", self.stop_signal)] {
            if !text.is_empty() {
                config.insert(name.into(), json!(text));
            }
        }
        Value::Object(config)
    }
}

/// Writes an image of uncompressed layer tar files into `dir`, which gets `blobs/sha256/…` and `index.json`.
pub fn write(dir: &Path, layers: &[PathBuf], compression: Compression, run: &Run) -> Result<()> {
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    let (program, level, suffix): (_, &[&str], _) = match compression {
        Compression::Zstd => ("zstd", &["--quiet", "-3"], "zstd"),
        Compression::Gzip => ("gzip", &["-n", "-1"], "gzip"),
    };
    let mut diff_ids = Vec::new();
    let mut descriptors = Vec::new();
    for layer in layers {
        let tar = fs::File::open(layer).with_context(|| format!("cannot read {}", layer.display()))?;
        diff_ids.push(format!("sha256:{}", digest_of(layer)?));
        let packed = dir.join("layer");
        Cmd::new(program).args(level).arg("-c").stdin(tar).into_file(&packed)?;
        let digest = digest_of(&packed)?;
        let size = fs::metadata(&packed)?.len();
        fs::rename(&packed, dir.join("blobs/sha256").join(&digest))?;
        descriptors.push(json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar+{suffix}"),
            "digest": format!("sha256:{digest}"),
            "size": size,
        }));
    }
    let config = json!({
        "architecture": architecture()?,
        "os": "linux",
        "config": run.config(),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(dir, CONFIG_TYPE, &config)?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": descriptors});
    let manifest = put(dir, MANIFEST_TYPE, &manifest)?;
    fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())?;
    fs::write(dir.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(())
}

/// Stores JSON as a blob and returns its descriptor.
fn put(dir: &Path, media_type: &str, value: &Value) -> Result<Value> {
    let bytes = value.to_string().into_bytes();
    let digest = hex::encode(Sha256::digest(&bytes));
    fs::write(dir.join("blobs/sha256").join(&digest), &bytes)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
}

/// The digest (hexadecimal) of the one manifest of an image that `write` made.
pub fn manifest_digest(dir: &Path) -> Result<String> {
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    digest.map(str::to_owned).with_context(|| format!("{} is no image", dir.display()))
}

/// Makes a layer's tar file of a folder's content, owned by root.
pub fn tar(tree: &Path, to: &Path) -> Result<()> {
    let options = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=pax"];
    Cmd::new("tar")
        .args(options)
        .args(["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "-C"])
        .arg(tree)
        .arg("-cf")
        .arg(to)
        .arg(".")
        .output()?;
    Ok(())
}

/// Go's name of this machine's architecture, which images use.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images are made for amd64 and arm64, and this machine is {other}"),
    }
}

fn digest_of(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_input_one_digest() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::write(tree.join("usr/bin/x"), "x").unwrap();
        let digest = |name: &str| {
            let layer = dir.path().join(format!("{name}.tar"));
            tar(&tree, &layer).unwrap();
            let image = dir.path().join(name);
            write(&image, &[layer], Compression::Gzip, &Run { user: "7", ..Run::default() }).unwrap();
            manifest_digest(&image).unwrap()
        };
        let first = digest("a");
        assert_eq!(first, digest("b"));
        fs::write(tree.join("usr/bin/x"), "y").unwrap();
        assert_ne!(first, digest("c"));
    }

    #[test]
    fn only_what_is_said_is_in_the_configuration() {
        let config = Run { cmd: &["postgres"], stop_signal: "SIGINT", ..Run::default() }.config();
        assert_eq!(config["Cmd"], json!(["postgres"]));
        assert_eq!(config["StopSignal"], "SIGINT");
        assert!(config.get("User").is_none() && config.get("Entrypoint").is_none());
    }
}
