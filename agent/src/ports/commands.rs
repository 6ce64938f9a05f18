//! Programs, started with argument vectors and never through a shell.

use std::{collections::BTreeMap, time::Duration};

/// Runs programs.
#[async_trait::async_trait]
pub trait Commands: Send + Sync {
    /// Runs until the program itself ends, whatever children of its still hold open, and returns what came out until then, whatever
    /// the exit status. Past the time-out the whole process group is killed; children that outlive a program that ended are not.
    async fn run(&self, invocation: Invocation) -> Result<Output, CommandError>;
    /// The same, but once at a time under this name, which also finds it again after the agent was killed.
    async fn once(&self, name: &str, invocation: Invocation) -> Result<Once, CommandError>;
    /// The program that was started under this name and has not ended, by whichever agent: also by one that is gone.
    async fn under_way(&self, name: &str) -> Result<Option<Run>, CommandError>;
    /// Waits until the programs have ended that an agent which is gone left running: what they were to change is not changed before.
    /// Not for those with a name, nor for those that may take longer than [`Invocation::new`] gives them.
    async fn settled(&self) -> Result<(), CommandError>;
    /// Waits until that program has ended. False where it had not after `most`: then its process group was killed.
    async fn ended(&self, run: &Run, most: Duration) -> Result<bool, CommandError>;
}

/// What became of a program that runs once at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    Ended(Output),
    /// It runs already, so it was not started.
    UnderWay(Run),
}

/// A program under way that was started under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub name: String,
    /// The process, which leads a group of its own.
    pub pid: u32,
    /// When the process began, in the kernel's ticks since the boot: tells it from a later one with its number.
    pub ticks: u64,
    /// Seconds since it was started.
    pub age: u64,
}

/// One program run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to a small fixed environment (`PATH`, `LANG=C.UTF-8`, `HOME=/root`, and `MUSTER_RUN`, a token by which a later agent knows it).
    pub environment: BTreeMap<String, String>,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    /// Run without write access to any file (guards, plans).
    pub read_only: bool,
    /// With `read_only`: all the same a folder of its own to write in, empty, and gone after it (`TMPDIR`).
    pub scratch: bool,
}

impl Invocation {
    /// So long a program may take where nothing else is said.
    pub const SHORT: Duration = Duration::from_secs(300);

    /// With five minutes, no input and write access.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            stdin: Vec::new(),
            timeout: Self::SHORT,
            read_only: false,
            scratch: false,
        }
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = input.into();
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Gives it a folder to write in, whatever else it may not.
    pub fn scratch(mut self) -> Self {
        self.scratch = true;
        self
    }

    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

/// What a program left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 + N where signal N ended it.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn success(&self) -> bool {
        self.status == 0
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last lines of stderr, or of stdout where stderr is empty: for error messages.
    pub fn tail(&self, lines: usize) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        let stdout = String::from_utf8_lossy(&self.stdout);
        let text = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A program that gave no exit status.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("`{program}` is not installed")]
    NotFound { program: String },
    #[error("`{program}` cannot be started")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{program}` did not end within {} s and was killed{}", .after.as_secs(), tail_of(.tail))]
    TimedOut { program: String, after: Duration, tail: String },
    #[error("there is no way to run `{program}` without write access on this kernel")]
    NoSandbox { program: String },
}

fn tail_of(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("; its last words: {tail}") }
}
