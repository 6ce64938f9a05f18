//! Programs of this machine, each in a session of its own: a time-out ends all of it, and none waits for a terminal.
//!
//! What they write goes into memory files and not into pipes. So a program has ended when it itself ended, whatever its children
//! hold open; a child that outlives it may go on writing; and a program that outlives the agent is not ended by a pipe that
//! nobody reads.
//!
//! Known imprecision: what a child writes after its program ended stays in memory until that child ends, unread. Something that
//! runs on is better a service, whose words go to the journal.

mod capture;
mod runs;

use std::{
    fs::File,
    io::Read as _,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use self::{
    capture::Capture,
    runs::{Recorded, Runs, Started},
};
use super::sandbox;
use crate::{
    ports::{CommandError, Commands, Invocation, Once, Output, Run},
    temporary,
};

/// Programs, and where it is written down which are under way: named ones, and all others that are short.
pub struct SystemCommands {
    runs: Runs,
    short: Runs,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between two looks at how much a program has written.
const TRIM: Duration = Duration::from_millis(50);

impl SystemCommands {
    /// As the agent's daemon and its command line share it.
    pub fn new() -> Self {
        Self {
            runs: Runs::below(Path::new("/run/muster/commands")),
            short: Runs::below(Path::new("/run/muster/programs")),
        }
    }

    /// Named programs are written down in `folder`, which nothing but this may use and which a boot empties.
    pub fn below(folder: impl AsRef<Path>) -> Self {
        Self { runs: Runs::below(folder.as_ref()), short: Runs::below(&folder.as_ref().join("programs")) }
    }
}

impl Default for SystemCommands {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait::async_trait]
impl Commands for SystemCommands {
    async fn run(&self, invocation: Invocation) -> Result<Output, CommandError> {
        // Lives until the program has ended.
        let scratch = invocation.scratch.then(scratch).transpose();
        let scratch = scratch.map_err(|source| unstarted(&invocation, source))?;
        let prepared = Prepared::new(&invocation)?;
        let (command, streams) = (prepared.command, prepared.streams);
        let (child, _record) = if invocation.read_only {
            (sandboxed(command, &invocation, scratch.as_ref().map(TempDir::path)).await?, None)
        } else if invocation.timeout <= Invocation::SHORT {
            self.short.note(command, |command| start(command, &invocation))?
        } else {
            (start(command, &invocation)?, None)
        };
        to_its_end(child, streams, &invocation, None).await
    }

    async fn once(&self, name: &str, invocation: Invocation) -> Result<Once, CommandError> {
        let prepared = Prepared::new(&invocation)?;
        match self.runs.start(name, prepared.command, |command| start(command, &invocation))? {
            Started::UnderWay(run) => Ok(Once::UnderWay(run)),
            Started::Now(child, recorded) => {
                let ended = to_its_end(child, prepared.streams, &invocation, Some(&recorded)).await;
                ended.map(Once::Ended)
            }
        }
    }

    async fn under_way(&self, name: &str) -> Result<Option<Run>, CommandError> {
        self.runs.under_way(name)
    }

    async fn settled(&self) -> Result<(), CommandError> {
        for run in self.short.left()? {
            tracing::info!(pid = run.pid, "a killed agent left a program running, which is waited for");
            self.short.ended(&run, Invocation::SHORT.saturating_sub(Duration::from_secs(run.age))).await?;
        }
        Ok(())
    }

    async fn ended(&self, run: &Run, most: Duration) -> Result<bool, CommandError> {
        self.runs.ended(run, most).await
    }
}

/// A program with its streams, not started.
struct Prepared {
    command: Command,
    streams: Streams,
}

/// What it writes.
struct Streams {
    out: Capture,
    err: Capture,
}

impl Prepared {
    fn new(invocation: &Invocation) -> Result<Self, CommandError> {
        let prepare = || -> std::io::Result<Self> {
            // Between fork and exec the C library would hand such a text to a shell, which the kernel does not.
            if found(invocation).is_some_and(|path| is_bare_text(&path)) {
                return Err(rustix::io::Errno::NOEXEC.into());
            }
            let streams = Streams { out: Capture::new()?, err: Capture::new()? };
            let mut command = command(invocation);
            command.stdin(capture::input(&invocation.stdin)?);
            command.stdout(streams.out.stdio()?).stderr(streams.err.stdio()?);
            Ok(Self { command, streams })
        };
        prepare().map_err(|source| CommandError::Start { program: invocation.program().to_owned(), source })
    }
}

async fn to_its_end(
    mut child: Child,
    Streams { mut out, mut err }: Streams,
    invocation: &Invocation,
    recorded: Option<&Recorded>,
) -> Result<Output, CommandError> {
    let program = || invocation.program().to_owned();
    let mut guard = KillAll { group: child.id(), recorded };
    let mut late = std::pin::pin!(tokio::time::sleep(invocation.timeout));
    let ended = loop {
        tokio::select! {
            ended = child.wait() => break Some(ended),
            () = &mut late => break None,
            () = tokio::time::sleep(TRIM) => {
                out.trim();
                err.trim();
            }
        }
    };
    let Some(status) = ended else {
        drop(guard);
        // The group is gone; the child itself still has to be waited for.
        let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
        let tail = Output { status: 0, stdout: out.read(), stderr: err.read() }.tail(3);
        return Err(CommandError::TimedOut { program: program(), after: invocation.timeout, tail });
    };
    let status = status.map_err(|source| CommandError::Start { program: program(), source })?;
    guard.group = None;
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Output { status, stdout: out.read(), stderr: err.read() })
}

/// Kills the whole group when dropped, also when the step itself is dropped; of a named program all that it started.
struct KillAll<'a> {
    group: Option<u32>,
    recorded: Option<&'a Recorded>,
}

