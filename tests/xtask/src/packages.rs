//! Installs what this machine lacks, and says which.
//!
//! Looked for by what is needed (a program, a header), not by package name, so that a Docker from elsewhere counts as
//! Docker. Assumes Debian or a descendant of it; elsewhere the error lists what to install by hand.

mod dpkg;

use std::path::Path;

use anyhow::{Result, bail};

use crate::command::find;
use crate::packages::dpkg::Debian;
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
    // To compile: aws-lc and SQLite want a C compiler.
    (Program("cc"), "gcc"),
    (File("/usr/include/stdlib.h"), "libc6-dev"),
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
pub const TO_TEST: &[Need] = &[
    (Program("haproxy"), "haproxy"),
    (File("/usr/lib/postgresql/15/bin/initdb"), "postgresql-15"),
    (Program("curl"), "curl"),
];

fn missing(needs: &[Need], present: impl Fn(&Probe) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        needs.iter().filter(|(probe, _)| !present(probe)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// Finishes what an interrupted run of dpkg left half done, for a program may be there whose package is not set up; then
/// installs what is missing. Does nothing, within tens of milliseconds, where all is there.
pub fn install(needs: &[Need], progress: &Progress, log: &Path) -> Result<()> {
    install_on(&Debian::this_machine(log), needs, progress)
}

fn install_on(debian: &Debian, needs: &[Need], progress: &Progress) -> Result<()> {
    if debian.interrupted() {
        progress.stage("finish an interrupted installation of Debian packages", || debian.repair())?;
    }
    let other_docker = std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty());
    let missing = missing(needs, |probe| match probe {
        Program("dockerd") if other_docker => true,
        Program(name) => find(name).is_some(),
        File(path) => Path::new(path).exists(),
    });
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !debian.has_apt() {
        bail!(
            "these Debian packages, or what is like them here, are missing, and there is no apt-get to install them: {list}"
        );
    }
    progress.stage(&format!("install Debian packages: {list}"), || debian.install(&missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::dpkg::tests::Machine;

    #[test]
    fn lists_each_missing_package_once() {
        let found = missing(TO_RUN, |probe| !matches!(probe, Program("docker" | "dockerd" | "zstd")));
        assert_eq!(found, ["zstd", "docker.io"]);
        assert!(missing(TO_RUN, |_| true).is_empty());
    }

    #[test]
    fn a_program_of_a_half_configured_package_is_not_enough() {
        let machine = Machine::new(&["install ok installed", "install ok half-configured"]);
        let needs = [(Program("sh"), "dash")];
        install_on(&machine.debian(), &needs, &Progress::new()).unwrap();
        assert_eq!(machine.calls(), ["dpkg --configure --pending --force-confdef --force-confold"]);
        install_on(&machine.debian(), &needs, &Progress::new()).unwrap();
        assert_eq!(machine.calls().len(), 1, "all was there");
    }

    #[test]
    fn an_interrupted_run_is_finished_before_the_next_one() {
        let machine = Machine::new(&["install ok installed"]);
        machine.write("updates/0001", "");
        install_on(&machine.debian(), &[(File("/nowhere/thing"), "thing")], &Progress::new()).unwrap();
        let calls = machine.calls();
        let [configure, update, install] = &calls[..] else { panic!("{calls:?}") };
        assert!(configure.starts_with("dpkg --configure --pending"), "{configure}");
        assert!(update.ends_with(" update"), "{update}");
        assert!(install.ends_with(" install --yes --no-install-recommends thing"), "{install}");
    }
}
