//! Holds over a change of version: dpkg takes the mark away with it. Which are to be set again stands in a file from before the
//! change until they are, so that an agent that is killed between loses none, those of people neither.

use crate::ports::{FileError, Invocation, PackageError};

/// Names of packages, a line each.
const HOLDS: &str = "/var/lib/muster-agent/holds";

impl super::Apt {
    /// Marks them in dpkg's selections: `hold`, or `install` for none.
    pub(super) async fn mark(&self, names: &[String], word: &str) -> Result<(), PackageError> {
        if names.is_empty() {
            return Ok(());
        }
        let list: String = names.iter().map(|name| format!("{name} {word}\n")).collect();
        self.checked(Invocation::new(["dpkg", "--set-selections"]).stdin(list)).await.map(drop)
    }

    /// Writes down what has to be held when the change is done.
    pub(super) fn owe_holds(&self, names: &[String]) -> Result<(), PackageError> {
        if names.is_empty() {
            return Ok(());
        }
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        self.files.write(HOLDS, list.as_bytes(), 0o600, 0, 0).map_err(failed)
    }

    /// What an earlier run wrote down and did not set.
    pub(super) fn owed_holds(&self) -> Vec<String> {
        let text = self.files.read(HOLDS).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Holds those of them that are installed, and forgets all of them.
    pub(super) async fn pay_holds(&self, names: &[String]) -> Result<(), PackageError> {
        if names.is_empty() {
            return Ok(());
        }
        let known = self.read_known().await?;
        let there =
            |name: &&String| known.get(name).is_some_and(|package| !package.version.is_empty() && !package.hold);
        let there: Vec<String> = names.iter().filter(there).cloned().collect();
        self.mark(&there, "hold").await?;
        self.files.remove(HOLDS, false).map_err(failed)
    }
}

fn failed(error: FileError) -> PackageError {
    match error.source.kind() {
        std::io::ErrorKind::StorageFull => PackageError::DiskFull,
        _other => PackageError::Failed { program: HOLDS.to_owned(), tail: format!("{error}: {}", error.source) },
    }
}
