//! The three files of the CA: `ca/root.key` and `ca/catalog.key`, mode 0600 in a folder of mode 0700, and `ca/root.pem`.
//!
//! The keys are written before the certificate, and the certificate last: a crash in between leaves no certificate, and
//! the next start begins anew without anyone having trusted the first.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// A file of the CA could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
pub struct KeyFileError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyFileError + '_ {
    |source| KeyFileError { path: path.to_owned(), source }
}

/// The folder, for its owner alone.
pub(super) fn folder(path: &Path) -> Result<(), KeyFileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(at(path))
}

/// A file's text, if it is there.
pub(super) fn read(path: &Path) -> Result<Option<String>, KeyFileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Writes whole or not at all: a temporary file, synced, renamed, and the folder synced.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), KeyFileError> {
    let temporary = path.with_extension("new");
    let whole = || {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    whole().map_err(at(path))
}
