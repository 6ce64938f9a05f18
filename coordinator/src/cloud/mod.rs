//! The cloud port and its adapters: `docker`, `fake`.

mod port;

pub use port::{Bootstrap, Cloud, CloudError, Proof};
