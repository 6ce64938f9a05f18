//! `[[group]]`: the difference of a group.

use muster_catalog::kinds::group::GroupSpec;

use super::Describe;
use crate::row::Action;

/// The group's id, where there is one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub gid: Option<u32>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Create,
    Gid { from: u32, to: u32 },
    Remove,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Create => Action::Create,
            Self::Gid { .. } => Action::Change,
            Self::Remove => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        match self {
            Self::Create | Self::Remove => Vec::new(),
            Self::Gid { from, to } => vec![format!("gid {from} → {to}")],
        }
    }
}

pub fn diff(spec: &GroupSpec, observed: &Observed) -> Option<Change> {
    match (observed.gid, spec.absent) {
        (None, false) => Some(Change::Create),
        (None, true) => None,
        (Some(_), true) => Some(Change::Remove),
        (Some(from), false) => match spec.gid {
            Some(to) if to != from => Some(Change::Gid { from, to }),
            Some(_) | None => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_a_number_takes_any() {
        let spec = GroupSpec { name: "app".into(), gid: None, system: false, absent: false };
        assert_eq!(diff(&spec, &Observed { gid: Some(7) }), None);
        let fixed = GroupSpec { gid: Some(8), ..spec };
        assert_eq!(diff(&fixed, &Observed { gid: Some(7) }), Some(Change::Gid { from: 7, to: 8 }));
    }
}
