//! What breaks, and that it heals: processes killed, machines stopped, the coordinator lost.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use muster_tests::lab::{Lab, PREFIX, Payments, all_payments_are_there, get, on_node, run, wait};

use super::start::application;

const PATIENCE: Duration = Duration::from_secs(240);

/// Kill -9 in the middle of a converge: the agent goes on from where it was. What was done before the kill is not done
/// again, what was cut off is, and what is owed to somebody who must be told is paid once.
pub fn agent_killed(lab: &mut Lab) -> anyhow::Result<()> {
    const RUNS: &str = "/var/log/proof-runs";
    let command = |name: &str, rest: &str| {
        format!(
            "\n[[command]]\nname = \"{name}\"\n{rest}\nrun = [\"sh\", \"-c\", \"echo {name} begins >>{RUNS}; {}echo {name} ends >>{RUNS}; touch /etc/proof-{name}\"]\n",
            if name == "slow" { "while [ -e /run/proof-hold ]; do sleep 0.1; done; " } else { "" }
        )
    };
    lab.edit("roles/worker.toml", |text| {
        let files: String =
            (0..300).map(|n| format!("\n[[file]]\npath = \"/etc/many/{n}\"\ncontent = \"{n}\\n\"\n")).collect();
        let commands = command("early", "creates = \"/etc/proof-early\"\nafter = [\"file./etc/many/first\"]")
            + &command("slow", "creates = \"/etc/proof-slow\"\nafter = [\"command.early\"]")
            + &command("late", "creates = \"/etc/proof-late\"\nafter = [\"command.slow\"]")
            + &command("told", "on_notify = true\nafter = [\"command.late\"]");
        let first = "\n[[file]]\npath = \"/etc/many/first\"\ncontent = \"x\\n\"\nnotify = [\"command.told\"]\n";
        format!("{text}{files}{first}{commands}")
    })?;
    let payments = Payments::start(lab, "agent")?;
    on_node("workers-1", &["touch", "/run/proof-hold"])?;
    lab.expect(&["apply", "--yes", "--no-wait"], &[0])?;
    wait(PATIENCE, || on_node("workers-1", &["grep", "slow begins", RUNS]))?;
    let files = || -> anyhow::Result<BTreeSet<String>> {
        let listed = on_node("workers-1", &["sh", "-c", "cd /etc/many && ls -i --time-style=full-iso -l -- [0-9]*"])?;
        Ok(listed.lines().map(str::to_owned).collect())
    };
    let before = files()?;
    on_node("workers-1", &["systemctl", "kill", "--signal", "KILL", "muster-agent"])?;
    on_node("workers-1", &["rm", "/run/proof-hold"])?;
    lab.wait_ready(PATIENCE)?;
    let after = files()?;
    ensure!(after.len() == 300, "{} of 300 files", after.len());
    let again: Vec<_> = before.difference(&after).collect();
    ensure!(again.is_empty(), "written before the kill, and again after it: {again:?}");
    let runs = on_node("workers-1", &["cat", RUNS])?;
    // Cut off once, in the middle of the slow one.
    let cut = "early begins\nearly ends\nslow begins\n";
    let rest = "slow begins\nslow ends\nlate begins\nlate ends\ntold begins\ntold ends\n";
    ensure!(runs == format!("{cut}{rest}"), "what ran:\n{runs}");
    println!("  {} files were there at the kill", before.len());
    payments.finish(lab)?.none_failed()
}

/// A control plane stops while people pay; it starts and is a member again, not a second one.
pub fn control_plane_stops(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "control-plane")?;
    let container = format!("{PREFIX}control-plane-1");
    let killed = payments.now();
    run("docker", &["kill", &container])?;
    std::thread::sleep(Duration::from_secs(20));
    lab.kubectl(&["get", "nodes"])?;
    run("docker", &["start", &container])?;
    lab.wait_ready(PATIENCE)?;
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    payments.finish(lab)?.none_later_than_10_s_after(killed)
}

/// The application's load balancer is killed, and Docker lets it be: the coordinator starts it again.
pub fn load_balancer_killed(lab: &mut Lab) -> anyhow::Result<()> {
    let balancer = format!("{PREFIX}endpoint-web");
    let see = |what: &str| run("docker", &["inspect", "--format", &format!("{{{{{what}}}}}"), &balancer]);
    let (id, started) = (see(".Id")?, see(".State.StartedAt")?);
    let payments = Payments::start(lab, "balancer")?;
    run("docker", &["kill", "--signal", "KILL", &balancer])?;
    let began = Instant::now();
    wait(PATIENCE, || {
        ensure!(see(".State.StartedAt")? != started, "the load balancer was not started again");
        ensure!(get(&lab.application)?.contains("EasyPay"));
        Ok(())
    })?;
    println!("  the application answers again after {:.1} s", began.elapsed().as_secs_f64());
    ensure!(see(".Id")? == id, "another load balancer was made");
    // Those in its hands are lost with it; none is taken twice.
    payments.finish(lab)?;
    lab.wait_ready(PATIENCE)
}

