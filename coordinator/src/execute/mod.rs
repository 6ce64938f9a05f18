//! The executor: takes a blueprint's steps, decides nothing, repeats nothing.

mod intents;
mod run;
#[cfg(test)]
mod tests;
pub mod user_data;

pub use intents::{IntentError, Intents};
pub use run::{Outcome, StepReport, execute};
