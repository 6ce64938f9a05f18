//! The coordinator: API, authorization, CA, store, cloud adapters, tasks; and the library behind the command `muster`.

pub mod api;
pub mod app;
pub mod authz;
pub mod backup;
pub mod backups;
pub mod ca;
pub mod cli;
pub mod cloud;
pub mod cluster;
pub mod context;
pub mod enrol;
pub mod events;
pub mod execute;
pub mod library;
pub mod local;
pub mod plan;
pub mod publish;
pub mod secrets;
pub mod state;
pub mod status;
pub mod store;
pub mod tasks;
pub mod tickets;
pub mod turns;
pub mod wire;
