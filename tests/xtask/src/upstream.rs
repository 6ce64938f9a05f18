//! `cargo xtask upstream`: upstream's own end-to-end tests, against a cluster that muster made.
//!
//! What they check is written by the people who define what a Kubernetes cluster is, so it is checked with their program,
//! unchanged: built from its module, run by its own runner, told nothing but where the cluster is. Its images come from the
//! local registry under upstream's names. A run of all specs is good when none fails and none is skipped that may not be
//! ([`gate`]); a run of a list is good when each of its specs passes.

mod gate;
mod report;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::command::{Cmd, search_path};
use crate::go::EndToEnd;
use crate::progress::{Progress, elapsed};
use crate::upstream::report::Outcome;

/// How many specs run at the same time. They mostly wait for pods, so more than there are cores.
const SIDE_BY_SIDE: &str = "4";

#[derive(Args)]
pub struct Options {
    /// Run the specs that this file names, one a line, and demand that all pass
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Run against the cluster of this kubeconfig, in place of bringing up the local environment
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Runs conformance specs of sig-network: all, or the listed ones.
pub fn network(progress: &Progress, options: &Options, e2e: &EndToEnd, kubeconfig: &Path, logs: &Path) -> Result<()> {
    let started = Instant::now();
    let all = conformance(&e2e.program)?;
    let agreed = gate::agreed(&all)?;
    let (chosen, wanted, agreed) = match &options.list {
        None => (all, gate::WANTED, agreed),
        Some(list) => {
            let chosen = listed(list, &all)?;
            let wanted = chosen.len();
            (chosen, wanted, Vec::new())
        }
    };
    let log = logs.join("upstream-network.log");
    let json = logs.join("upstream-network.json");
    progress.note(&format!(
        "{} specs of Kubernetes {}, {SIDE_BY_SIDE} side by side; log: {}",
        chosen.len(),
        e2e.version,
        log.display()
    ));
    // A report of an earlier run would be taken for this one's.
    let _ = std::fs::remove_file(&json);
    let ran = execute(progress, e2e, kubeconfig, &chosen, &log, &json);
    let specs = report::read(&json, &chosen).with_context(|| match &ran {
        Ok(()) => format!("there is no report; see {}", log.display()),
        Err(error) => format!("the run gave no report ({error:#}); see {}", log.display()),
    })?;
    println!("{}", report::table(&specs));
    let count = |outcome: Outcome| specs.iter().filter(|spec| spec.outcome == outcome).count();
    let (passed, failed, skipped) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Skipped));
    println!("{passed} passed, {failed} failed, {skipped} skipped of {} ({})", specs.len(), elapsed(started.elapsed()));
    for note in gate::judge(&specs, wanted, &agreed).with_context(|| format!("see {}", log.display()))? {
        println!("{note}");
    }
    // Every spec did well, and yet what comes before or after them did not.
    ran.with_context(|| format!("no spec failed, but the run did; see {}", log.display()))
}

/// The names of sig-network's conformance specs, as the test program itself lists them.
fn conformance(program: &Path) -> Result<Vec<String>> {
    let listing = Cmd::new(program).arg("--list-conformance-tests").output()?;
    let names = report::codenames(&listing);
    let names: Vec<String> = names.into_iter().filter(|name| name.starts_with("[sig-network]")).collect();
    ensure!(!names.is_empty(), "{} lists no conformance test of sig-network", program.display());
    Ok(names)
}

/// The specs that a file names. A name that no spec has is an error: upstream renames some with a release.
fn listed(list: &Path, all: &[String]) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let unknown: Vec<&str> = names.iter().filter(|name| !all.contains(name)).map(String::as_str).collect();
    ensure!(unknown.is_empty(), "{} names what is no conformance spec: {}", list.display(), unknown.join("; "));
    ensure!(!names.is_empty(), "{} names no spec", list.display());
    Ok(names)
}

/// Runs the specs by upstream's runner. A spec that failed is an error here, and told in the report.
fn execute(
    progress: &Progress,
    e2e: &EndToEnd,
    kubeconfig: &Path,
    specs: &[String],
    log: &Path,
    json: &Path,
) -> Result<()> {
    let folder = json.parent().context("a report without a folder")?;
    let mut file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let started = Instant::now();
    let scratch = tempfile::tempdir()?;
    let focus: Vec<String> = specs.iter().map(|name| report::escaped(name)).collect();
    let mut runner = Cmd::new(&e2e.runner)
        .args(["run", "--no-color", "-v", "--procs", SIDE_BY_SIDE, "--timeout", "90m", "--poll-progress-after", "5m"])
        .arg(format!("--focus={}", focus.join("|")))
        .arg(format!("--output-dir={}", folder.display()))
        .arg(format!("--json-report={}", json.file_name().unwrap_or_default().to_string_lossy()))
        .arg(&e2e.program)
        .arg("--")
        .args(["--provider=skeleton", "--non-blocking-taints=node-role.kubernetes.io/control-plane"])
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--kubectl-path={}", e2e.kubectl.display()))
        .env("PATH", search_path())
        // Each of its processes leaves folders of kubectl there.
        .env("TMPDIR", scratch.path())
        .into_inner();
    let errors = file.try_clone()?;
    let mut runner = runner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn()?;
    let output = runner.stdout.take().context("the runner has no output")?;
    let mut done = 0;
    let mut mark = None;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        file.write_all(&line)?;
        file.write_all(b"\n")?;
        let line = String::from_utf8_lossy(&line);
        // `• [1.234 seconds]` or `• [FAILED] [1.234 seconds]`, and the spec's name in the next line.
        let name = line.replacen(" [It] ", " ", 1);
        if let (Some(mark), Some(name)) = (mark, specs.iter().find(|spec| name.starts_with(spec.as_str()))) {
            done += 1;
            progress.note(&format!("  {mark} {done}/{} {name}  {}", specs.len(), elapsed(started.elapsed())));
        }
        mark = report::mark(&line);
    }
    let status = runner.wait()?;
    if !status.success() {
        bail!("the runner ended with {status}");
    }
    Ok(())
}
