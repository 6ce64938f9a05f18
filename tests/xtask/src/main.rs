//! `cargo xtask`: sets up, builds, runs and tests muster on this machine.
//!
//! Small and quick to compile, for it is the first thing that a newcomer waits for: no crate of muster's own, no async runtime.

mod artefacts;
mod bench;
mod cache;
mod cargo;
mod command;
mod coordinator;
mod deb;
mod docker;
mod go;
mod images;
mod machine_images;
mod mutants;
mod oci;
mod packages;
mod progress;
mod record;
mod registry;
mod repository;
mod rootfs;
mod shell;
mod test;
mod upstream;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::artefacts::Manifest;
use crate::cache::Cache;
use crate::cargo::{Profile, Programs};
use crate::command::{Cmd, search_path};
use crate::progress::{Progress, elapsed};
use crate::record::Record;

/// Sets up, builds, runs and tests muster on this machine.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make what the local environment needs, once: node image, apt repository, container registry
    Artefacts {
        /// Print the manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Build muster, and the image that its coordinator runs in
    Build,
    /// Bring up the shipped site's local environment, making all that is missing
    ///
    /// Example: cargo xtask up -- --site my-site
    Up {
        /// Handed on to `muster up`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Measure muster beside its peers: a shell script, CFEngine, Puppet, Salt, Ansible
    ///
    /// Example: cargo xtask bench converge --install-peers
    Bench {
        /// All parts when none is named
        parts: Vec<bench::Part>,
        /// How often each takes its turn
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Install the peers that this machine lacks
        #[arg(long)]
        install_peers: bool,
        /// Take the programs as the last build for release left them
        #[arg(long)]
        no_build: bool,
        /// An earlier `muster` that takes turns with this one in `validate`
        #[arg(long, value_name = "PROGRAM")]
        before: Option<PathBuf>,
    },
    /// Run all tests, with a cluster on this machine
    Test {
        /// Leave out the tests that make a cluster
        #[arg(long)]
        fast: bool,
    },
    /// Run more of a test than `test` does, for the records in docs/tests.md
    Record {
        #[command(subcommand)]
        what: Record,
    },
    /// Change lines that decide who may what and what goes, one at a time, and see that tests fail for it; takes hours
    ///
    /// Example: cargo xtask mutants turns burial
    Mutants {
        /// All parts when none is named
        parts: Vec<mutants::Part>,
    },
    /// Run upstream's own end-to-end tests against the local environment
    Upstream {
        #[command(subcommand)]
        suite: Suite,
    },
}

#[derive(Subcommand)]
enum Suite {
    /// sig-network's conformance specs: all of them, or those of a list
    ///
    /// Example: cargo xtask upstream network --list tests/artefacts/e2e/network.txt
    Network {
        #[command(flatten)]
        options: upstream::Options,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain and not the backtrace: what failed is nearly always outside of this program.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let started = std::time::Instant::now();
    let progress = Progress::new();
    let checkout = checkout()?;
    let root = Cache::default_root()?;
    match Cli::parse().task {
        Task::Artefacts { json } => {
            let cache = open(&root, &progress)?;
            let easypay = cargo::build_easypay(&progress, &checkout)?;
            let mut manifest = artefacts::make(&cache, &progress, &checkout, &easypay)?.manifest;
            let path = Manifest::path(&root, &checkout);
            manifest.coordinator_image = Manifest::former_coordinator(&path);
            manifest.write(&path)?;
            progress.note(&format!("artefacts are ready ({}): {}", elapsed(started.elapsed()), path.display()));
            if json {
                println!("{}", serde_json::to_string_pretty(&manifest)?);
            }
        }
        Task::Build => {
            let built = build(&root, &progress, &checkout, Profile::Dev)?;
            let (muster, manifest) = (built.programs.muster.display(), built.manifest.display());
            progress.note(&format!("built ({}): {muster}, {manifest}", elapsed(started.elapsed())));
        }
        Task::Up { args } => {
            let built = build(&root, &progress, &checkout, Profile::Dev)?;
            let mut muster = muster(&built, &checkout).arg("up").args(args).into_inner();
            // muster takes our place: its exit code and its signals are the user's.
            return Err(muster.exec()).with_context(|| format!("cannot start {}", built.programs.muster.display()));
        }
        Task::Bench { parts, rounds, install_peers, no_build, before } => {
            let cache = open(&root, &progress)?;
            if install_peers {
                bench::install_peers(&progress, cache.root())?;
            }
            let programs = if no_build {
                cargo::built(&checkout, Profile::Release)?
            } else {
                cargo::build(&progress, &checkout, Profile::Release)?
            };
            let built = make(&cache, &progress, &checkout, programs, Profile::Release)?;
            let bench = bench::Bench {
                progress: &progress,
                checkout: &checkout,
                cache: &cache,
                built: &built,
                rounds,
                before: before.as_deref(),
            };
            bench::run(&bench, &parts)?;
        }
        Task::Test { fast } => {
            hears_not(&progress);
            artefacts::prepare(&root, &progress)?;
            packages::install(packages::TO_TEST, &progress, &root.join("logs/apt.log"))?;
            test::fast(&progress, &checkout)?;
            if fast {
                progress.note(&format!(
                    "passed, as far as --fast goes ({}); left out: {}",
                    elapsed(started.elapsed()),
                    test::LEFT_OUT.join(", ")
                ));
                return Ok(());
            }
            let built = build(&root, &progress, &checkout, Profile::Dev)?;
            // Ahead of the cluster, which need not wait for it then.
            end_to_end(&root, &progress, &checkout)?;
            test::slow(&progress, &checkout, &built.lab())?;
            progress.note(&format!("all passed ({})", elapsed(started.elapsed())));
        }
        Task::Record { what } => {
            hears_not(&progress);
            artefacts::prepare(&root, &progress)?;
            packages::install(packages::TO_TEST, &progress, &root.join("logs/apt.log"))?;
            let built = build(&root, &progress, &checkout, Profile::Dev)?;
            if matches!(what, Record::Losses { .. }) {
                end_to_end(&root, &progress, &checkout)?;
            }
            record::record(&progress, &checkout, &built.lab(), &what)?;
            progress.note(&format!("passed ({})", elapsed(started.elapsed())));
        }
        Task::Mutants { parts } => {
            hears_not(&progress);
            let cache = open(&root, &progress)?;
            mutants::run(&progress, cache.root(), &checkout, &parts)?;
        }
        Task::Upstream { suite: Suite::Network { options } } => {
            let folder = tempfile::tempdir()?;
            let kubeconfig = match &options.kubeconfig {
                Some(kubeconfig) => kubeconfig.clone(),
                None => {
                    let built = build(&root, &progress, &checkout, Profile::Dev)?;
                    let kubeconfig = folder.path().join("kubeconfig");
                    muster(&built, &checkout).arg("up").show()?;
                    muster(&built, &checkout).args(["kubeconfig", "--output"]).arg(&kubeconfig).show()?;
                    kubeconfig
                }
            };
            let e2e = end_to_end(&root, &progress, &checkout)?;
            upstream::network(&progress, &options, &e2e, &kubeconfig, &root.join("logs"))?;
        }
    }
    Ok(())
}

/// Says which of the shell's variables are not heard.
fn hears_not(progress: &Progress) {
    let ignored = shell::ignored();
    if !ignored.is_empty() {
        let names = ignored.join(", ");
        progress
            .note(&format!("not heard, for a run is judged by the same as any other: {names}; see cargo xtask record"));
    }
}

/// Builds upstream's end-to-end tests and the kubectl that they call.
fn end_to_end(root: &Path, progress: &Progress, checkout: &Path) -> Result<go::EndToEnd> {
    go::end_to_end(&open(root, progress)?, progress, &checkout.join("tests/artefacts"))
}

/// muster with the shipped site's local environment. By the environment and not by arguments, so that the user's own
/// arguments and variables come first.
fn muster(built: &Built, checkout: &Path) -> Cmd {
    let site = checkout.join("catalogs");
    let defaults = [
        ("MUSTER_ENVIRONMENT", OsStr::new("local")),
        ("MUSTER_SITE", site.as_os_str()),
        ("MUSTER_ARTEFACTS", built.manifest.as_os_str()),
    ];
    let muster = Cmd::new(&built.programs.muster).env("PATH", search_path());
    defaults
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .fold(muster, |muster, (name, value)| muster.env(name, value))
}

/// Everything that `up`, the live tests and the bench need.
struct Built {
    /// The list of artefacts, with the coordinator's image.
    manifest: PathBuf,
    artefacts: Manifest,
    programs: Programs,
    kubectl: PathBuf,
    plane: artefacts::Plane,
    easypay: PathBuf,
}

impl Built {
    fn lab(&self) -> test::Lab<'_> {
        test::Lab {
            manifest: &self.manifest,
            muster: &self.programs.muster,
            easypay: &self.easypay,
            kubectl: &self.kubectl,
            plane: &self.plane,
        }
    }
}

/// Makes artefacts, programs and the coordinator's image.
fn build(root: &Path, progress: &Progress, checkout: &Path, profile: Profile) -> Result<Built> {
    let cache = open(root, progress)?;
    let programs = cargo::build(progress, checkout, profile)?;
    make(&cache, progress, checkout, programs, profile)
}

fn make(cache: &Cache, progress: &Progress, checkout: &Path, programs: Programs, profile: Profile) -> Result<Built> {
    let artefacts::Artefacts { manifest: mut artefacts, kubectl, plane, easypay } =
        artefacts::make(cache, progress, checkout, &programs.easypay)?;
    artefacts.coordinator_image = Some(coordinator::image(cache, progress, &artefacts, &programs)?);
    let manifest = Manifest::path(cache.root(), checkout).with_file_name(profile.manifest());
    artefacts.write(&manifest)?;
    Ok(Built { manifest, artefacts, programs, kubectl, plane, easypay })
}

fn open(root: &Path, progress: &Progress) -> Result<Cache> {
    artefacts::prepare(root, progress)?;
    Cache::open(root, progress)
}

/// The checkout that we were compiled in.
fn checkout() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map(Path::to_owned).context("xtask does not lie two folders deep in its checkout")
}
