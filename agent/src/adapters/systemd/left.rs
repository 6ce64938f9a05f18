//! Processes that a unit left in its control group when it ended.
//!
//! systemd forgets the group of a unit that is not active, so that its place is worked out: systemd.slice(5). Where the unit
//! file itself says that they stay (`KillMode=process`, `none`), they are none of ours: a session of sshd, a container of a
//! runtime. An init script's unit says so of all, and there they are the daemon that `stop` did not stop.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;
use zbus_systemd::{systemd1::ManagerProxy, zbus::OwnedObjectPath};

use super::{Systemd, property, refused};
use crate::ports::UnitError;

/// What a process has to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// systemd's hierarchy: cgroup v2, and v1 beside or without it.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// As in `sleep (412)`.
pub(super) async fn processes(manager: &ManagerProxy<'_>, id: &str, path: &OwnedObjectPath) -> Vec<String> {
    match group(manager, id, path).await {
        Some(group) => said(&pids(&group)),
        None => Vec::new(),
    }
}

/// The folder of the unit's control group, where what is in it counts.
async fn group(manager: &ManagerProxy<'_>, id: &str, path: &OwnedObjectPath) -> Option<PathBuf> {
    // Without its file nobody knows what was to stay.
    let load: String = property(manager, path, "Unit", "LoadState").await?;
    if load != "loaded" {
        return None;
    }
    let mode: String = property(manager, path, "Service", "KillMode").await?;
    let source: String = property(manager, path, "Unit", "SourcePath").await.unwrap_or_default();
    if matches!(mode.as_str(), "process" | "none") && !source.starts_with("/etc/init.d/") {
        return None;
    }
    let slice: String = property(manager, path, "Service", "Slice").await.unwrap_or_default();
    let root = manager.control_group().await.unwrap_or_default();
    let below = format!("{}{}/{id}", root.trim_end_matches('/'), folder(&slice));
    ROOTS.into_iter().map(|root| Path::new(root).join(below.trim_start_matches('/'))).find(|folder| folder.is_dir())
}

/// `/a.slice/a-b.slice` of `a-b.slice`.
fn folder(slice: &str) -> String {
    let name = match slice.strip_suffix(".slice") {
        None | Some("") => "system",
        Some("-") => return String::new(),
        Some(name) => name,
    };
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| format!("/{}.slice", &name[..end])).collect()
}

/// All in the group and below it.
fn pids(group: &Path) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(pids(&entry.path()));
        }
    }
    all
}

fn said(pids: &BTreeSet<i32>) -> Vec<String> {
    let name = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", name.trim())
    };
    pids.iter().map(name).collect()
}

impl Systemd {
    /// Ends what a stopped unit left behind, kindly at first.
    pub(super) async fn end_what_is_left(&self, name: &str) -> Result<(), UnitError> {
        let manager = self.manager().await?;
        let path = manager.load_unit(name.to_owned()).await.map_err(|error| refused("stop", name, error))?;
        let id: String = property(&manager, &path, "Unit", "Id").await.unwrap_or_else(|| name.to_owned());
        let Some(group) = group(&manager, &id, &path).await else { return Ok(()) };
        for signal in [Signal::TERM, Signal::KILL] {
            let began = Instant::now();
            while began.elapsed() < PATIENCE {
                let pids = pids(&group);
                if pids.is_empty() {
                    return Ok(());
                }
                if began.elapsed() < Duration::from_millis(50) || signal == Signal::KILL {
                    pids.iter().for_each(|pid| end(&group, *pid, signal));
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        match said(&pids(&group)).join(", ") {
            left if left.is_empty() => Ok(()),
            left => Err(UnitError::Left { name: name.to_owned(), left }),
        }
    }
}

/// The process that is held is in the group still: a number that another got meanwhile is left alone.
fn end(group: &Path, pid: i32, signal: Signal) {
    let Some(Ok(held)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    if pids(group).contains(&pid) {
        // It may have ended by itself.
        let _gone = pidfd_send_signal(&held, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lies_in_those_that_it_is_named_after() {
        assert_eq!(folder("system.slice"), "/system.slice");
        assert_eq!(folder("system-tun.slice"), "/system.slice/system-tun.slice");
        assert_eq!(folder("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(folder(""), "/system.slice");
        assert_eq!(folder("-.slice"), "");
    }
}
