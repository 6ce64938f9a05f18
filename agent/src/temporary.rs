//! What an agent makes for a moment, named by the number of its process: who comes after it knows what is left of one that was killed.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::atomic::{AtomicU64, Ordering},
};

static NUMBER: AtomicU64 = AtomicU64::new(0);
const MARK: &str = ".muster-";

/// A name for what is to become `name`, cut so that it stays within the 255 bytes that a name may have.
pub fn name(name: &OsStr) -> OsString {
    let stem = &name.as_bytes()[..name.len().min(150)];
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut all = b".".to_vec();
    all.extend_from_slice(stem);
    all.extend_from_slice(format!("{MARK}{}-{number}", std::process::id()).as_bytes());
    OsString::from_vec(all)
}

/// The agent that gave the name.
pub fn process(name: &OsStr) -> Option<u32> {
    let name = name.as_bytes().strip_prefix(b".")?;
    let mark = name.windows(MARK.len()).rposition(|part| part == MARK.as_bytes())?;
    let (process, number) = std::str::from_utf8(&name[mark + MARK.len()..]).ok()?.split_once('-')?;
    number.parse::<u64>().ok()?;
    process.parse().ok()
}

/// Whether it is such a name for what is to become `of`.
pub fn is_for(name: &OsStr, of: &OsStr) -> bool {
    let stem = &of.as_bytes()[..of.len().min(150)];
    let rest = name.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(stem));
    rest.is_some_and(|rest| rest.starts_with(MARK.as_bytes())) && process(name).is_some()
}

/// Another agent, or this one, may be writing it at this moment.
pub fn is_being_written(name: &OsStr) -> bool {
    process(name).is_some_and(|process| process == std::process::id() || is_an_agent(process))
}

/// Under the same program's name; another program may have the number by now. One that has ended and that nobody asked for its end yet
/// writes nothing any more.
pub fn is_an_agent(process: u32) -> bool {
    let name = |process: &str| {
        let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
        // `7 (name) S …`, and the name may hold anything.
        let (begins, ends) =
            (stat.iter().position(|byte| *byte == b'(')?, stat.iter().rposition(|byte| *byte == b')')?);
        let runs = !matches!(stat.get(ends + 2)?, b'Z' | b'X');
        runs.then(|| stat[begins..ends].to_vec())
    };
    let theirs = name(&process.to_string());
    theirs.is_some() && theirs == name("self")
}

/// Where programs that only look may have a folder of their own: apt unpacks what a repository signed before it reads it.
pub const SCRATCH: &str = "/run/muster-agent-scratch";

/// What names in [`SCRATCH`] begin with: the process that made them.
pub fn mark() -> String {
    format!("{}-", std::process::id())
}

/// Whether the process is gone that made something of this name in [`SCRATCH`].
pub fn is_left(name: &str) -> bool {
    let process = name.split_once('-').and_then(|(process, _)| process.parse().ok());
    process.is_some_and(|process| process != std::process::id() && !is_an_agent(process))
}

/// Makes [`SCRATCH`], which has to be there before write access is taken away. Without it those programs say that they cannot.
pub fn make_scratch() {
    use std::os::unix::fs::DirBuilderExt;
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(SCRATCH)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        tracing::debug!(%error, "there is no folder for programs that only look");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_known() {
        assert_eq!(process(&name(OsStr::new("passwd"))), Some(std::process::id()));
        assert_eq!(process(OsStr::new(".a.muster-b.muster-7-1")), Some(7));
        for other in
            ["x.muster-7-1", ".x.muster-7", ".x.muster-7-", ".x.muster--1", ".x.muster-7-1~", ".muster-7-x", "."]
        {
            assert_eq!(process(OsStr::new(other)), None, "{other}");
        }
        assert!(
            is_for(OsStr::new(".a.muster-7-1"), OsStr::new("a"))
                && !is_for(OsStr::new(".ab.muster-7-1"), OsStr::new("a"))
        );
        assert!(is_being_written(&name(OsStr::new("x"))));
        assert!(!is_being_written(OsStr::new(".x.muster-1-1")), "the first process is no agent");
    }

    #[test]
    fn a_process_that_has_ended_is_no_agent_whether_or_not_somebody_asked_for_its_end() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        // Under this program's name, until its input ends.
        let script = format!("printf %s '{}' >/proc/self/comm; exec 2>/dev/null; echo; read line", own.trim_end());
        let mut child = std::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert!(is_an_agent(child.id()));
        child.kill().unwrap();
        let ended = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ");
        while !ended() {
            std::thread::yield_now();
        }
        assert!(!is_an_agent(child.id()));
        child.wait().unwrap();
    }
}
