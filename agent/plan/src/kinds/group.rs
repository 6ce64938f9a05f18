//! `[[group]]`: the difference of a group.

use muster_catalog::kinds::group::GroupSpec;

use super::Describe;
use crate::row::Action;

/// The group's id, where there is one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub gid: Option<u32>,
    /// It is not in `/etc/group`: a directory service has it, and only there it can be changed.
    pub foreign: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Create,
    Gid {
        from: u32,
        to: u32,
    },
    Remove,
    /// It differs, and is another's to change.
    Foreign(Box<Change>),
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Create => Action::Create,
            Self::Gid { .. } => Action::Change,
            Self::Remove => Action::Remove,
            Self::Foreign(change) => change.action(),
        }
    }

    fn detail(&self) -> Vec<String> {
        match self {
            Self::Create | Self::Remove => Vec::new(),
            Self::Gid { from, to } => vec![format!("gid {from} → {to}; files keep number {from}")],
            Self::Foreign(change) => std::iter::once(super::user::FOREIGN.to_owned()).chain(change.detail()).collect(),
        }
    }
}

pub fn diff(spec: &GroupSpec, observed: &Observed) -> Option<Change> {
    let change = local(spec, observed)?;
    Some(if observed.foreign { Change::Foreign(Box::new(change)) } else { change })
}

fn local(spec: &GroupSpec, observed: &Observed) -> Option<Change> {
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
        let seen = Observed { gid: Some(7), foreign: false };
        assert_eq!(diff(&spec, &seen), None);
        let fixed = GroupSpec { gid: Some(8), ..spec };
        let change = Change::Gid { from: 7, to: 8 };
        assert_eq!(diff(&fixed, &seen), Some(change.clone()));
        let foreign = Observed { foreign: true, ..seen };
        assert_eq!(diff(&fixed, &foreign), Some(Change::Foreign(Box::new(change))));
        assert_eq!(diff(&GroupSpec { gid: Some(7), ..fixed }, &foreign), None);
    }
}
