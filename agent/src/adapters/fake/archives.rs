//! Archives in memory: one is known by its path and has a digest, and unpacked is but a word for a folder.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_plan::kinds::archive::{Origin, There, Unpacked};

use crate::ports::{ArchiveError, Archives};

#[derive(Default)]
pub struct FakeArchives {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Digests by the archive's path.
    archives: BTreeMap<String, String>,
    folders: BTreeMap<String, There>,
}

impl FakeArchives {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An archive with this SHA-256 is at the path.
    pub fn put(&self, path: &str, sha256: &str) {
        self.lock().archives.insert(path.to_owned(), sha256.to_owned());
    }

    /// Somebody's own folder.
    pub fn put_folder(&self, folder: &str) {
        self.lock().folders.insert(folder.to_owned(), There::Other);
    }
}

impl Archives for FakeArchives {
    fn look(&self, folder: &str) -> Result<There, ArchiveError> {
        Ok(self.lock().folders.get(folder).cloned().unwrap_or_default())
    }

    fn unpack(&self, archive: &str, folder: &str, from: &Origin) -> Result<(), ArchiveError> {
        let mut state = self.lock();
        let found = state.archives.get(archive).cloned().unwrap_or_default();
        if found != from.sha256 {
            return Err(ArchiveError::Digest { found, wanted: from.sha256.clone() });
        }
        let unpacked = Unpacked { from: from.clone(), ..Unpacked::default() };
        state.folders.insert(folder.to_owned(), There::Unpacked(unpacked));
        Ok(())
    }

    fn remove(&self, folder: &str) -> Result<(), ArchiveError> {
        self.lock().folders.remove(folder);
        Ok(())
    }

    fn left(&self, _folder: &str) -> Result<bool, ArchiveError> {
        Ok(false)
    }

    fn clear(&self, _folder: &str) -> Result<(), ArchiveError> {
        Ok(())
    }
}
