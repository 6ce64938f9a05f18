//! Which capabilities nodes get: all that Docker's daemon can give, named one by one.
//!
//! `--privileged` asks for every capability there is and fails where the machine's own bounding set lacks one. The
//! bounding set to read is that of a process on the host, the one that runs `muster up`: a container's is cut down.

use std::{fs, io};

/// By number, from 0, as in capability.h. Which of the last three a daemon knows shows when a container is created.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names of a capability mask that Docker knows.
pub fn known_capabilities(mask: u64) -> Vec<String> {
    NAMES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| (*name).to_owned()).collect()
}

/// Those in this process's bounding set. Call it on the host, not in the coordinator's container.
pub fn bounding_capabilities() -> io::Result<Vec<String>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no CapBnd"))?;
    Ok(known_capabilities(mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lacking_capability_is_not_asked_for() {
        let all = known_capabilities(u64::MAX);
        assert_eq!((all.len(), all[40].as_str()), (41, "CHECKPOINT_RESTORE"));
        let without = known_capabilities(0x1ff_feff_ffff);
        assert_eq!(without.len(), 40);
        assert!(!without.contains(&"SYS_RESOURCE".to_owned()) && without.contains(&"SYS_ADMIN".to_owned()));
    }

    #[test]
    fn this_process_has_some() {
        assert!(bounding_capabilities().is_ok());
    }
}
