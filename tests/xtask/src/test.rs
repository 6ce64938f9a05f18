//! `cargo xtask test`: all that must hold before a change is kept. CI runs exactly this. No variable of the user's shell
//! makes it look at less (`shell`).
//!
//! Cheap checks come first, so that a slip in formatting is told in seconds. All of the cheap ones run even when one fails.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::artefacts::Plane;
use crate::command::Cmd;
use crate::docker;
use crate::progress::Progress;
use crate::shell;

/// Cargo, without what the user's shell says to tests.
fn cargo(root: &Path) -> Cmd {
    shell::deaf(crate::cargo::cargo(root))
}

fn lint(root: &Path) -> Cmd {
    let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    shell::unsilenced(cargo(root).args(lint))
}

/// A check and the command that makes it.
struct Check {
    title: &'static str,
    command: fn(&Path) -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { title: "format", command: |root| cargo(root).args(["fmt", "--all", "--check"]).show() },
    Check { title: "lint", command: |root| lint(root).show() },
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
            cargo(root).args(["test", "--quiet", "--workspace"]).env("PROPTEST_RNG_SEED", "1").show()
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

const DOCKER: &str = "the Docker adapter keeps its contract";
const NODE: &str = "the agent on a bare node";
const OBJECTS: &str = "sets of objects on a bare API server";
const LIVE: &str = "live tests";

/// What `--fast` leaves out.
pub const LEFT_OUT: [&str; 4] = [DOCKER, NODE, OBJECTS, LIVE];

/// Runs the tests that make containers or start programs of a cluster on this machine: first the Docker adapter's contract,
/// last a whole cluster.
pub fn slow(progress: &Progress, root: &Path, lab: &Lab) -> Result<()> {
    progress.stage(DOCKER, || ignored(root, &["--lib"], &["--quiet", "docker_"], lab, &[]))?;
    progress.stage(NODE, || {
        // Each brings up a node and a package server of its own.
        let how = ["--skip", "inside_a_node", "--test-threads", "2"];
        ignored(root, &["--test", "machine"], &how, lab, &[])
    })?;
    progress.stage(OBJECTS, || ignored(root, &["--test", "api"], &[], lab, &[]))?;
    live(progress, root, lab, None)
}

/// Runs the tests of a whole cluster. `losses` are the nodes that are lost in each way, `all` or some with commas between
/// them; without it, those that there is always time for.
pub fn live(progress: &Progress, root: &Path, lab: &Lab, losses: Option<&str>) -> Result<()> {
    progress.stage(LIVE, || {
        let live = cargo(root).args(["test", "--workspace", "--test", "live"]);
        let live = losses.into_iter().fold(live, |live, losses| live.env("MUSTER_LOSSES", losses));
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

/// Runs the tests that are ignored otherwise, of those that cargo selects by `which`; `how` is for their harness, and
/// `asked` are variables by which they look at more.
///
/// They are listed first: renamed tests, which no name matches any more, would be no failure of cargo's.
pub fn ignored(root: &Path, which: &[&str], how: &[&str], lab: &Lab, asked: &[(&str, String)]) -> Result<()> {
    let tests = || {
        let tests = cargo(root)
            .args(["test", "--workspace"])
            .args(which)
            .args(["--", "--ignored"])
            .args(how)
            .env("DOCKER_HOST", docker::host())
            .env("MUSTER_ARTEFACTS", lab.manifest)
            .env("ETCD_BIN", &lab.plane.etcd)
            .env("KUBE_APISERVER_BIN", &lab.plane.api_server)
            .env("KUBE_CONTROLLER_MANAGER_BIN", &lab.plane.controller_manager);
        asked.iter().fold(tests, |tests, (name, value)| tests.env(name, value))
    };
    let listing = tests().arg("--list").output()?;
    ensure!(listed(&listing) > 0, "no test is selected by {} {}: was it renamed?", which.join(" "), how.join(" "));
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

    /// Set in a second run of this test, since no program may change its own variables while threads read them.
    const SAID: [&str; 8] = [
        "MUSTER_BLESS",
        "MUSTER_SIM_SEEDS",
        "MUSTER_LOSSES",
        "MUSTER_KILLS",
        "MUSTER_GENERATED_SEEDS",
        "PROPTEST_CASES",
        "INSTA_UPDATE",
        "CLIPPY_CONF_DIR",
    ];

    #[test]
    fn no_test_hears_what_the_shell_says() {
        if SAID.iter().all(|name| std::env::var_os(name).is_some()) {
            let command = cargo(Path::new("/")).into_inner();
            for name in SAID {
                assert!(command.get_envs().any(|(of, value)| of == name && value.is_none()), "{name} is heard");
                assert!(shell::ignored().iter().any(|told| told == name), "{name} is passed over in silence");
            }
            return;
        }
        let own = std::env::current_exe().unwrap();
        let test = ["--exact", "test::tests::no_test_hears_what_the_shell_says"];
        let output = std::process::Command::new(own).args(test).envs(SAID.map(|name| (name, "1"))).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn no_flag_silences_the_lint() {
        let command = lint(Path::new("/")).into_inner();
        assert!(command.get_envs().any(|(of, value)| of == "RUSTFLAGS" && value.is_none()));
    }
}
