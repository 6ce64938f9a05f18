//! The Docker daemon: started where none runs, and handed images.
//!
//! Through the `docker` program, which is told the very socket that muster uses: the one that `DOCKER_HOST` names or the
//! default one, whatever context is chosen. An image is named by the hash of its inputs: a tag that exists is never made
//! again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{Cmd, find, search_path, tail};
use crate::progress::Progress;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// inotify instances are counted for the whole host and each kubelet takes dozens; the usual 128 do not carry five nodes.
const INOTIFY_INSTANCES: u64 = 8192;
const INOTIFY_FILE: &str = "/proc/sys/fs/inotify/max_user_instances";

/// What `DOCKER_HOST` is for our children: as the user set it, else the default, which a chosen context would overrule.
pub fn host() -> OsString {
    let set = std::env::var_os("DOCKER_HOST").filter(|host| !host.is_empty());
    set.unwrap_or_else(|| "unix:///var/run/docker.sock".into())
}

/// Refuses a daemon elsewhere, as muster does: nodes are reached by their addresses on this machine.
fn check(host: &OsStr) -> Result<()> {
    let path = host.to_str().and_then(|host| host.strip_prefix("unix://"));
    ensure!(
        path.is_some_and(|path| path.starts_with('/')),
        "DOCKER_HOST is {}, which is no Unix socket of this machine: unset it, or let it be like unix:///var/run/docker.sock",
        host.display()
    );
    Ok(())
}

fn docker() -> Cmd {
    // The classic builder is there with every daemon; BuildKit is a plug-in that Debian does not ship.
    Cmd::new("docker").env("DOCKER_BUILDKIT", "0").env("DOCKER_HOST", host()).env("PATH", search_path())
}

/// The daemon's version, or why it does not answer.
fn version() -> Result<String> {
    Ok(docker().args(["version", "--format", "{{.Server.Version}}"]).output()?.trim().to_owned())
}

/// Makes sure that a daemon answers.
pub fn start(progress: &Progress, log: &Path) -> Result<()> {
    check(&host())?;
    let Err(error) = version() else { return Ok(()) };
    if format!("{error:#}").contains("permission denied") {
        bail!(
            "a Docker daemon runs, but this user may not use it: join the group `docker` (and log in again), or run as root"
        );
    }
    if let Some(host) = std::env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return Err(error).with_context(|| format!("DOCKER_HOST is {}, where no daemon answers", host.display()));
    }
    progress.stage("start a Docker daemon", || {
        if Path::new("/run/systemd/system").exists() {
            Cmd::as_root("systemctl").args(["start", "docker"]).log(log)?;
        } else {
            launch(log)?;
        }
        let started = Instant::now();
        while let Err(error) = version() {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if started.elapsed() > START_TIMEOUT || text.contains("failed to start daemon") {
                let tail = tail(&text, 5);
                return Err(error)
                    .with_context(|| format!("the daemon did not start; {} ends:\n{tail}\n", log.display()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })
}

/// Starts a daemon that outlives us: in a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.
fn launch(log: &Path) -> Result<()> {
    let dockerd = find("dockerd").context("dockerd is not installed")?;
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Cmd::as_root("setsid")
        .arg("--fork")
        .arg(&dockerd)
        .args(["--log-level", "warn"])
        .env("PATH", search_path())
        .into_inner();
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let status = command.status().with_context(|| format!("cannot start {}", dockerd.display()))?;
    if !status.success() {
        bail!("cannot start {} ({status}); its log is {}", dockerd.display(), log.display());
    }
    Ok(())
}

/// Raises the host's inotify limit when it is too low for several kubelets.
pub fn raise_inotify_limit(progress: &Progress) -> Result<()> {
    let text = std::fs::read_to_string(INOTIFY_FILE).with_context(|| format!("cannot read {INOTIFY_FILE}"))?;
    let now: u64 = text.trim().parse().with_context(|| format!("{INOTIFY_FILE} holds `{}`", text.trim()))?;
    if now >= INOTIFY_INSTANCES {
        return Ok(());
    }
    progress
        .note(&format!("  fs.inotify.max_user_instances: {now} → {INOTIFY_INSTANCES}, for several kubelets share it"));
    Cmd::as_root("sysctl").arg("-q").arg("-w").arg(format!("fs.inotify.max_user_instances={INOTIFY_INSTANCES}")).show()
}

pub fn has_image(tag: &str) -> bool {
    docker().args(["image", "inspect", tag]).succeeds()
}

/// Makes image `tag` of one file system in a tar file. `changes` are Dockerfile instructions.
pub fn import(tar: &Path, tag: &str, changes: &[&str], log: &Path) -> Result<()> {
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    docker().arg("import").args(changes).arg(tar).arg(tag).log(log)
}

/// Builds image `tag` from a folder with a Dockerfile.
pub fn build(dir: &Path, tag: &str, log: &Path) -> Result<()> {
    docker().args(["build", "--tag", tag]).arg(dir).log(log)
}

/// The tags of repository `name`, newest first.
pub fn tags(name: &str) -> Result<Vec<String>> {
    let text = docker().args(["image", "ls", "--format", "{{.Tag}}", name]).output()?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Removes an image that nothing uses; one in use stays, which is not an error.
pub fn remove_unused(tag: &str) {
    docker().args(["image", "rm", tag]).succeeds();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_elsewhere_is_refused() {
        assert!(check(OsStr::new("unix:///run/user/1000/docker.sock")).is_ok());
        for other in ["tcp://10.0.0.1:2376", "ssh://root@other", "unix://relative.sock"] {
            let error = check(OsStr::new(other)).unwrap_err().to_string();
            assert!(error.contains(other) && error.contains("unset it"), "{error}");
        }
    }
}
