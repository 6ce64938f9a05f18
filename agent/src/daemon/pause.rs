//! A pause that an operator asked for: kept over restarts, and over by itself.

use std::path::{Path, PathBuf};

use crate::link::{DiskError, disk};

/// `state/pause`: seconds since the epoch, as text.
#[derive(Debug)]
pub(super) struct Pause {
    path: PathBuf,
    until: i64,
}

impl Pause {
    pub(super) fn load(state: &Path) -> Self {
        let path = state.join("pause");
        let until = match disk::read(&path) {
            Ok(bytes) => bytes.and_then(|bytes| String::from_utf8_lossy(&bytes).trim().parse().ok()).unwrap_or(0),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the pause cannot be read: there is none");
                0
            }
        };
        Self { path, until }
    }

    /// The end of the pause, where there is one now.
    pub(super) fn until(&self, now: i64) -> Option<i64> {
        (self.until > now).then_some(self.until)
    }

    /// 0 ends it. True if this changed something.
    pub(super) fn set(&mut self, until: i64) -> Result<bool, DiskError> {
        let changed = self.until != until;
        self.until = until;
        if !changed {
            return Ok(false);
        }
        if until == 0 {
            disk::remove(&self.path)?;
        } else {
            disk::write(&self.path, until.to_string().as_bytes(), 0o600)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_outlives_a_restart_and_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut pause = Pause::load(folder.path());
        assert_eq!(pause.until(100), None);
        assert!(pause.set(200).unwrap());
        assert!(!pause.set(200).unwrap());
        assert_eq!(Pause::load(folder.path()).until(100), Some(200));
        assert_eq!(Pause::load(folder.path()).until(200), None);
        pause.set(0).unwrap();
        assert_eq!(Pause::load(folder.path()).until(100), None);
    }
}
