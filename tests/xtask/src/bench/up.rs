//! `muster up` against `tests/bench/up.sh`: from nothing to five nodes ready and an application that answers.
//!
//! Both have the same images, packages, registry, manifests and kubeadm settings. They take turns, muster first in odd
//! rounds, and each starts from nothing: no container, network or volume of either is left of the round before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::CapabilitySet;

use super::{Bench, table};
use crate::command::Cmd;

/// The script's containers carry it.
const PEER: &str = "muster-bench";
/// As `catalogs/muster.toml` has them.
const PAUSE: &str = "3.10.1";
/// Fixed, because only this machine ever sees the cluster, and only for a minute.
const TOKEN: &str = "abcdef.0123456789abcdef";
const PASSWORD: &str = "bm90LWEtc2VjcmV0";

/// Seconds since the start at which a phase had ended.
type Phases = BTreeMap<&'static str, f64>;

/// The phases that both have, in order.
const PHASES: [&str; 4] = [BOOTED, FIRST, READY, ANSWERS];
const BOOTED: &str = "all nodes booted";
/// The script: `kubeadm init` has ended. muster: its node is ready, with all that its catalog says.
const FIRST: &str = "first control plane";
const READY: &str = "all nodes ready";
const ANSWERS: &str = "application answers";

pub fn run(bench: &Bench) -> Result<()> {
    let left = Cmd::new("docker").args(["ps", "--all", "--quiet", "--filter", "label=muster"]).output()?;
    ensure!(left.trim().is_empty(), "an environment is up on this machine\n  help: muster down --yes");
    clear()?;
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("app.yaml");
    fs::write(&manifests, application(bench.checkout)?)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let (muster, script) = (
            || bench.progress.stage(&format!("round {}: muster up", round + 1), || muster(bench)),
            || {
                bench.progress.stage(&format!("round {}: shell script", round + 1), || {
                    script(bench, &manifests, &folder.path().join(format!("round-{round}")))
                })
            },
        );
        if round % 2 == 0 {
            ours.push(muster()?);
            theirs.push(script()?);
        } else {
            theirs.push(script()?);
            ours.push(muster()?);
        }
    }
    let rows: Vec<_> = PHASES
        .iter()
        .map(|phase| {
            let figures = |all: &[Phases]| {
                let mut figures = table::Figures::default();
                all.iter().filter_map(|phases| phases.get(phase)).for_each(|&seconds| figures.add(seconds));
                figures
            };
            let (ours, theirs) = (figures(&ours), figures(&theirs));
            vec![(*phase).to_owned(), ours.shown(1), theirs.shown(1), table::ratio(&ours, &theirs)]
        })
        .collect();
    println!("\nup, artefacts cached: seconds from the start, median of {} (least to most)\n", bench.rounds);
    println!("{}", table::table(&["until", "muster up", "shell script", "ratio"], &rows));
    Ok(())
}

/// One `muster up` of the shipped site, and down again.
fn muster(bench: &Bench) -> Result<Phases> {
    let command = |args: &[&str]| {
        let mut command = Command::new(&bench.built.programs.muster);
        command.args(args);
        command.env("MUSTER_SITE", bench.checkout.join("catalogs")).env("MUSTER_ENVIRONMENT", "local");
        command.env("MUSTER_ARTEFACTS", &bench.built.manifest).stdout(Stdio::null());
        command
    };
    let began = Instant::now();
    let mut up = command(&["up"]).stderr(Stdio::piped()).spawn().context("cannot start muster")?;
    let mut phases = Phases::new();
    let mut said = String::new();
    for line in BufReader::new(up.stderr.take().context("no standard error")?).lines() {
        let line = line?;
        let now = began.elapsed().as_secs_f64();
        said.push_str(&format!("{now:6.1} {line}\n"));
        // Progress has lines such as `12 s  2 of 5 nodes ready; workers-1: converging`.
        if line.contains(" of 5 nodes ready") {
            if !line.contains("planned") && !line.contains("booting") {
                phases.entry(BOOTED).or_insert(now);
            }
            if !line.contains(" 0 of 5") {
                phases.entry(FIRST).or_insert(now);
            }
        }
        if line.trim_start().starts_with("nodes ") && line.contains("as written") {
            phases.insert(READY, now);
        }
    }
    let status = up.wait()?;
    phases.insert(ANSWERS, began.elapsed().as_secs_f64());
    fs::write(bench.cache.root().join("logs/bench-muster.log"), &said)?;
    if !status.success() {
        bail!("muster up ended with {status}; all is left as it is\n{said}\n  help: look, then muster down --yes");
    }
    let down = command(&["down", "--yes"]).stderr(Stdio::null()).status()?;
    ensure!(down.success(), "muster down ended with {down}");
    Ok(phases)
}

