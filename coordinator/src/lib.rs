//! The coordinator: API, authorization, CA, store, cloud adapters, tasks; and the library behind the command `muster`.

pub mod cloud;
pub mod store;
