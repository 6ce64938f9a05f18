//! Programs, started with argument vectors and never through a shell.

use std::{collections::BTreeMap, time::Duration};

/// Runs programs.
#[async_trait::async_trait]
pub trait Commands: Send + Sync {
    /// Runs to the end and returns what came out, whatever the exit status. Past the time-out the whole process group is killed.
    async fn run(&self, invocation: Invocation) -> Result<Output, CommandError>;
}

/// One program run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to a small fixed environment (`PATH`, `LANG=C.UTF-8`, `HOME=/root`).
    pub environment: BTreeMap<String, String>,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    /// Run without write access to any file (guards, plans).
    pub read_only: bool,
    /// With `read_only`: all the same a folder of its own to write in, empty, and gone after it (`TMPDIR`).
    pub scratch: bool,
}

impl Invocation {
    /// With five minutes, no input and write access.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            stdin: Vec::new(),
            timeout: Duration::from_secs(300),
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
