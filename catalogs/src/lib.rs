//! The language: from a site of TOML to one flat catalog per node.
//!
//! Pure: text in, catalogs and diagnostics out. Files, clocks and facts are arguments.

pub mod apps;
mod calendar;
pub mod catalog;
pub mod compile;
pub mod diagnostic;
mod files;
mod formats;
mod graph;
pub mod kinds;
pub mod load;
mod local;
pub mod merge;
pub mod packed;
pub mod reference;
pub mod role;
pub mod schema;
mod shape;
pub mod site;
mod tables;
mod template;
pub mod tree;
mod trial;
pub mod unit;

pub use catalog::{Catalog, Resource};
pub use compile::{Facts, NodeInput, compile};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use files::{Binary, SiteFiles};
pub use kinds::Spec;
pub use load::{load, load_all};
pub use local::{Read, local};
pub use site::Site;
