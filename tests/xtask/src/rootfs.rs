//! Debian file systems made by mmdebstrap, from the mirrors that this machine itself uses.
//!
//! Without documentation and translations: they are half of a small image and nobody reads them there.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::Inputs;
use crate::command::Cmd;

/// The Debian release of nodes and images.
pub const SUITE: &str = "bookworm";

const LEFT_OUT: [&str; 4] = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// How much of Debian goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A small installation: essential packages, apt, and what is asked for, configured by their own scripts.
    Installed,
    /// Files only: no package manager, no maintainer script ran, so no users and no generated configuration.
    Extracted,
}

/// One file system.
#[derive(Debug, Clone)]
pub struct RootFs<'a> {
    pub variant: Variant,
    pub packages: &'a [&'a str],
    /// Path patterns that are left out, besides documentation.
    pub without: &'a [&'a str],
    /// A tar file unpacked over the result.
    pub overlay: Option<PathBuf>,
}

impl RootFs<'_> {
    /// Adds this description to a hash, but for the overlay, whose content the caller adds.
    pub fn add_to(&self, inputs: Inputs) -> Inputs {
        let variant = match self.variant {
            Variant::Installed => "installed",
            Variant::Extracted => "extracted",
        };
        inputs
            .text(SUITE)
            .text(std::env::consts::ARCH)
            .text(variant)
            .texts(self.packages.iter().copied())
            .text("")
            .texts(self.without.iter().copied())
    }

    /// Makes the tar file `tar`.
    pub fn make(&self, tar: &Path, log: &Path) -> Result<()> {
        let variant = match self.variant {
            Variant::Installed => "minbase",
            Variant::Extracted => "extract",
        };
        let left_out = LEFT_OUT.iter().chain(self.without).map(|pattern| format!("--dpkgopt=path-exclude={pattern}"));
        let overlay = self.overlay.iter().map(|tar| format!("--customize-hook=tar-in {} /", tar.display()));
        Cmd::long("mmdebstrap")
            .arg(format!("--variant={variant}"))
            .arg(format!("--include={}", self.packages.join(",")))
            // Half made file systems are thrown away, so nothing need be safe on disk meanwhile.
            .arg("--dpkgopt=force-unsafe-io")
            .args(left_out)
            .args(network_options())
            .args(overlay)
            .arg(SUITE)
            .arg(tar)
            .args(mirrors())
            .log(log)
    }
}

/// This machine's own Debian sources of our release as one-line entries; none means Debian's default ones.
pub fn mirrors() -> Vec<String> {
    let targets = Cmd::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
        .output()
        .unwrap_or_default();
    parse_mirrors(&targets)
}

fn parse_mirrors(targets: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for target in targets.lines() {
        let words: Vec<&str> = target.split_whitespace().collect();
        if let ["Debian", uri, release, "main"] = words[..]
            && release.strip_prefix(SUITE).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
        {
            let line = format!("deb {uri} {release} main");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    // Security updates without the release itself would be no source at all.
    if lines.iter().any(|line| line.ends_with(&format!(" {SUITE} main"))) { lines } else { Vec::new() }
}

/// This machine's apt settings for proxies and certificates, which a new root would not know.
fn network_options() -> Vec<String> {
    let dump = Cmd::new("apt-config").args(["dump", "--no-empty", "--format", "%f \"%v\";%n", "Acquire"]).output();
    let wanted = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        ["::proxy", "::cainfo", "::retries", "::check-valid-until", "::check-date"].iter().any(|end| name.contains(end))
    };
    dump.unwrap_or_default().lines().filter(wanted).map(|line| format!("--aptopt={line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_debian_of_our_release() {
        let targets = "Debian http://deb.debian.org/debian/ bookworm main\n\
                       Debian http://deb.debian.org/debian-security/ bookworm-security main\n\
                       Debian http://deb.debian.org/debian/ bookworm main\n\
                       Debian http://deb.debian.org/debian/ bookworm-backports main\n\
                       Debian http://deb.debian.org/debian/ bookworm non-free\n\
                       Other https://packages.example nodistro main\n\
                       https://no.origin.example x main\n";
        assert_eq!(
            parse_mirrors(targets),
            [
                "deb http://deb.debian.org/debian/ bookworm main",
                "deb http://deb.debian.org/debian-security/ bookworm-security main"
            ]
        );
        assert!(parse_mirrors("Debian http://x/ bookworm-security main\n").is_empty());
        assert!(parse_mirrors("Debian http://x/ trixie main\n").is_empty());
    }
}
