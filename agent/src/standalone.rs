//! One file of resources, without a site and without a coordinator: what `muster-agent apply FILE` reads.

use std::path::{Path, PathBuf};

use muster_catalog::{Catalog, Diagnostics, Facts, catalog::InvalidCatalog};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// All errors of it at once, each with its place.
    #[error("{0}")]
    Wrong(Diagnostics),
    #[error("{} is no catalog", .path.display())]
    Catalog {
        path: PathBuf,
        #[source]
        source: InvalidCatalog,
    },
}

/// Reads a file of `[[file]]`, `[[package]]` and so on as in a role, or a whole compiled catalog.
pub fn load(path: &Path, facts: &Facts) -> Result<Catalog, StandaloneError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| StandaloneError::Read { path: path.to_owned(), source })?;
    if text.lines().any(|line| line == "[[resource]]") {
        return Catalog::from_toml(&text).map_err(|source| StandaloneError::Catalog { path: path.to_owned(), source });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut read = |relative: &str| std::fs::read_to_string(folder.join(relative)).ok();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    muster_catalog::local(&name, &text, &mut read, facts).map_err(StandaloneError::Wrong)
}
