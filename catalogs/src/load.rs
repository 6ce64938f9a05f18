//! From files to a valid site, collecting every error.

use muster_ids::EnvName;

use crate::{
    diagnostic::Diagnostics,
    site::{Site, SiteFiles},
};

/// Reads a site for one environment. All errors at once.
pub fn load(files: &SiteFiles, environment: &EnvName) -> Result<Site, Diagnostics> {
    let _ = (files, environment);
    unimplemented!("LANG")
}
