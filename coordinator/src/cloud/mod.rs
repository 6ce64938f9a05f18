//! The cloud port and its adapters: `docker`, `fake`.

#[cfg(test)]
mod contract;
pub mod docker;
pub mod fake;
pub mod haproxy;
#[cfg(test)]
mod patient;
mod port;

pub use port::{Answer, Bootstrap, Cloud, CloudError, Proof, Served};
