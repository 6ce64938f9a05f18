//! `[[image]]`: whether it has to be pulled.

use muster_catalog::kinds::image::ImageSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub there: bool,
}

/// It would be pulled.
#[derive(Debug, Clone, PartialEq)]
pub struct Change;

impl Describe for Change {
    fn action(&self) -> Action {
        Action::Create
    }

    fn detail(&self) -> Vec<String> {
        Vec::new()
    }
}

pub fn diff(_spec: &ImageSpec, observed: &Observed) -> Option<Change> {
    (!observed.there).then_some(Change)
}
