//! The ports' contracts, fake and real side by side, and the agent's program on a real node.
//!
//! What changes a machine runs in a container of the node image, and is left out unless it is asked for: those tests are ignored
//! ones, and fail loudly where Docker or the artefacts are missing.

mod accounts;
mod apply;
mod archives;
mod commands;
mod containers;
mod contract;
mod errors;
mod files;
mod generated;
mod kills;
mod lab;
mod mounts;
mod packages;
mod services;
mod settings;
mod timers;
