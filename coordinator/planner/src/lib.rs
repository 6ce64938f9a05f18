//! Pure: policy, inventory, parent blueprint, now and seed in; blueprint and report out.

pub mod blueprint;
pub mod inventory;

pub use blueprint::Blueprint;
pub use inventory::Inventory;
