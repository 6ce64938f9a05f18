//! `cargo xtask test`: all that must hold before a change is kept. CI runs exactly this.
//!
//! Cheap checks come first, so that a slip in formatting is told in seconds. All of the cheap ones run even when one fails.

use std::path::Path;

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::command::Cmd;
use crate::progress::Progress;

/// A check and the command that makes it.
struct Check {
    title: &'static str,
    command: fn(&Path) -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { title: "format", command: |root| cargo(root).args(["fmt", "--all", "--check"]).show() },
    Check {
        title: "lint",
        command: |root| {
            cargo(root).args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]).show()
        },
    },
    Check { title: "one crypto provider", command: one_crypto_provider },
    Check {
        title: "documentation",
        command: |root| {
            // The agent's program has the name of its library, and one documentation can lie in a place; it holds no more
            // than a main. With examples for the sake of one set of features, as `cargo::build` has it.
            cargo(root)
                .args(["doc", "--quiet", "--workspace", "--no-deps", "--lib", "--examples"])
                .args(["--bin", "muster", "--bin", "easypay", "--bin", "xtask"])
                .env("RUSTDOCFLAGS", "--deny warnings")
                .show()
        },
    },
    Check { title: "tests", command: |root| cargo(root).args(["test", "--quiet", "--workspace"]).show() },
];

/// Runs the checks that need no cluster.
pub fn fast(progress: &Progress, root: &Path) -> Result<()> {
    let mut failed = Vec::new();
    for check in CHECKS {
        if let Err(error) = progress.stage(check.title, || (check.command)(root)) {
            progress.note(&format!("{error:#}"));
            failed.push(check.title);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// What the live tests are told, besides being told to run.
pub struct Lab<'a> {
    /// The list of artefacts.
    pub manifest: &'a Path,
    pub muster: &'a Path,
    pub easypay: &'a Path,
    pub kubectl: &'a Path,
}

/// Runs the tests that make containers on this machine: first the Docker adapter's contract, then a whole cluster.
pub fn live(progress: &Progress, root: &Path, lab: &Lab) -> Result<()> {
    progress.stage("the Docker adapter keeps its contract", || {
        cargo(root).args(["test", "--quiet", "--workspace", "--lib", "docker_", "--", "--ignored"]).show()
    })?;
    progress.stage("the agent on a bare node", || {
        // Each brings up a node and a package server of its own.
        cargo(root)
            .args(["test", "--workspace", "--test", "machine", "--", "--ignored", "--skip", "inside_a_node"])
            .args(["--test-threads", "2"])
            .env("MUSTER_ARTEFACTS", lab.manifest)
            .show()
    })?;
    progress.stage("live tests", || {
        cargo(root)
            .args(["test", "--workspace", "--test", "live"])
            .env("MUSTER_LIVE", "1")
            .env("MUSTER_ARTEFACTS", lab.manifest)
            .env("MUSTER_BIN", lab.muster)
            .env("EASYPAY_BIN", lab.easypay)
            .env("KUBECTL_BIN", lab.kubectl)
            .env("XTASK_BIN", std::env::current_exe()?)
            .show()
    })
}

/// Two providers of cryptography in one program means two sets of keys, settings and flaws. Ours is aws-lc.
fn one_crypto_provider(root: &Path) -> Result<()> {
    let ring = cargo(root).args(["tree", "--workspace", "--invert", "ring", "--edges", "all", "--target", "all"]);
    unused(ring)
}

/// `cargo tree` of a package that nothing uses prints nothing on standard output; of one not even in the lock file it fails.
fn unused(tree: Cmd) -> Result<()> {
    match tree.output() {
        Ok(text) if text.trim().is_empty() => Ok(()),
        Ok(text) => bail!("something turns on ring:\n{text}"),
        Err(error) if format!("{error:#}").contains("did not match any packages") => Ok(()),
        Err(error) => Err(error),
    }
}
