//! A command that follows until it is interrupted.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    process::{Child, Command},
};

use anyhow::ensure;

/// One that runs. Its output goes to a file: a pipe that nobody reads would hold it up.
pub struct Watched {
    child: Child,
    out: File,
}

impl Watched {
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let out = tempfile::tempfile()?;
        let child = command.stdout(out.try_clone()?).spawn()?;
        Ok(Self { child, out })
    }

    /// What it said by now.
    pub fn said(&self) -> anyhow::Result<String> {
        // By offset: the place in the file is the child's too.
        let length = usize::try_from(self.out.metadata()?.len())?;
        let mut bytes = vec![0; length];
        self.out.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Interrupts it, as Ctrl-C does, and returns all that it said. An error where it had ended before, or ends badly.
    pub fn interrupt(mut self) -> anyhow::Result<String> {
        ensure!(self.child.try_wait()?.is_none(), "it ended by itself:\n{}", self.said()?);
        super::lab::run("kill", &["-INT", &self.child.id().to_string()])?;
        let status = self.child.wait()?;
        ensure!(status.success(), "interrupted, it ended with {status}");
        self.said()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // No error where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
