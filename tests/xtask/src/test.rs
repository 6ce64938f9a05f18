//! `cargo xtask test`: all that must hold before a change is kept. CI runs exactly this.
//!
//! Cheap checks come first, so that a slip in formatting is told in seconds. All of the cheap ones run even when one fails.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::artefacts::Plane;
use crate::command::Cmd;
use crate::docker;
use crate::progress::Progress;

/// Variables that make a test accept what it finds, and write it down as what is right.
const ACCEPT: [&str; 3] = ["MUSTER_BLESS", "INSTA_UPDATE", "INSTA_FORCE_PASS"];

/// Cargo, without what the user's shell may tell tests to let pass.
fn cargo(root: &Path) -> Cmd {
    ACCEPT.into_iter().fold(crate::cargo::cargo(root), Cmd::without_env)
}

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
    Check {
        title: "tests",
        command: |root| {
            // What one change is judged by is the same as for the next; `cargo test` alone looks at other cases each time.
            let seed = std::env::var("PROPTEST_RNG_SEED").unwrap_or_else(|_| "1".to_owned());
            cargo(root).args(["test", "--quiet", "--workspace"]).env("PROPTEST_RNG_SEED", seed).show()
        },
    },
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
    pub plane: &'a Plane,
}

/// Runs the tests that make containers or start programs of a cluster on this machine: first the Docker adapter's contract,
/// last a whole cluster.
pub fn live(progress: &Progress, root: &Path, lab: &Lab) -> Result<()> {
    progress
        .stage("the Docker adapter keeps its contract", || ignored(root, &["--quiet", "--lib", "docker_"], &[], lab))?;
    progress.stage("the agent on a bare node", || {
        // Each brings up a node and a package server of its own.
        ignored(root, &["--test", "machine"], &["--skip", "inside_a_node", "--test-threads", "2"], lab)
    })?;
    progress.stage("sets of objects on a bare API server", || ignored(root, &["--test", "api"], &[], lab))?;
    progress.stage("live tests", || {
        // More losses than usual may be asked for, fewer may not.
        let more = std::env::var("MUSTER_LOSSES").is_ok_and(|losses| losses == "all");
        let live = cargo(root).args(["test", "--workspace", "--test", "live"]);
        let live = if more { live } else { live.without_env("MUSTER_LOSSES") };
        live.env("MUSTER_LIVE", "1")
            .env("DOCKER_HOST", docker::host())
            .env("MUSTER_ARTEFACTS", lab.manifest)
            .env("MUSTER_BIN", lab.muster)
            .env("EASYPAY_BIN", lab.easypay)
            .env("KUBECTL_BIN", lab.kubectl)
            .env("XTASK_BIN", std::env::current_exe()?)
            .show()
    })
}

/// Runs the tests that are ignored otherwise, of those that cargo selects by `which`; `how` is for their harness.
///
/// They are listed first: renamed tests, which no name matches any more, would be no failure of cargo's.
fn ignored(root: &Path, which: &[&str], how: &[&str], lab: &Lab) -> Result<()> {
    let tests = || {
        cargo(root)
            .args(["test", "--workspace"])
            .args(which)
            .args(["--", "--ignored"])
            .args(how)
            .env("DOCKER_HOST", docker::host())
            .env("MUSTER_ARTEFACTS", lab.manifest)
            .env("ETCD_BIN", &lab.plane.etcd)
            .env("KUBE_APISERVER_BIN", &lab.plane.api_server)
            .env("KUBE_CONTROLLER_MANAGER_BIN", &lab.plane.controller_manager)
    };
    let listing = tests().arg("--list").output()?;
    ensure!(listed(&listing) > 0, "no test is selected by {}: was it renamed?", which.join(" "));
    tests().show()
}

/// How many tests a harness lists, each as `NAME: test`.
fn listed(listing: &str) -> usize {
    listing.lines().filter(|line| line.ends_with(": test")).count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted() {
        assert_eq!(listed("a::b: test\nc: test\nd: benchmark\n\n2 tests, 1 benchmark\n"), 2);
        assert_eq!(listed("\n0 tests, 0 benchmarks\n"), 0);
    }

    #[test]
    fn no_test_runs_under_an_order_to_accept() {
        let command = cargo(Path::new("/")).into_inner();
        for name in ACCEPT {
            assert!(command.get_envs().any(|(of, value)| of == name && value.is_none()), "{name}");
        }
    }
}
