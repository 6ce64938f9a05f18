//! Whether a control plane's etcd has lost its data: before anything is thrown away for it, and again right before.
//!
//! The data may be away for a moment only: a folder that an admin moves, a mount that is not there yet.

use super::join::ETCD_DATA;
use crate::{Context, StepError};

const ETCD: &str = "/var/lib/etcd";
/// Since when it is gone: seconds since the epoch. A boot looks anew.
const SINCE: &str = "/run/muster/etcd-lost";
/// So many seconds it must be gone.
const HOLDS: i64 = 10;

/// Whether a segment of the write-ahead log is there. The folder alone says nothing: an etcd that ends for want of its log
/// makes it anew before it ends.
pub fn has_log(ctx: &Context) -> Result<bool, StepError> {
    let manifest = ctx.files.read("/etc/kubernetes/manifests/etcd.yaml")?.unwrap_or_default();
    if elsewhere(&String::from_utf8_lossy(&manifest)) {
        return Ok(true);
    }
    let names = ctx.files.list(&format!("{ETCD_DATA}/wal"))?.unwrap_or_default();
    Ok(names.iter().any(|name| name.ends_with(".wal")))
}

/// An etcd that is told to keep its log in another folder: what is not in this one says nothing.
fn elsewhere(manifest: &str) -> bool {
    let mut options = manifest.lines().map(|line| line.trim().trim_start_matches("- "));
    options.any(|option| {
        option.starts_with("--wal-dir") || option.strip_prefix("--data-dir=").is_some_and(|folder| folder != ETCD)
    })
}

/// Good once it was gone for a while. Until then it is told, so that somebody may put it back.
pub fn for_good(ctx: &Context) -> Result<(), StepError> {
    if let Err(error) = still(ctx) {
        forget(ctx)?;
        return Err(error);
    }
    let now = ctx.clock.now();
    let since = ctx.files.read(SINCE)?.and_then(|text| String::from_utf8_lossy(&text).trim().parse::<i64>().ok());
    match since.filter(|since| *since <= now) {
        Some(since) if now - since >= HOLDS => Ok(()),
        Some(_) => Err(gone()),
        None => {
            ctx.files.write(SINCE, format!("{now}\n").as_bytes(), 0o600, 0, 0)?;
            Err(gone())
        }
    }
}

fn gone() -> StepError {
    StepError::waits(format!(
        "etcd's data, which is gone: not there again within {HOLDS} s, this node gives up its vote and joins anew"
    ))
}

/// What was done about it is done.
pub fn forget(ctx: &Context) -> Result<(), StepError> {
    Ok(ctx.files.remove(SINCE, false)?)
}

/// Refuses where there is something to lose.
pub fn still(ctx: &Context) -> Result<(), StepError> {
    if has_log(ctx)? {
        return Err(StepError::waits("a look at etcd's data, which is there again"));
    }
    let read = |path: &str| -> Result<String, StepError> {
        Ok(String::from_utf8_lossy(&ctx.files.read(path)?.unwrap_or_default()).into_owned())
    };
    match away(&read("/etc/fstab")?, &read("/proc/self/mountinfo")?) {
        Some(mount) => Err(StepError::waits(format!("{mount} to be mounted, where etcd's data may be"))),
        None => Ok(()),
    }
}

/// A mount of fstab's at or above etcd's folder that is not there.
fn away(fstab: &str, mountinfo: &str) -> Option<String> {
    let mounted: Vec<&str> = mountinfo.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    let lines = fstab.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let points = lines.filter_map(|line| line.split_whitespace().nth(1));
    let above = |point: &str| ETCD == point || ETCD.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'));
    let mut away = points.filter(|point| above(point) && !mounted.contains(point));
    away.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fake::FakeMachine;

    #[test]
    fn a_mount_that_is_not_there_may_hold_the_data() {
        let mountinfo = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:2 / /var rw - ext4 /dev/sda2 rw\n";
        let fstab = |line: &str| {
            format!("# a comment\n/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 /var ext4 defaults 0 2\n{line}\n")
        };
        assert_eq!(away(&fstab(""), mountinfo), None);
        for point in ["/var/lib/etcd", "/var/lib"] {
            assert_eq!(away(&fstab(&format!("/dev/sdb {point} xfs noauto 0 0")), mountinfo).as_deref(), Some(point));
        }
        for other in ["/var/lib/etcd/x", "/var/lib/etc", "none"] {
            assert_eq!(away(&fstab(&format!("/dev/sdb {other} xfs defaults 0 0")), mountinfo), None, "{other}");
        }
    }

    #[test]
    fn a_log_in_another_folder_is_not_missed() {
        let manifest = |option: &str| format!("spec:\n  containers:\n  - command:\n    - etcd\n    - {option}\n");
        assert!(!elsewhere(&manifest("--data-dir=/var/lib/etcd")) && !elsewhere(""));
        assert!(elsewhere(&manifest("--data-dir=/data/etcd")) && elsewhere(&manifest("--wal-dir=/fast/wal")));
    }

    #[test]
    fn data_that_comes_back_is_not_thrown_away() {
        let machine = FakeMachine::new();
        let ctx = machine.node("n-1");
        let sure = || for_good(&ctx).is_ok();
        assert!(!sure() && !sure());
        machine.files.put("/var/lib/etcd/member/snap/db", "made by an etcd that ended");
        let since = |seconds: i64| machine.files.put(SINCE, &format!("{}\n", ctx.clock.now() - seconds));
        since(HOLDS - 2);
        assert!(!sure());
        since(HOLDS);
        assert!(sure());
        machine.files.put("/var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal", "");
        assert!(matches!(for_good(&ctx), Err(StepError::Skip(_))) && has_log(&ctx).unwrap());
        // Gone another time, it is looked at anew.
        ctx.files.remove("/var/lib/etcd/member/wal", true).unwrap();
        assert!(!sure());
        // A clock that was set back says nothing.
        since(-100);
        assert!(!sure());
    }
}