/// One run of the script, and all that it made removed.
fn script(bench: &Bench, manifests: &Path, folder: &Path) -> Result<Phases> {
    clear()?;
    fs::create_dir_all(folder)?;
    let artefacts = &bench.built.artefacts;
    let log = folder.join("script.log");
    let mut command = Command::new("bash");
    command.arg(bench.checkout.join("tests/bench/up.sh")).arg(folder);
    command
        .env("SUBNET_PREFIX", "10.89")
        .env("NODE_IMAGE", &artefacts.node_image)
        .env("SERVICES_IMAGE", &artefacts.services_image)
        .env("APT_REPOSITORY", &artefacts.apt_repository)
        .env("APT_KEY", &artefacts.apt_key)
        .env("REGISTRY", &artefacts.registry)
        .env("KUBERNETES", &artefacts.kubernetes)
        .env("PAUSE", PAUSE)
        .env("TOKEN", TOKEN)
        .env("CERTIFICATE_KEY", "0123456789abcdef".repeat(4))
        .env("CAPABILITIES", capabilities())
        .env("MANIFESTS", manifests)
        .stderr(File::create(&log)?)
        .stdout(Stdio::piped());
    let began = Instant::now();
    let mut script = command.spawn().context("cannot start bash")?;
    let mut phases = Phases::new();
    for line in BufReader::new(script.stdout.take().context("no standard output")?).lines() {
        let line = line?;
        let now = began.elapsed().as_secs_f64();
        match line.split(' ').nth(1) {
            // The last one's counts.
            Some("booted") => drop(phases.insert(BOOTED, now)),
            Some("joins") => drop(phases.insert(FIRST, now)),
            Some("ready") => drop(phases.insert(READY, now)),
            Some("answers") => drop(phases.insert(ANSWERS, now)),
            _other => {}
        }
    }
    let status = script.wait()?;
    if !status.success() {
        let kept = bench.cache.root().join("logs/bench-script");
        let _ = fs::remove_dir_all(&kept);
        Cmd::new("cp").args(["--recursive"]).arg(folder).arg(&kept).output()?;
        clear()?;
        bail!("the script ended with {status}; its logs are in {}", kept.display());
    }
    clear()?;
    Ok(phases)
}

/// Removes what the script made, by its label.
fn clear() -> Result<()> {
    let filter = format!("label={PEER}=1");
    let ids = |args: &[&str]| Cmd::new("docker").args(args).args(["--quiet", "--filter", &filter]).output();
    for (list, remove) in [
        (["ps", "--all"], &["rm", "--force", "--volumes"][..]),
        (["volume", "ls"], &["volume", "rm"]),
        (["network", "ls"], &["network", "rm"]),
    ] {
        let found = ids(&list)?;
        if !found.trim().is_empty() {
            Cmd::new("docker").args(remove).args(found.split_whitespace()).output()?;
        }
    }
    Ok(())
}

/// The application's objects as muster applies them, from the catalog that the tests hold it to.
fn application(checkout: &Path) -> Result<String> {
    let path = checkout.join("catalogs/tests/golden/local-control-plane.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let catalog: toml::Table = toml::from_str(&text)?;
    let resources = catalog.get("resource").and_then(toml::Value::as_array).context("the catalog has no resources")?;
    let manifests =
        resources.iter().filter_map(|resource| resource.get("spec")?.get("manifest")?.get("content")?.as_str());
    let all: Vec<_> = manifests.collect();
    ensure!(!all.is_empty(), "{} has no manifest", path.display());
    let text = all.join("\n---\n");
    // Secrets are references there: a Secret's `data` is in base64.
    Ok(text.replace("muster-secret:easypay-database", PASSWORD))
}

/// As muster gives them to nodes: those of our own bounding set that the daemon knows, as `docker run` takes them.
fn capabilities() -> String {
    let unknown = CapabilitySet::PERFMON | CapabilitySet::BPF | CapabilitySet::CHECKPOINT_RESTORE;
    let held = |capability| rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false);
    let named = unknown.complement().iter_names().filter(|(_, capability)| held(*capability));
    named.map(|(name, _)| format!("--cap-add {name}")).collect::<Vec<_>>().join(" ")
}
