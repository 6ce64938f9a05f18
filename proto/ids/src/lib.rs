//! Newtypes of every id, so that a node's name is never taken for a pool's.
//!
//! Pure: no IO, no clock, no randomness. Every name is checked where it enters (parse, don't validate).

mod digest;
mod generation;
mod names;
mod resource;

pub use digest::Digest;
pub use generation::Generation;
pub use names::{
    AppName, ClusterName, DiskName, EndpointName, EnvName, InvalidName, NodeName, OperatorName, PoolName, RoleName,
};
pub use resource::{InvalidResourceId, ResourceId};
