//! Which named programs are under way, kept where an agent that comes after this one finds it.
//!
//! A name is written down before its program is started and again with the process once there is one, and is taken away when
//! that ended. A process is known by its number and the time at which it began. Where the agent was killed between the two
//! writes, the process is found by a token in its environment.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use muster_ids::Digest;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process, kill_process_group},
};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::{
    ports::{CommandError, Run},
    temporary::is_an_agent,
};

/// The environment variable with the token.
const TOKEN: &str = "MUSTER_RUN";
const LOCK: &str = "lock";
/// Looks for what a program started, at most, before it is left to itself.
const ROUNDS: usize = 20;
/// Between two looks at a process that is waited for.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Runs {
    folder: PathBuf,
}

/// What is written down of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    name: String,
    token: String,
    /// Seconds since the epoch.
    began: u64,
    /// Number and beginning; none before it is started.
    process: Option<(u32, u64)>,
}

/// Takes the record away when its program ended, or was given up.
pub(super) struct Recorded {
    path: PathBuf,
    token: String,
}

impl Recorded {
    pub(super) fn token(&self) -> &str {
        &self.token
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // A record that stays names a process that is no more: it means nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// Ends a program with its group, and with what has its token: what it started in other groups and sessions.
pub(super) fn end(group: u32, token: Option<&str>) {
    if let Some(group) = Pid::from_raw(group as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let Some(token) = token else { return };
    // One may have started another meanwhile.
    for _round in 0..ROUNDS {
        let left = with_token(token);
        if left.is_empty() {
            return;
        }
        for pid in left.into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A start under a name.
pub(super) enum Started {
    Now(Child, Recorded),
    UnderWay(Run),
}

/// Without a record nothing is started: the next agent would not know of it.
fn unwritten(name: &str) -> impl Fn(io::Error) -> CommandError {
    move |source| CommandError::Start { program: name.to_owned(), source }
}

impl Runs {
    pub(super) fn below(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Starts a program unless one is under way under this name.
    pub(super) fn start(
        &self,
        name: &str,
        command: Command,
        start: impl FnOnce(Command) -> Result<Child, CommandError>,
    ) -> Result<Started, CommandError> {
        let failed = unwritten(name);
        let _lock = self.lock().map_err(&failed)?;
        if let Some(run) = self.find(name).map_err(&failed)? {
            return Ok(Started::UnderWay(run));
        }
        let record = Record { name: name.to_owned(), token: token(), began: now(), process: None };
        self.write(&record).map_err(&failed)?;
        let (child, recorded) = self.begin(record, command, start)?;
        Ok(Started::Now(child, recorded))
    }

    /// Starts a program whose agent waits for it, and writes it down for the case that this agent does not live to see its end.
    pub(super) fn note(
        &self,
        command: Command,
        start: impl FnOnce(Command) -> Result<Child, CommandError>,
    ) -> Result<(Child, Option<Recorded>), CommandError> {
        let token = token();
        let record = Record { name: token.clone(), token, began: now(), process: None };
        // Where it cannot be written down it runs all the same: only a kill at that very time would miss it.
        let noted = self.lock().and_then(|lock| self.write(&record).map(|()| lock));
        let Ok(_lock) = noted else { return Ok((start(command)?, None)) };
        let (child, recorded) = self.begin(record, command, start)?;
        Ok((child, Some(recorded)))
    }

    /// What is written down already; the caller has the lock.
    fn begin(
        &self,
        mut record: Record,
        mut command: Command,
        start: impl FnOnce(Command) -> Result<Child, CommandError>,
    ) -> Result<(Child, Recorded), CommandError> {
        let recorded = Recorded { path: self.path(&record.name), token: record.token.clone() };
        command.env(TOKEN, &record.token);
        let child = start(command)?;
        // One that has ended by now needs no record.
        if let Some(pid) = child.id()
            && let Some(ticks) = began(pid)
        {
            record.process = Some((pid, ticks));
            // Without its process it is found by its token.
            if let Err(error) = self.write(&record) {
                tracing::warn!(%error, pid, "which process a program has cannot be written down");
            }
        }
        Ok((child, recorded))
    }

    /// What agents that are gone left running; what else they left here is taken away.
    pub(super) fn left(&self) -> Result<Vec<Run>, CommandError> {
        let failed = unwritten("its programs");
        let mut entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(&failed)?,
        };
        if entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)) {
            return Ok(Vec::new());
        }
        let _lock = self.lock().map_err(&failed)?;
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let record = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            let Some(record) = record.filter(|_| path.extension().is_some_and(|extension| extension == "json")) else {
                // Half a record: nobody writes one now.
                if path.file_name() != Some(OsStr::new(LOCK)) {
                    let _ = fs::remove_file(path);
                }
                continue;
            };
            let agent = record.token.split('-').next().and_then(|pid| pid.parse().ok());
            if agent.is_some_and(|pid| pid == std::process::id() || is_an_agent(pid)) {
                continue;
            }
            match self.find(&record.name).map_err(&failed)? {
                Some(run) => left.push(run),
                None => {
                    let _ = fs::remove_file(path);
                }
            }
        }
        Ok(left)
    }

    pub(super) fn under_way(&self, name: &str) -> Result<Option<Run>, CommandError> {
        self.find(name).map_err(unwritten(name))
    }

    pub(super) async fn ended(&self, run: &Run, most: Duration) -> Result<bool, CommandError> {
        let its_end = async {
            // It is no child of this agent, so nobody tells when it ends.
            while began(run.pid) == Some(run.ticks) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let ended = tokio::time::timeout(most, its_end).await.is_ok();
        if !ended && began(run.pid) == Some(run.ticks) {
            end(run.pid, self.record(&run.name).ok().flatten().map(|record| record.token).as_deref());
        }
        let failed = unwritten(&run.name);
        let _lock = self.lock().map_err(&failed)?;
        // Whoever waited for the same one may have started it anew.
        if self.find(&run.name).map_err(&failed)?.is_none_or(|found| found.pid == run.pid) {
            let _ = fs::remove_file(self.path(&run.name));
        }
        Ok(ended)
    }

    fn record(&self, name: &str) -> io::Result<Option<Record>> {
        match fs::read(self.path(name)) {
            // Half a record is one of an agent that had not started anything yet.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find(&self, name: &str) -> io::Result<Option<Run>> {
        let Some(record) = self.record(name)? else { return Ok(None) };
        let process = match record.process {
            Some((pid, ticks)) => (began(pid) == Some(ticks)).then_some((pid, ticks)),
            None => leader(&record.token),
        };
        let age = now().saturating_sub(record.began);
        Ok(process.map(|(pid, ticks)| Run { name: record.name, pid, ticks, age }))
    }

    /// Whole or not at all.
    fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.name);
        let temporary = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(record).map_err(io::Error::from)?)?;
        fs::rename(temporary, path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.json", Digest::of(name)))
    }

    /// One agent at a time begins or forgets a run; it is let go when the file is closed.
    fn lock(&self) -> io::Result<File> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(self.folder.join(LOCK))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }
}

/// When a process began; none where there is none with this number, or it has ended.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The first process that leads its group and was started with this token: what that left in groups of their own is younger.
fn leader(token: &str) -> Option<(u32, u64)> {
    let leads = |pid: u32| {
        let group = rustix::process::getpgid(Pid::from_raw(pid as i32)).ok()?;
        if group.as_raw_pid() == pid as i32 { Some((pid, began(pid)?)) } else { None }
    };
    with_token(token).into_iter().filter_map(leads).min_by_key(|(pid, ticks)| (*ticks, *pid))
}

/// All that live and were started with this token.
fn with_token(token: &str) -> Vec<u32> {
    let wanted = format!("{TOKEN}={token}");
    let ours = |pid: &u32| {
        // What has ended has no environment any more.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten();
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).filter(ours).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn token() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{}-{}-{nanoseconds}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    #[test]
    fn what_was_started_and_not_yet_written_down_is_found_by_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::below(folder.path());
        assert_eq!(runs.find("x").unwrap(), None);
        let record = Record { name: "x".to_owned(), token: token(), began: now(), process: None };
        runs.write(&record).unwrap();
        assert_eq!(runs.find("x").unwrap(), None, "killed before it started anything");
        let start = |leads: bool| {
            let mut command = std::process::Command::new("sleep");
            command.arg("300").env(TOKEN, &record.token);
            if leads {
                command.process_group(0);
            }
            command.spawn().unwrap()
        };
        // What a program left running has its token and leads no group of its own.
        let (mut other, mut ours) = (start(false), start(true));
        // A program that was started a moment ago may not have its environment yet: the kernel lets go of who started it before that.
        let environment = |child: &std::process::Child| fs::read(format!("/proc/{}/environ", child.id())).unwrap();
        while environment(&other).is_empty() || environment(&ours).is_empty() {
            std::thread::yield_now();
        }
        let found = runs.find("x").unwrap().map(|run| run.pid);
        for child in [&mut ours, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(found, Some(ours.id()));
        assert_eq!(runs.find("x").unwrap(), None);
    }

    #[test]
    fn what_an_agent_that_is_gone_left_running_is_known_and_its_records_go() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::below(&folder.path().join("programs"));
        assert!(runs.left().unwrap().is_empty());
        let mut child = std::process::Command::new("sleep").arg("300").spawn().unwrap();
        let process = Some((child.id(), began(child.id()).unwrap()));
        let own = token();
        for (token, process) in [("1-0-7", process), ("1-1-7", None), (own.as_str(), process)] {
            let token = token.to_owned();
            drop(runs.lock().unwrap());
            runs.write(&Record { name: token.clone(), token, began: now(), process }).unwrap();
        }
        fs::write(runs.folder.join("x.new"), "half").unwrap();
        let found: Vec<u32> = runs.left().unwrap().into_iter().map(|run| run.pid).collect();
        assert_eq!(found, [child.id()]);
        assert_eq!(fs::read_dir(&runs.folder).unwrap().count(), 3, "its record, ours and the lock");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(runs.left().unwrap().is_empty());
        assert_eq!(fs::read_dir(&runs.folder).unwrap().count(), 2);
    }

    #[test]
    fn a_number_that_passed_to_another_process_is_not_it() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::below(folder.path());
        let ticks = began(std::process::id()).unwrap();
        for (ticks, there) in [(ticks, true), (ticks + 1, false)] {
            let process = Some((std::process::id(), ticks));
            runs.write(&Record { name: "x".to_owned(), token: token(), began: now(), process }).unwrap();
            assert_eq!(runs.find("x").unwrap().is_some(), there);
        }
    }
}
