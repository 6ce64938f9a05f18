//! The agent: observe, plan, converge, report. `main → app → {daemon, converge} → kinds → ports ← adapters`; only `app` names
//! a concrete adapter, and `dry` the sandbox.

pub mod adapters;
pub mod app;
pub mod cli;
pub mod cluster;
pub mod context;
pub mod converge;
pub mod daemon;
pub mod drift;
pub mod dry;
pub mod error;
pub mod facts;
pub mod install;
pub mod kinds;
pub mod ledger;
pub mod link;
pub mod ports;
pub mod service;
pub mod standalone;
pub mod temporary;

pub use context::{Context, Owner, Scope};
pub use error::{Done, Failure, StepError};
