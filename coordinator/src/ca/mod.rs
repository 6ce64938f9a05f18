//! The environment's own CA: who may speak, and which catalogs are the coordinator's.

mod authority;
mod keys;
mod rotation;

pub use authority::{Authority, CaError, Issued, LIFE, SKEW};
pub use rotation::{Rotation, RotationError, half_life};
