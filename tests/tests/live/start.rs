//! Beginning and end: nothing becomes a cluster, a second `up` changes nothing, `down` leaves nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_tests::lab::{Lab, NODES, PREFIX, get, run, wait};

/// `muster up` from no container at all, until the application answers.
pub fn from_nothing(lab: &mut Lab) -> anyhow::Result<()> {
    lab.expect(&["down", "--yes"], &[0])?;
    let began = Instant::now();
    let out = lab.expect(&["up"], &[0])?;
    println!("  up took {:.1} s", began.elapsed().as_secs_f64());
    let url = out
        .lines()
        .find_map(|line| line.strip_prefix("application "))
        .with_context(|| format!("no line `application URL` in\n{out}"))?
        .trim()
        .to_owned();
    ensure!(get(&url)?.contains("EasyPay"), "{url} answers something else");
    lab.application = url;
    lab.wait_ready(Duration::from_secs(60))
}

/// A second `up` makes nothing, in seconds.
pub fn again(lab: &mut Lab) -> anyhow::Result<()> {
    let before = lab.containers()?;
    let began = Instant::now();
    let out = lab.expect(&["up"], &[0])?;
    println!("  up again took {:.1} s", began.elapsed().as_secs_f64());
    ensure!(out.contains(&lab.application), "the application's URL is missing:\n{out}");
    ensure!(lab.containers()? == before, "a container was made again");
    Ok(())
}

/// Every reading command answers, in text and in JSON, and the kubeconfig works.
pub fn commands(lab: &mut Lab) -> anyhow::Result<()> {
    lab.expect(&["validate"], &[0])?;
    lab.expect(&["plan"], &[0])?;
    let nodes = lab.json(&["nodes"])?;
    ensure!(nodes.as_array().is_some_and(|nodes| nodes.len() == NODES), "{nodes}");
    ensure!(nodes[0]["ready"].is_boolean(), "`ready` is a boolean: {nodes}");
    let text = lab.expect(&["status"], &[0])?;
    ensure!(text.contains("everything as written"), "{text}");
    lab.json(&["status"])?;
    ensure!(lab.expect(&["events"], &[0])?.lines().count() > 5, "too few events");
    let log = run("sh", &["-c", &format!("docker logs {PREFIX}coordinator 2>&1")])?;
    ensure!(log.contains("the coordinator serves"), "the coordinator's log does not begin:\n{log}");
    ensure!(!log.contains("PRIVATE KEY") && !log.contains("AGE-SECRET-KEY"), "a key is in the coordinator's log");
    let config = lab.site.with_file_name("kubeconfig");
    lab.expect(&["kubeconfig", "--output", &config.to_string_lossy()], &[0])?;
    let listed = lab.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(listed.lines().filter(|line| line.contains(" Ready ")).count() == NODES, "{listed}");
    for shell in ["bash", "zsh", "fish"] {
        ensure!(lab.expect(&["completion", shell], &[0])?.contains("muster"), "no completion for {shell}");
    }
    Ok(())
}

/// No container, volume or network with muster's label is left.
pub fn down(lab: &mut Lab) -> anyhow::Result<()> {
    lab.expect(&["down", "--yes"], &[0])?;
    wait(Duration::from_secs(10), || {
        for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
            let left = run("docker", &[list, &["--filter", "label=muster"]].concat())?;
            ensure!(left.trim().is_empty(), "docker {} still lists {left}", list.join(" "));
        }
        Ok(())
    })
}