impl Drop for KillAll<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            runs::end(group, self.recorded.map(Recorded::token));
        }
    }
}

fn command(invocation: &Invocation) -> Command {
    let mut command = Command::new(invocation.program());
    command
        .args(&invocation.argv[1.min(invocation.argv.len())..])
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root")
        .envs(&invocation.environment)
        .current_dir("/")
        .kill_on_drop(true);
    in_its_own_session(&mut command);
    command
}

/// A program that asks the terminal for something, as for a password, is told that there is none. In the background of a
/// terminal at which somebody runs `muster-agent apply` the kernel would stop it until its time-out.
#[expect(unsafe_code, reason = "all that is done between fork and exec is setsid(2), which may be done there")]
fn in_its_own_session(command: &mut Command) {
    let session = || rustix::process::setsid().map(drop).map_err(std::io::Error::from);
    // SAFETY: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(session) };
}

/// The program's file.
fn found(invocation: &Invocation) -> Option<PathBuf> {
    let program = Path::new(invocation.program());
    if program.is_absolute() {
        return Some(program.to_path_buf());
    }
    let folders = invocation.environment.get("PATH").map_or(PATH, String::as_str);
    folders.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// Whether it is a text without an interpreter in its first line.
fn is_bare_text(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = path.is_file() && File::open(path).is_ok_and(|file| file.take(128).read_to_end(&mut first).is_ok());
    read && !first.starts_with(b"#!") && !first.contains(&0)
}

/// A folder of its own in the one that also a plan can write in.
fn scratch() -> std::io::Result<TempDir> {
    temporary::make_scratch();
    tempfile::Builder::new().prefix(&temporary::mark()).tempdir_in(temporary::SCRATCH)
}

fn start(mut command: Command, invocation: &Invocation) -> Result<Child, CommandError> {
    command.spawn().map_err(|source| unstarted(invocation, source))
}

/// On a thread of its own: the restriction is for good, and the child inherits it.
async fn sandboxed(
    mut command: Command,
    invocation: &Invocation,
    scratch: Option<&Path>,
) -> Result<Child, CommandError> {
    if let Some(scratch) = scratch {
        command.env("TMPDIR", scratch);
    }
    let scratch = scratch.map(Path::to_path_buf);
    let runtime = tokio::runtime::Handle::current();
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _inside = runtime.enter();
        let started = sandbox::without_writing(scratch.as_deref()).map(|()| command.spawn());
        let _ = tell.send(started);
    });
    match told.await {
        Ok(Ok(started)) => started.map_err(|source| unstarted(invocation, source)),
        Ok(Err(_)) | Err(_) => Err(CommandError::NoSandbox { program: invocation.program().to_owned() }),
    }
}

/// The kernel has one word for a program that is missing and for one whose interpreter is.
fn unstarted(invocation: &Invocation, source: std::io::Error) -> CommandError {
    let program = invocation.program().to_owned();
    let exists = if program.contains('/') {
        Path::new(&program).exists()
    } else {
        PATH.split(':').any(|folder| Path::new(folder).join(&program).exists())
    };
    match source.kind() {
        std::io::ErrorKind::NotFound if exists => {
            let source = std::io::Error::other("the interpreter in its first line is not there");
            CommandError::Start { program, source }
        }
        std::io::ErrorKind::NotFound => CommandError::NotFound { program },
        _other => CommandError::Start { program, source },
    }
}
