//! A backup before each apply, kept beside the state: what an apply did to the state can be taken back.
//!
//! Backups are sealed to recovery keys, and only an admin knows which: those of the last backup that was asked for are
//! remembered, and until there was one nothing is kept, because a backup in clear would be one more place for every
//! secret. On the state's own disk they are no help where that is lost: for that, fetch them away, or ask for one.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path};

use crate::{
    backup::{self, BackupError, Manifest},
    secrets::write_durably,
};

/// Whom the last backup was sealed to, in the state folder.
const RECIPIENTS: &str = "recovery-recipients.json";
/// In the state folder.
const FOLDER: &str = "backups";
/// How many are kept.
const KEEP: usize = 5;

/// Remembers whom an asked-for backup was sealed to. Public keys, in age's text form.
pub fn remember(folder: &Path, recipients: &[String]) -> Result<(), BackupError> {
    let json = serde_json::to_vec(recipients).expect("texts are JSON");
    write_durably(folder, RECIPIENTS, &json).map_err(backup::at(&folder.join(RECIPIENTS)))
}

/// Whether anybody is known who could open one.
pub fn wanted(folder: &Path) -> bool {
    folder.join(RECIPIENTS).exists()
}

/// Takes one and removes the oldest beyond those that are kept. Returns its path under the state folder; none where
/// nobody is known who could open it.
pub fn take(folder: &Path, manifest: &Manifest) -> Result<Option<String>, BackupError> {
    let known = folder.join(RECIPIENTS);
    let texts: Vec<String> = match fs::read(&known) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| BackupError::Damaged(error.into()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(backup::at(&known)(error)),
    };
    let recipients = backup::recipients(&texts)?;
    let backups = folder.join(FOLDER);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&backups).map_err(backup::at(&backups))?;
    let path = backups.join(format!("{:012}.age", manifest.taken));
    // Of its own name: two may be taken at once.
    let unfinished = tempfile::NamedTempFile::new_in(&backups).map_err(backup::at(&backups))?;
    backup::write(folder, manifest, &recipients, unfinished.as_file())?;
    unfinished.as_file().sync_all().map_err(backup::at(&path))?;
    unfinished.persist(&path).map_err(|error| backup::at(&path)(error.error))?;
    fs::File::open(&backups).and_then(|folder| folder.sync_all()).map_err(backup::at(&backups))?;
    forget_oldest(&backups).map_err(backup::at(&backups))?;
    Ok(Some(format!("{FOLDER}/{:012}.age", manifest.taken)))
}

fn forget_oldest(backups: &Path) -> io::Result<()> {
    let mut all: Vec<_> = fs::read_dir(backups)?.collect::<io::Result<Vec<_>>>()?.iter().map(|e| e.path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "age"));
    // Names are times: the oldest first.
    all.sort();
    let surplus = all.len().saturating_sub(KEEP);
    all.iter().take(surplus).try_for_each(fs::remove_file)
}
