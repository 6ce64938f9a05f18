//! Runs programs, always as an argument vector and never through a shell.
//!
//! A long-running program writes into a log file, of which a failure shows the end: its output would otherwise drown the
//! progress display, or be lost.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a log a failure shows.
const TAIL_LINES: usize = 25;

/// A program to run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    shown: String,
}

impl Cmd {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        Self { command: Command::new(program), shown }
    }

    /// A program that takes minutes: it is told to end when the thread that waits for it does, as when we are killed. By
    /// `setpriv`, which Debian always has; without it the program goes on to its end.
    pub fn long(program: impl AsRef<OsStr>) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "TERM", "--"]).arg(program);
                Self { command, shown }
            }
            None => Self::new(program),
        }
    }

    /// As root: directly where we are root, else through `sudo`, which may ask for a password.
    pub fn as_root(program: &str) -> Self {
        if rustix::process::geteuid().is_root() { Self::new(program) } else { Self::new("sudo").arg(program) }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn stdin(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs with our own standard streams: for what the user should see as it comes.
    pub fn show(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Runs with all output into the log file `log`.
    pub fn log(mut self, log: &Path) -> Result<()> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        self.command.stdout(out.try_clone()?).stderr(out);
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            let text = std::fs::read(log).unwrap_or_default();
            let tail = tail(&String::from_utf8_lossy(&text), TAIL_LINES);
            bail!("`{}` failed ({status}); the end of {}:\n{tail}", shorten(&self.shown), log.display());
        }
        Ok(())
    }

    /// Runs and returns standard output as text.
    pub fn output(mut self) -> Result<String> {
        let output = self.command.output().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !output.status.success() {
            let tail = tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES);
            bail!("`{}` failed ({}): {tail}", shorten(&self.shown), output.status);
        }
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{}` printed something that is not UTF-8", self.shown))
    }

    /// Runs with standard output into a new file `to`.
    pub fn into_file(mut self, to: &Path) -> Result<()> {
        let out = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let output = self.command.stdout(out).stderr(Stdio::piped()).output();
        let output = output.with_context(|| format!("cannot start `{}`", self.shown))?;
        if !output.status.success() {
            bail!(
                "`{}` failed ({}): {}",
                shorten(&self.shown),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Whether it runs and succeeds; its output is dropped.
    pub fn succeeds(mut self) -> bool {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.command.status().is_ok_and(|status| status.success())
    }

    /// The command itself, for what the methods above do not cover.
    pub fn into_inner(self) -> Command {
        self.command
    }
}

/// Where `program` lies: on the PATH, or in a folder where Debian or Go put programs that a user's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/go/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// Our PATH with the folders of [`find`] added, for children that start programs themselves.
pub fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/go/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::join_paths(std::env::split_paths(&path).chain(more)).unwrap_or(path)
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn shorten(shown: &str) -> String {
    const MOST: usize = 160;
    match shown.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &shown[..end]),
        None => shown.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\n", 5), "a");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn a_long_one_ends_with_who_waits_for_it() {
        use std::os::unix::process::ExitStatusExt as _;
        let waiting = std::thread::spawn(|| {
            let mut command = Cmd::long("sh").args(["-c", "echo begun; exec sleep 60"]).into_inner();
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
            child
        });
        let status = waiting.join().unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(15), "{status}");
    }

    #[test]
    fn a_failure_shows_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cmd::new("ls").arg("/no/such/folder").log(&dir.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
