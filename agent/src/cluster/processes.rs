//! Processes of this machine by their arguments: etcd to be started anew, and a kubeadm that a killed agent left behind.

use rustix::process::Pid;

use crate::{StepError, ports::Files};

/// Processes whose arguments, the program first, satisfy `wanted`.
pub fn find(files: &dyn Files, wanted: impl Fn(&[&[u8]]) -> bool) -> Result<Vec<Pid>, StepError> {
    let mut found = Vec::new();
    for name in files.list("/proc")?.unwrap_or_default() {
        let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
        // A process may end while it is looked at.
        let Ok(Some(arguments)) = files.read(&format!("/proc/{name}/cmdline")) else { continue };
        let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        if wanted(&words) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether the program is `name`, with or without its folder.
pub fn is(words: &[&[u8]], name: &str) -> bool {
    let program = words.first().copied().unwrap_or_default();
    program.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_name() {
        assert!(is(&[b"etcd", b"--x"], "etcd") && is(&[b"/usr/bin/etcd"], "etcd"));
        assert!(!is(&[b"etcdctl"], "etcd") && !is(&[b""], "etcd") && !is(&[], "etcd"));
    }

    #[test]
    fn this_test_finds_itself() {
        let own = std::process::id();
        let own_words: Vec<u8> = std::fs::read("/proc/self/cmdline").unwrap();
        let first = own_words.split(|b| *b == 0).next().unwrap().to_vec();
        let files = crate::adapters::files::RealFiles::new();
        let found = find(&files, |words| words.first() == Some(&first.as_slice())).unwrap();
        assert!(found.iter().any(|pid| pid.as_raw_nonzero().get() == own as i32));
    }
}
