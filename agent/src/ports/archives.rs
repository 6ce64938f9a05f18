//! Archives and the folders that they are unpacked into. Synchronous: called from threads that may block.

use std::path::PathBuf;

use muster_plan::kinds::archive::{Origin, There};

use super::FileError;

/// Unpacks archives. Where somebody else than root may put names into a folder, no link in it or below it is followed.
pub trait Archives: Send + Sync {
    /// What is at a folder's path. Reads only; mounts in it are not crossed.
    fn look(&self, folder: &str) -> Result<There, ArchiveError>;
    /// Puts what a tar archive holds in the folder's place: all of it or nothing. `from` says what digest it must have and how it is
    /// unpacked.
    fn unpack(&self, archive: &str, folder: &str, from: &Origin) -> Result<(), ArchiveError>;
    /// Removes the folder with all in it: at once by its name, whatever becomes of us meanwhile.
    fn remove(&self, folder: &str) -> Result<(), ArchiveError>;
    /// Whether one of these was cut off and left something beside the folder.
    fn left(&self, folder: &str) -> Result<bool, ArchiveError>;
    /// Removes that.
    fn clear(&self, folder: &str) -> Result<(), ArchiveError>;
}

/// An archive that was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive has the SHA-256 {found}, and {wanted} was asked for")]
    Digest { found: String, wanted: String },
    /// "`../x` leads out of it"
    #[error("the archive is refused: {why}")]
    Refused { why: String },
    #[error("the archive cannot be read as tar or tar.gz{}", if kind.is_empty() { String::new() } else { format!(": it is {kind}") })]
    Format {
        /// What it looks like, where that is known.
        kind: &'static str,
        #[source]
        source: Option<std::io::Error>,
    },
    /// "/opt/tool holds something that no archive brought"
    #[error("{} holds something that no archive brought", .path.display())]
    Taken { path: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<ArchiveError> for crate::StepError {
    fn from(error: ArchiveError) -> Self {
        let message = error.to_string();
        match error {
            ArchiveError::Digest { .. } => Self::failed(message)
                .help("nothing was unpacked: find out who changed it before you write the new digest"),
            ArchiveError::Refused { .. } => {
                Self::failed(message).help("nothing was unpacked: make one that keeps to its own folder")
            }
            ArchiveError::Format { source, .. } => {
                let step = Self::failed(message).help("make it with `tar --create --gzip`");
                match source {
                    Some(source) => step.because(source),
                    None => step,
                }
            }
            ArchiveError::Taken { .. } => Self::failed(message)
                .help("nothing was changed: move it away by hand, or name another folder for the archive"),
            ArchiveError::File(error) => error.into(),
        }
    }
}