/// All workers reboot while the coordinator is away: they come back as written by themselves. A file is changed while
/// the container is down, so that nobody but the converge at boot can have put it back.
pub fn workers_reboot(lab: &mut Lab) -> anyhow::Result<()> {
    const WORKERS: [&str; 2] = ["workers-1", "workers-2"];
    let coordinator = format!("{PREFIX}coordinator");
    let wrong = lab.site.with_file_name("wrong");
    std::fs::write(&wrong, "changed while the node was down\n")?;
    let right: Vec<_> = WORKERS.iter().map(|worker| on_node(worker, &["cat", "/etc/muster-proof"])).collect();
    let told = lab.newest_event()?;
    run("docker", &["stop", &coordinator])?;
    let payments = Payments::start(lab, "reboot")?;
    let began = Instant::now();
    for worker in WORKERS {
        let container = format!("{PREFIX}{worker}");
        run("docker", &["stop", "--time", "20", &container])?;
        run("docker", &["cp", &wrong.to_string_lossy(), &format!("{container}:/etc/muster-proof")])?;
    }
    for worker in WORKERS {
        run("docker", &["start", &format!("{PREFIX}{worker}")])?;
    }
    let up = Instant::now();
    for (worker, right) in WORKERS.iter().zip(right) {
        let right = right?;
        wait(PATIENCE, || {
            let said = on_node(worker, &["cat", "/etc/muster-proof"])?;
            ensure!(said == right, "{worker}: {said:?}");
            Ok(())
        })?;
    }
    println!("  files as written {:.1} s after the boot, without the coordinator", up.elapsed().as_secs_f64());
    wait(PATIENCE, || {
        ensure!(get(&lab.application)?.contains("EasyPay"));
        Ok(())
    })?;
    println!("  the application answers again after {:.1} s", began.elapsed().as_secs_f64());
    let running = run("docker", &["inspect", "--format", "{{.State.Running}}", &coordinator])?;
    ensure!(running.trim() == "false", "the coordinator was not away");
    // Nobody serves while all workers are down: payments fail, but none that was acknowledged is lost.
    payments.finish(lab)?;
    run("docker", &["start", &coordinator])?;
    lab.wait_ready(PATIENCE)?;
    // A file was changed, and they say so once somebody listens; what the boot took away was nobody's doing.
    let mut since = Vec::new();
    wait(PATIENCE, || {
        since = lab.events_after(told)?;
        for worker in WORKERS {
            let drift = |line: &String| line.contains(worker) && line.contains("drift: file./etc/muster-proof was");
            ensure!(since.iter().any(drift), "no event tells of the drift on {worker}: {since:?}");
        }
        Ok(())
    })?;
    let others = |line: &str| line.contains("drift:") && !line.contains("drift: file./etc/muster-proof was");
    let noise = since.iter().find(|line| line.contains("step failed") || others(line));
    ensure!(noise.is_none(), "a reboot is told as what it is not: {noise:?}");
    Ok(())
}

/// The worker with the disk under the database is lost with its container: it is made anew by itself under its name, the
/// disk goes to the new one, the application answers again, and every payment that was ever acknowledged is there once.
pub fn disk_holder_lost(lab: &mut Lab) -> anyhow::Result<()> {
    let label = "jsonpath={range .items[?(@.metadata.labels.muster\\.dev/disk-easypay)]}{.metadata.name}{end}";
    let holder = lab.kubectl(&["get", "nodes", "-o", label])?;
    let container = format!("{PREFIX}{holder}");
    let id = |name: &str| run("docker", &["inspect", "--format", "{{.Id}}", name]);
    let mounts = |name: &str| {
        let volumes = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{.Destination}}\n{{end}}{{end}}";
        let listed = run("docker", &["inspect", "--format", volumes, name])?;
        let disks: Vec<_> = listed.lines().filter(|line| line.contains("easypay ")).map(str::to_owned).collect();
        ensure!(!disks.is_empty(), "{name} holds no disk:\n{listed}");
        Ok(disks)
    };
    let (lost, disks) = (id(&container)?, mounts(&container)?);
    let others: Vec<_> = lab.containers()?.into_iter().filter(|other| *other != lost.trim()).collect();
    let payments = Payments::start(lab, "disk")?;
    let began = Instant::now();
    run("docker", &["rm", "--force", &container])?;
    wait(PATIENCE, || {
        ensure!(id(&container)? != lost, "the same container");
        Ok(())
    })?;
    println!("  {holder} was lost and is made anew after {:.1} s", began.elapsed().as_secs_f64());
    ensure!(mounts(&container)? == disks, "the disk is {:?}, and was {disks:?}", mounts(&container)?);
    lab.wait_ready(PATIENCE)?;
    println!("  a member again, and as written, after {:.1} s", began.elapsed().as_secs_f64());
    wait(PATIENCE, || lab.pays())?;
    println!("  the application takes payments again after {:.1} s", began.elapsed().as_secs_f64());
    payments.finish(lab)?;
    let after = lab.containers()?;
    ensure!(others.iter().all(|id| after.contains(id)), "another container was made again");
    ensure!(after.len() == others.len() + 1, "{} containers, {} before", after.len(), others.len() + 1);
    all_payments_are_there(lab)
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
    let payments = Payments::start(lab, "restored")?;
    run("docker", &["rm", "--force", &format!("{PREFIX}coordinator")])?;
    run("docker", &["volume", "rm", &format!("{PREFIX}state")])?;
    lab.expect(&["coordinator", "restore", "--key", &key.to_string_lossy(), &backup.to_string_lossy()], &[0])?;
    lab.wait_ready(PATIENCE)?;
    lab.expect(&["apply", "--yes"], &[0])?;
    ensure!(lab.nodes()? == nodes, "a node was made again");
    ensure!(on_node("workers-1", &["cat", "/etc/muster-proof"])?.contains("twice"), "the apply did not arrive");
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    payments.finish(lab)?.none_failed()
}

