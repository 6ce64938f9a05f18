//! What an agent costs a node while nothing happens: resident memory and CPU, on every node of the shipped site.
//!
//! Memory is as `/proc/PID/status` has it, split into what is the process's own and what is the program's file, which
//! the kernel may drop; CPU is user and system time over the window.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Bench, table};
use crate::command::Cmd;

/// Caches are warm and the application settled by then.
const SETTLE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(60);
/// Clock ticks a second in /proc, the same on every Linux of ours.
const TICKS: f64 = 100.0;

pub fn run(bench: &Bench) -> Result<()> {
    let muster = |args: &[&str]| {
        let mut command = Command::new(&bench.built.programs.muster);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("MUSTER_SITE", bench.checkout.join("catalogs")).env("MUSTER_ENVIRONMENT", "local");
        match command.env("MUSTER_ARTEFACTS", &bench.built.manifest).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => bail!("muster {} ended with {status}", args.join(" ")),
            Err(error) => Err(error).context("cannot start muster"),
        }
    };
    bench.progress.stage("a cluster to be idle", || muster(&["up"]))?;
    let measured = bench.progress.stage("agents that wait", measure);
    bench.progress.stage("take it down", || muster(&["down", "--yes"]))?;
    println!("\nidle agent, {} s\n\n{}", WINDOW.as_secs(), measured?);
    Ok(())
}

fn measure() -> Result<String> {
    std::thread::sleep(SETTLE);
    let names = Cmd::new("docker")
        .args(["ps", "--filter", "label=muster.role=node", "--format", "{{.Label \"muster.node\"}} {{.Names}}"])
        .output()?;
    let mut nodes: Vec<_> = names.lines().filter_map(|line| line.split_once(' ')).collect();
    nodes.sort_unstable();
    let before = nodes.iter().map(|(_, container)| read(container)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(WINDOW);
    let mut rows = Vec::new();
    for ((node, container), before) in nodes.iter().zip(before) {
        let after = read(container)?;
        if after.pid != before.pid {
            bail!("the agent of {node} was started anew meanwhile");
        }
        let cpu = (after.ticks - before.ticks) / TICKS / WINDOW.as_secs_f64() * 100.0;
        let megabytes = |kilobytes: f64| format!("{:.1}", kilobytes / 1024.0);
        rows.push(vec![
            (*node).to_owned(),
            megabytes(after.resident),
            megabytes(after.own),
            megabytes(after.resident - after.own),
            format!("{cpu:.2}"),
        ]);
    }
    let head = ["node", "resident MiB", "its own MiB", "program's file MiB", "CPU % of a core"];
    Ok(table::table(&head, &rows))
}

struct Reading {
    pid: String,
    /// KiB.
    resident: f64,
    own: f64,
    /// User and system.
    ticks: f64,
}

fn read(container: &str) -> Result<Reading> {
    let pid = Cmd::new("docker")
        .args(["exec", container, "systemctl", "show", "--property=MainPID", "--value", "muster-agent"])
        .output()?
        .trim()
        .to_owned();
    let status = Cmd::new("docker").args(["exec", container, "cat", &format!("/proc/{pid}/status")]).output()?;
    let stat = Cmd::new("docker").args(["exec", container, "cat", &format!("/proc/{pid}/stat")]).output()?;
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("/proc has no such line")?;
        line.split_whitespace().nth(1).context("no number")?.parse::<f64>().context("no number")
    };
    // After the name, which stands in brackets: user time is the 12th field, system time the 13th.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).context("no ticks");
    Ok(Reading { resident: kilobytes("VmRSS")?, own: kilobytes("RssAnon")?, ticks: tick(11)? + tick(12)?, pid })
}
