//! Conversions of wire types whose domain type is an id; all others live with their consumers.

use muster_ids::Generation;

use crate::v1;

impl From<Generation> for v1::Generation {
    fn from(generation: Generation) -> Self {
        Self { epoch: generation.epoch, counter: generation.counter }
    }
}

impl From<v1::Generation> for Generation {
    fn from(generation: v1::Generation) -> Self {
        Self { epoch: generation.epoch, counter: generation.counter }
    }
}
