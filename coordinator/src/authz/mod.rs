//! Authorization: one table says who may call what, another how often, and one gate stands before every service.

mod gate;
mod limits;
mod rules;
mod serve;

pub use gate::{ControlPlanes, Gate, peer};
pub use limits::{Limits, TooOften};
pub use rules::{Deed, Rule, decide, role_for, rule};
pub use serve::serve;

#[cfg(test)]
mod crowd;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
