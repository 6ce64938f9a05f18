//! The store port: one root record per environment, changed by compare-and-set, over immutable content-addressed objects.

#[cfg(test)]
mod contract;
mod memory;
mod port;
mod sqlite;

pub use memory::Memory;
pub use port::{Store, StoreError, Version};
pub use sqlite::Sqlite;
