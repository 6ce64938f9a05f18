//! The language: from a site of TOML to one flat catalog per node.
//!
//! Pure: text in, catalogs and diagnostics out. Files, clocks and facts are arguments.

pub mod apps;
pub mod catalog;
pub mod compile;
pub mod diagnostic;
pub mod kinds;
pub mod load;
pub mod role;
pub mod site;

pub use catalog::{Catalog, Resource};
pub use compile::{Facts, NodeInput, compile};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use kinds::Spec;
pub use load::load;
pub use site::{Site, SiteFiles};
