//! The two Docker images that stand for machines: nodes, and the services beside them.
//!
//! A node image is what a cloud's Debian image is: an operating system with systemd and cloud-init, and nothing of Kubernetes. The agent
//! installs that by apt. It has no package sources. cloud-init is there for
//! user-data as a cloud gives it; the local environment has a quicker way and switches it off.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{Cache, Inputs};
use crate::command::Cmd;
use crate::docker;
use crate::progress::Progress;
use crate::rootfs::{RootFs, Variant};

const NODE_PACKAGES: &[&str] = &[
    "acl",
    "ca-certificates",
    "cloud-init",
    "conntrack",
    "curl",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "less",
    "nftables",
    "procps",
    "socat",
    // Ends an agent at each of its calls, in its tests.
    "strace",
    "systemd",
    "systemd-sysv",
    "udev",
    "zstd",
];

const SERVICES_PACKAGES: &[&str] = &["ca-certificates", "curl", "docker-registry", "haproxy", "nginx-light", "procps"];

/// Files of the node image.
const NODE_FILES: &[(&str, &str)] = &[
    ("etc/apt/apt.conf.d/90muster", include_str!("../../artefacts/node/apt.conf")),
    ("etc/cloud/cloud.cfg.d/95-muster.cfg", include_str!("../../artefacts/node/cloud.cfg")),
    ("etc/dpkg/dpkg.cfg.d/muster", include_str!("../../artefacts/node/dpkg.cfg")),
    // Package sources are the site's to say.
    ("etc/apt/sources.list", ""),
];

/// Units that have no work in a node, or would do work that is the agent's.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "cloud-config.service",
    "cloud-init-hotplugd.socket",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-journald-audit.socket",
    "systemd-update-utmp.service",
];

/// A Docker image, and the file system it was made of.
pub struct MachineImage {
    /// `muster-node:<hash>`.
    pub tag: String,
    pub rootfs: PathBuf,
}

/// Makes the node image.
pub fn node(cache: &Cache, progress: &Progress) -> Result<MachineImage> {
    let rootfs = RootFs { variant: Variant::Installed, packages: NODE_PACKAGES, without: &[], overlay: None };
    let inputs = rootfs.add_to(Inputs::new("node", 1));
    let inputs =
        inputs.texts(NODE_FILES.iter().flat_map(|(path, content)| [*path, *content])).texts(MASKED.iter().copied());
    let folder = cache.folder(progress, "make the node image's file system", &inputs, |dir| {
        let overlay = node_overlay(dir)?;
        RootFs { overlay: Some(overlay.clone()), ..rootfs }.make(&dir.join("rootfs.tar"), &cache.new_log("node"))?;
        fs::remove_file(overlay).context("cannot remove the overlay")
    })?;
    // The stop signal, SIGRTMIN+3 for systemd, cannot be set at an import: whoever creates the container sets it.
    let changes = ["CMD [\"/sbin/init\"]", "ENV container=docker"];
    import(cache, progress, "muster-node", &inputs, &folder, &changes)
}

/// Makes the image with haproxy, nginx and docker-registry.
pub fn services(cache: &Cache, progress: &Progress) -> Result<MachineImage> {
    let rootfs = RootFs { variant: Variant::Installed, packages: SERVICES_PACKAGES, without: &[], overlay: None };
    let inputs = rootfs.add_to(Inputs::new("services", 1));
    let folder = cache.folder(progress, "make the services image's file system", &inputs, |dir| {
        rootfs.make(&dir.join("rootfs.tar"), &cache.new_log("services"))
    })?;
    import(cache, progress, "muster-services", &inputs, &folder, &[])
}

fn import(
    cache: &Cache,
    progress: &Progress,
    name: &str,
    inputs: &Inputs,
    folder: &Path,
    changes: &[&str],
) -> Result<MachineImage> {
    let tag = format!("{name}:{}", inputs.hash());
    let rootfs = folder.join("rootfs.tar");
    if !docker::has_image(&tag) {
        progress.stage(&format!("import {tag} into Docker"), || {
            docker::import(&rootfs, &tag, changes, &cache.new_log(name))
        })?;
    }
    Ok(MachineImage { tag, rootfs })
}

/// A tar file of the node's own files and masked units.
fn node_overlay(dir: &Path) -> Result<PathBuf> {
    let tree = tempfile::tempdir_in(dir)?;
    for (path, content) in NODE_FILES {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(path, content)?;
    }
    let units = tree.path().join("etc/systemd/system");
    fs::create_dir_all(&units)?;
    for unit in MASKED {
        std::os::unix::fs::symlink("/dev/null", units.join(unit))?;
    }
    let tar = dir.join("overlay.tar");
    // Only leaves: a folder entry would reset the mode of one that is there.
    let names = NODE_FILES.iter().map(|(path, _)| (*path).to_owned());
    let names = names.chain(MASKED.iter().map(|unit| format!("etc/systemd/system/{unit}")));
    Cmd::new("tar")
        .args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(tree.path())
        .arg("-cf")
        .arg(&tar)
        .args(names)
        .output()?;
    Ok(tar)
}
