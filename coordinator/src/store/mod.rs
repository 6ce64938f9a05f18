//! The store port: one root record per environment, changed by compare-and-set, over immutable content-addressed objects.

mod port;

pub use port::{Store, StoreError, Version};
