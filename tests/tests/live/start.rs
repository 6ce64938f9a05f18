//! Beginning and end: nothing becomes a cluster, a second `up` changes nothing, `down` leaves nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_tests::{
    lab::{Lab, NODES, PREFIX, get, run, wait},
    watched::Watched,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// `muster up` from no container at all, until the application answers.
pub fn from_nothing(lab: &mut Lab) -> anyhow::Result<()> {
    lab.expect(&["down", "--yes"], &[0])?;
    let began = Instant::now();
    let out = lab.expect(&["up"], &[0])?;
    println!("  up took {:.1} s", began.elapsed().as_secs_f64());
    let url = application(&out)?;
    ensure!(get(&url)?.contains("EasyPay"), "{url} answers something else");
    lab.application = url;
    lab.wait_ready(SOON)
}

pub fn application(out: &str) -> anyhow::Result<String> {
    let url = out.lines().find_map(|line| line.strip_prefix("application "));
    Ok(url.with_context(|| format!("no line `application URL` in\n{out}"))?.trim().to_owned())
}

/// A second `up` makes nothing, in seconds.
pub fn again(lab: &mut Lab) -> anyhow::Result<()> {
    let before = lab.containers()?;
    let began = Instant::now();
    let out = lab.expect(&["up"], &[0])?;
    println!("  up again took {:.1} s", began.elapsed().as_secs_f64());
    let url = application(&out)?;
    // Where this step is run alone it finds what runs.
    ensure!(lab.application.is_empty() || lab.application == url, "{url}, and before {}", lab.application);
    lab.application = url;
    ensure!(lab.containers()? == before, "a container was made again");
    Ok(())
}

/// Every reading command answers, in text and in JSON, ends with the exit code that it should, and the kubeconfig works.
pub fn commands(lab: &mut Lab) -> anyhow::Result<()> {
    for args in [&["validate"][..], &["plan"], &["nodes"], &["status"], &["events"], &["node", "why", "workers-1"]] {
        let text = lab.expect(args, &[0])?;
        ensure!(!text.trim().is_empty(), "muster {} says nothing", args.join(" "));
    }
    wait(SOON, || {
        let text = lab.expect(&["status"], &[0])?;
        ensure!(text.contains("everything as written"), "{text}");
        Ok(())
    })?;
    ensure!(lab.expect(&["events"], &[0])?.lines().count() > 5, "too few events");
    for args in [&["validate"][..], &["plan"], &["status"], &["node", "why", "workers-1"]] {
        one_json(&lab.expect(&[args, &["--json"]].concat(), &[0])?)?;
    }
    let nodes = lab.json(&["nodes"])?;
    ensure!(nodes.as_array().is_some_and(|nodes| nodes.len() == NODES), "{nodes}");
    ensure!(nodes[0]["ready"].is_boolean(), "`ready` is a boolean: {nodes}");
    some_json(&lab.expect(&["events", "--json"], &[0])?)?;
    watched(lab, &["status", "--watch", "--json"], some_json)?;
    watched(lab, &["events", "--follow", "--json"], some_json)?;
    watched(lab, &["status", "--watch"], |said| {
        ensure!(said.contains("everything as written"), "the watched status is another:\n{said}");
        Ok(())
    })?;
    exit_codes(lab)?;
    let log = run("sh", &["-c", &format!("docker logs {PREFIX}coordinator 2>&1")])?;
    ensure!(log.contains("the coordinator serves"), "the coordinator's log does not begin:\n{log}");
    ensure!(!log.contains("PRIVATE KEY") && !log.contains("AGE-SECRET-KEY"), "a key is in the coordinator's log");
    let config = lab.site.with_file_name("kubeconfig");
    for to_stdout in [true, false] {
        if to_stdout {
            std::fs::write(&config, lab.expect(&["kubeconfig"], &[0])?)?;
        } else {
            lab.expect(&["kubeconfig", "--output", &config.to_string_lossy()], &[0])?;
        }
        // The user is made at one API server; the others see it a moment later.
        let listed = wait(SOON, || lab.kubectl(&["get", "nodes", "--no-headers"]))?;
        ensure!(listed.lines().filter(|line| line.contains(" Ready ")).count() == NODES, "{listed}");
    }
    for shell in ["bash", "zsh", "fish"] {
        ensure!(lab.expect(&["completion", shell], &[0])?.contains("muster"), "no completion for {shell}");
    }
    Ok(())
}

/// A site that would change something, and one that is wrong; neither is applied.
fn exit_codes(lab: &Lab) -> anyhow::Result<()> {
    let other = lab.site.with_file_name("other");
    let other = other.to_string_lossy();
    lab.expect(&["init", &other], &[0])?;
    let role = format!("{other}/roles/worker.toml");
    let shipped = std::fs::read_to_string(&role)?;
    std::fs::write(&role, format!("{shipped}\n[[file]]\npath = \"/etc/not-applied\"\ncontent = \"x\\n\"\n"))?;
    ensure!(lab.expect(&["plan", "--site", &other], &[2])?.contains("/etc/not-applied"), "the plan does not show it");
    one_json(&lab.expect(&["plan", "--site", &other, "--json"], &[2])?)?;
    std::fs::write(&role, format!("{shipped}\n[[file]]\npath = \"/etc/wrong\"\ncontents = \"x\\n\"\n"))?;
    for command in ["validate", "plan", "apply"] {
        lab.expect(&[command, "--site", &other], &[1])?;
        one_json(&lab.expect(&[command, "--site", &other, "--json"], &[1])?)?;
    }
    lab.expect(&["node", "why", "nobody"], &[1])?;
    lab.expect(&["apply", "no-such-plan", "--yes"], &[1])?;
    lab.expect(&["plan"], &[0]).map(drop)
}

/// A command that follows says what is `enough`, and ends well when it is interrupted.
fn watched(lab: &Lab, args: &[&str], enough: fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let watched = Watched::start(lab.command(args))?;
    wait(SOON, || enough(&watched.said()?))?;
    enough(&watched.interrupt()?)
}

fn one_json(out: &str) -> anyhow::Result<()> {
    let _: Value = serde_json::from_str(out).with_context(|| format!("not one JSON value:\n{out}"))?;
    Ok(())
}

pub fn some_json(out: &str) -> anyhow::Result<()> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(out).into_iter().collect();
    ensure!(!values.with_context(|| format!("not JSON:\n{out}"))?.is_empty(), "no JSON value");
    Ok(())
}

/// No container, volume or network with muster's label is left.
pub fn down(lab: &mut Lab) -> anyhow::Result<()> {
    lab.expect(&["down", "--yes"], &[0])?;
    wait(SOON, || {
        for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
            let left = run("docker", &[list, &["--filter", "label=muster"]].concat())?;
            ensure!(left.trim().is_empty(), "docker {} still lists {left}", list.join(" "));
        }
        Ok(())
    })
}
