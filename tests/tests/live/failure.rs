//! What breaks, and that it heals: processes killed, machines stopped, the coordinator lost.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use muster_tests::lab::{Lab, PREFIX, Payments, get, on_node, run, wait};

const PATIENCE: Duration = Duration::from_secs(240);

/// Kill -9 in the middle of a converge: the agent goes on and all is as written.
pub fn agent_killed(lab: &mut Lab) -> anyhow::Result<()> {
    lab.edit("roles/worker.toml", |text| {
        let files: String = (0..300)
            .map(|n| format!("\n[[file]]\npath = \"/etc/many/{n}\"\ncontent = \"{n}\\n\"\n"))
            .collect();
        format!("{text}{files}\n[[command]]\nname = \"slow\"\nrun = [\"sh\", \"-c\", \"sleep 3; touch /etc/slow\"]\ncreates = \"/etc/slow\"\n")
    })?;
    lab.expect(&["apply", "--yes", "--no-wait"], &[0])?;
    wait(PATIENCE, || on_node("workers-1", &["pgrep", "-f", "sleep 3"]))?;
    on_node("workers-1", &["systemctl", "kill", "--signal", "KILL", "muster-agent"])?;
    lab.wait_ready(PATIENCE)?;
    let count = on_node("workers-1", &["sh", "-c", "ls /etc/many | wc -l"])?;
    ensure!(count.trim() == "300", "{count} of 300 files");
    on_node("workers-1", &["test", "-e", "/etc/slow"])?;
    Ok(())
}

/// A control plane stops while people pay; it starts and is a member again, not a second one.
pub fn control_plane_stops(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "control-plane", 90)?;
    let container = format!("{PREFIX}control-plane-1");
    run("docker", &["kill", &container])?;
    std::thread::sleep(Duration::from_secs(20));
    lab.kubectl(&["get", "nodes"])?;
    run("docker", &["start", &container])?;
    lab.wait_ready(PATIENCE)?;
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    let summary = payments.finish(lab)?;
    ensure!(summary.longest_gap_ms <= 10_000, "no payment for {} ms", summary.longest_gap_ms);
    Ok(())
}

/// All workers reboot while the coordinator is away: they come back as written by themselves.
pub fn workers_reboot(lab: &mut Lab) -> anyhow::Result<()> {
    let coordinator = format!("{PREFIX}coordinator");
    run("docker", &["stop", &coordinator])?;
    for worker in ["workers-1", "workers-2"] {
        on_node(worker, &["rm", "/etc/muster-proof"])?;
        run("docker", &["restart", "--time", "20", &format!("{PREFIX}{worker}")])?;
    }
    wait(PATIENCE, || {
        ensure!(get(&lab.application)?.contains("EasyPay"));
        Ok(())
    })?;
    wait(PATIENCE, || on_node("workers-2", &["cat", "/etc/muster-proof"]))?;
    run("docker", &["start", &coordinator])?;
    lab.wait_ready(PATIENCE)
}

/// The coordinator's state is lost; a backup is restored, and no agent is touched, nothing made twice.
pub fn coordinator_restored(lab: &mut Lab) -> anyhow::Result<()> {
    let folder = lab.site.parent().context("the lab's folder")?.to_owned();
    let (key, backup) = (folder.join("recovery.txt"), folder.join("state.backup"));
    let recipient = lab.expect(&["coordinator", "key", &key.to_string_lossy()], &[0])?;
    lab.expect(&["coordinator", "backup", "--to", recipient.trim(), &backup.to_string_lossy()], &[0])?;
    // A change after the backup, which the restored coordinator does not know.
    lab.edit("roles/base.toml", |text| text.replace("is proven", "is proven twice"))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    let nodes = lab.nodes()?;
    run("docker", &["rm", "--force", &format!("{PREFIX}coordinator")])?;
    run("docker", &["volume", "rm", &format!("{PREFIX}state")])?;
    lab.expect(&["coordinator", "restore", "--key", &key.to_string_lossy(), &backup.to_string_lossy()], &[0])?;
    lab.wait_ready(PATIENCE)?;
    lab.expect(&["apply", "--yes"], &[0])?;
    ensure!(lab.nodes()? == nodes, "a node was made again");
    ensure!(on_node("workers-1", &["cat", "/etc/muster-proof"])?.contains("twice"), "the apply did not arrive");
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    Ok(())
}

/// One of two front ends is killed while people pay: the other serves, and the first comes back.
pub fn front_end_killed(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "front-end", 40)?;
    std::thread::sleep(Duration::from_secs(5));
    let killed = ["workers-1", "workers-2"].into_iter().find(|worker| {
        on_node(worker, &["pkill", "--signal", "KILL", "--oldest", "--full", "easypay.* serve"]).is_ok()
    });
    let killed = killed.context("no front end runs on a worker")?;
    println!("  killed the one on {killed}");
    let summary = payments.finish(lab)?;
    ensure!(summary.longest_gap_ms <= 10_000, "no payment for {} ms", summary.longest_gap_ms);
    wait(PATIENCE, || {
        let ready = lab.kubectl(&[
            "get",
            "deployment",
            "web",
            "--namespace=easypay",
            "--output=jsonpath={.status.readyReplicas}",
        ])?;
        ensure!(ready == "2", "{ready:?} of 2 front ends ready");
        Ok(())
    })
}

/// From nothing again; `up` is killed over and over, each time somewhat later. Nothing is made twice.
pub fn up_killed(lab: &mut Lab) -> anyhow::Result<()> {
    let mut made: Vec<String> = Vec::new();
    for milliseconds in [50, 150, 400, 800, 1500, 2500, 4000, 8000] {
        let mut up = lab.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        up.kill()?;
        up.wait()?;
        let now = lab.containers()?;
        let gone: Vec<_> = made.iter().filter(|id| !now.contains(id)).collect();
        ensure!(gone.is_empty(), "made again after a kill at {milliseconds} ms: {gone:?}");
        made = now;
    }
    println!("  killed 8 times, with {} containers at the last", made.len());
    Ok(())
}

/// And then the coordinator is killed in the middle, with `up`. Run again, it goes on.
pub fn coordinator_killed_in_up(lab: &mut Lab) -> anyhow::Result<()> {
    let mut up = lab.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let began = Instant::now();
    wait(PATIENCE, || {
        ensure!(lab.nodes()?.len() >= 3, "no nodes yet");
        Ok(())
    })?;
    std::thread::sleep(Duration::from_secs(8));
    run("docker", &["kill", "--signal", "KILL", &format!("{PREFIX}coordinator")])?;
    up.kill()?;
    up.wait()?;
    println!("  killed after {:.1} s", began.elapsed().as_secs_f64());
    let nodes = lab.nodes()?;
    lab.expect(&["up"], &[0])?;
    lab.wait_ready(PATIENCE)?;
    let after = lab.nodes()?;
    ensure!(nodes.iter().all(|node| after.contains(node)), "a node was made twice");
    ensure!(after.len() == lab.size, "{} nodes of {}", after.len(), lab.size);
    ensure!(get(&lab.application)?.contains("EasyPay"), "the application does not answer");
    Ok(())
}
