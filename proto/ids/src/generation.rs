//! Generations guard every write: a receiver refuses an older one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// (epoch, counter), ordered by epoch first. Recovery of a coordinator raises the epoch, so that what an older
/// backup publishes still counts as newer than what agents saw before. Rolling back publishes old content as a *new* generation.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    pub epoch: u32,
    pub counter: u64,
}

impl Generation {
    pub fn next(self) -> Self {
        Self { counter: self.counter + 1, ..self }
    }

    /// The first generation of the next epoch, after a recovery.
    pub fn next_epoch(self) -> Self {
        Self { epoch: self.epoch + 1, counter: self.counter + 1 }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_newer_than_all_before() {
        let old = Generation { epoch: 1, counter: 900 };
        let restored = Generation { epoch: 1, counter: 7 };
        assert!(restored.next_epoch() > old);
        assert!(old.next() > old);
    }
}
