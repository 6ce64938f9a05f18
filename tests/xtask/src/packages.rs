//! Installs what this machine lacks, and says which.
//!
//! Looked for by what is needed (a program, a header), not by package name, so that a Docker from elsewhere counts as
//! Docker. Assumes Debian or a descendant of it; elsewhere the error lists what to install by hand.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command::{Cmd, find};
use crate::progress::Progress;

pub enum Probe {
    Program(&'static str),
    File(&'static str),
}
use Probe::{File, Program};

/// What must be there, and the Debian package that brings it.
pub type Need = (Probe, &'static str);

/// For building and running.
pub const TO_RUN: &[Need] = &[
    // To compile: aws-lc and SQLite want a C compiler, the etcd client the well-known protobuf types.
    (Program("cc"), "gcc"),
    (File("/usr/include/stdlib.h"), "libc6-dev"),
    (Program("protoc"), "protobuf-compiler"),
    (File("/usr/include/google/protobuf/timestamp.proto"), "libprotobuf-dev"),
    (Program("git"), "git"),
    (File("/etc/ssl/certs/ca-certificates.crt"), "ca-certificates"),
    // To make the node image, the packages and the container images.
    (Program("mmdebstrap"), "mmdebstrap"),
    (Program("strip"), "binutils"),
    (Program("gpg"), "gnupg"),
    (Program("zstd"), "zstd"),
    (Program("xz"), "xz-utils"),
    // To run nodes.
    (Program("docker"), "docker.io"),
    (Program("dockerd"), "docker.io"),
    (Program("iptables"), "iptables"),
    (Program("ip"), "iproute2"),
];

/// Real servers that tests start for themselves.
pub const TO_TEST: &[Need] =
    &[(Program("haproxy"), "haproxy"), (File("/usr/lib/postgresql/15/bin/initdb"), "postgresql-15")];

fn missing(needs: &[Need], present: impl Fn(&Probe) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        needs.iter().filter(|(probe, _)| !present(probe)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// Installs the missing packages by apt-get.
pub fn install(needs: &[Need], progress: &Progress, log: &Path) -> Result<()> {
    let remote_docker = std::env::var_os("DOCKER_HOST").is_some();
    let missing = missing(needs, |probe| match probe {
        Program("dockerd") if remote_docker => true,
        Program(name) => find(name).is_some(),
        File(path) => Path::new(path).exists(),
    });
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if find("apt-get").is_none() {
        bail!(
            "these Debian packages, or what is like them here, are missing, and there is no apt-get to install them: {list}"
        );
    }
    progress.stage(&format!("install Debian packages: {list}"), || {
        apt_get().arg("update").log(log)?;
        apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing).log(log)
    })
}

fn apt_get() -> Cmd {
    // An argument, for sudo drops the environment.
    Cmd::as_root("env").arg("DEBIAN_FRONTEND=noninteractive").arg("apt-get").args(["-o", "DPkg::Lock::Timeout=120"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_each_missing_package_once() {
        let found = missing(TO_RUN, |probe| !matches!(probe, Program("docker" | "dockerd" | "zstd")));
        assert_eq!(found, ["zstd", "docker.io"]);
        assert!(missing(TO_RUN, |_| true).is_empty());
    }
}
