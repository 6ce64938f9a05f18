//! Programs of this machine, each in a process group of its own so that a time-out ends all of it.

use std::{os::unix::process::ExitStatusExt, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use super::sandbox;
use crate::ports::{CommandError, Commands, Invocation, Output};

pub struct SystemCommands;

/// Output beyond this is read and dropped.
const MOST_OUTPUT: usize = 16 * 1024 * 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[async_trait::async_trait]
impl Commands for SystemCommands {
    async fn run(&self, invocation: Invocation) -> Result<Output, CommandError> {
        // Lives until the program has ended.
        let scratch = invocation.scratch.then(scratch).transpose();
        let scratch =
            scratch.map_err(|source| CommandError::Start { program: invocation.program().to_owned(), source })?;
        let mut child = start(&invocation, scratch.as_ref().map(TempDir::path)).await?;
        let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
        let mut guard = KillGroup(group);
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let whole = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A program that does not read its input ends the pipe: its exit status tells.
                    let _ = stdin.write_all(&invocation.stdin).await;
                }
            };
            tokio::join!(feed, drain(stdout, &mut out), drain(stderr, &mut err));
            child.wait().await
        };
        let ended = tokio::time::timeout(invocation.timeout, whole).await;
        let status = match ended {
            Ok(Ok(status)) => status,
            Ok(Err(source)) => return Err(CommandError::Start { program: invocation.program().to_owned(), source }),
            Err(_elapsed) => {
                drop(guard);
                // The group is gone; the child itself still has to be waited for.
                let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
                let tail = Output { status: 0, stdout: out, stderr: err }.tail(3);
                let program = invocation.program().to_owned();
                return Err(CommandError::TimedOut { program, after: invocation.timeout, tail });
            }
        };
        guard.0 = None;
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Output { status, stdout: out, stderr: err })
    }
}

/// Kills the whole group when dropped, also when the step itself is dropped.
struct KillGroup(Option<rustix::process::Pid>);

impl Drop for KillGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

async fn drain(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        if into.len() < MOST_OUTPUT {
            into.extend_from_slice(&buffer[..read]);
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
        .stdin(if invocation.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// A folder of its own in the one that also a plan can write in.
fn scratch() -> std::io::Result<TempDir> {
    sandbox::make_scratch();
    tempfile::tempdir_in(sandbox::SCRATCH)
}

async fn start(invocation: &Invocation, scratch: Option<&Path>) -> Result<Child, CommandError> {
    let program = invocation.program().to_owned();
    let started = if invocation.read_only {
        // A thread of its own: the restriction is for good, and the child inherits it.
        let runtime = tokio::runtime::Handle::current();
        let mut command = command(invocation);
        if let Some(scratch) = scratch {
            command.env("TMPDIR", scratch);
        }
        let scratch = scratch.map(Path::to_path_buf);
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _inside = runtime.enter();
            let started = sandbox::without_writing(scratch.as_deref()).map(|()| command.spawn());
            let _ = tell.send(started);
        });
        match told.await {
            Ok(Ok(started)) => started,
            Ok(Err(_)) | Err(_) => return Err(CommandError::NoSandbox { program }),
        }
    } else {
        command(invocation).spawn()
    };
    started.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CommandError::NotFound { program },
        _other => CommandError::Start { program, source },
    })
}