/// One of two front ends is killed while people pay: the other serves, and the first comes back.
pub fn front_end_killed(lab: &mut Lab) -> anyhow::Result<()> {
    let payments = Payments::start(lab, "front-end")?;
    let moment = payments.now();
    let killed = ["workers-1", "workers-2"].into_iter().find(|worker| {
        on_node(worker, &["pkill", "--signal", "KILL", "--oldest", "--full", "easypay.* serve"]).is_ok()
    });
    let killed = killed.context("no front end runs on a worker")?;
    println!("  killed the one on {killed}");
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
    })?;
    std::thread::sleep(Duration::from_secs(15).saturating_sub(payments.now()));
    payments.finish(lab)?.none_later_than_10_s_after(moment)
}

/// From nothing again, and with the network that the local environment does not have; `up` is killed over and over, each time
/// somewhat later. Nothing is made twice.
pub fn up_killed(lab: &mut Lab) -> anyhow::Result<()> {
    use_vxlan(lab)?;
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

/// And then the coordinator's process is killed in the middle: Docker starts it again, and `up`, which waits for it, goes on
/// to its end. A second `up` finds nothing to do.
pub fn coordinator_killed_in_up(lab: &mut Lab) -> anyhow::Result<()> {
    let coordinator = format!("{PREFIX}coordinator");
    let state = |what: &str| run("docker", &["inspect", "--format", &format!("{{{{.{what}}}}}"), &coordinator]);
    use_vxlan(lab)?;
    let log = lab.site.with_file_name("up.log");
    let mut up = lab.command(&["up"]).stdout(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
    let began = Instant::now();
    wait(PATIENCE, || {
        ensure!(lab.nodes()?.len() >= 3, "no nodes yet");
        Ok(())
    })?;
    std::thread::sleep(Duration::from_secs(8));
    // As the kernel kills what takes too much memory; `docker kill` would be somebody's wish that it stays away.
    run("kill", &["-KILL", state("State.Pid")?.trim()])?;
    println!("  killed after {:.1} s", began.elapsed().as_secs_f64());
    let nodes = lab.nodes()?;
    let ended = up.wait()?;
    println!("  up ended after {:.1} s", began.elapsed().as_secs_f64());
    ensure!(ended.success(), "up ended with {ended}:\n{}", std::fs::read_to_string(&log)?);
    ensure!(state("RestartCount")?.trim() != "0", "the coordinator was not started again");
    lab.application = application(&lab.expect(&["up"], &[0])?)?;
    lab.wait_ready(PATIENCE)?;
    let after = lab.nodes()?;
    ensure!(nodes.iter().all(|node| after.contains(node)), "a node was made twice");
    ensure!(after.len() == lab.size, "{} nodes of {}", after.len(), lab.size);
    ensure!(get(&lab.application)?.contains("EasyPay"), "the application does not answer");
    // One of the two front ends reaches the database through VXLAN.
    on_node("workers-1", &["ip", "link", "show", "muster.vxlan"])?;
    wait(PATIENCE, || lab.pays())
}

/// For a cluster that is not there yet.
fn use_vxlan(lab: &Lab) -> anyhow::Result<()> {
    let path = lab.site.join("environments/local.toml");
    let text = std::fs::read_to_string(&path)?.replacen("network = \"direct\"", "network = \"vxlan\"", 1);
    ensure!(text.contains("network = \"vxlan\""), "no network in {text}");
    Ok(std::fs::write(path, text)?)
}
