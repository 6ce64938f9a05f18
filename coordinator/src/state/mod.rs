//! What the coordinator knows: the root record (decisions, in the store, compare-and-set) and the local side
//! (reports, facts, events; rebuilt from agents when lost).

mod identity;
mod local;
mod root;
mod writer;

pub use local::{Issued, Local, LocalError, NodeView, Usage};
pub use root::{Pause, Publication, Rollout, RolloutState, Root, RootError, UserRecord};
pub use writer::{State, StateError};
