//! Authorization: one table says who may call what, and one gate stands before every service.

mod gate;
mod rules;
mod serve;

pub use gate::{ControlPlanes, Gate, peer};
pub use rules::{Deed, Rule, decide, role_for, rule};
pub use serve::serve;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
