//! One plan from three planes: what an apply of this site would do in the cloud, on the nodes and in the cluster.
//!
//! Rows come from the planner (cloud) and from the agents (node and cluster), which plan a signed draft that can never
//! be applied. [`SavedPlan`] is what people see and what `apply` is held to; [`render`] puts it into words.

mod compare;
mod fixed;
#[cfg(test)]
pub(crate) mod fixture;
mod input;
mod leaves;
mod make;
mod render;
mod saved;
#[cfg(test)]
mod tests;

pub use compare::{differences, overtaken};
pub use fixed::refuse_fixed;
pub use input::{assumed_facts, node_inputs};
pub use make::{PlanError, Planned, plan};
pub(crate) use render::ago;
pub use render::{render, summary};
pub use saved::{Counts, NodePart, NodeSection, SavedPlan};
