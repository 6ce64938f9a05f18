//! `[[package]]`: the difference of version and hold. What apt would do to make it, and whether it may, is in [`transaction`].

use muster_catalog::kinds::package::PackageSpec;

use super::Describe;
use crate::row::Action;

#[cfg(test)]
mod tests;
pub mod transaction;

/// The package as dpkg knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// None where it is not installed, whatever configuration it left.
    pub version: Option<String>,
    /// Unpacked and configured. False where a run of dpkg was cut off.
    pub complete: bool,
    pub hold: bool,
    /// The newest version that the indexes have, where the newest is asked for and they have any.
    pub candidate: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub from: Option<String>,
    pub install: bool,
    pub remove: bool,
    /// A hold to set or to lift.
    pub hold: Option<bool>,
    /// A hold that the change of version would take away, and that stays.
    pub keep_hold: bool,
    /// The version or pattern to ask apt for; none: the newest.
    pub wanted: Option<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match (self.remove, self.install, &self.from) {
            (true, _, _) => Action::Remove,
            (false, true, None) => Action::Create,
            (false, _, _) => Action::Change,
        }
    }

    fn detail(&self) -> Vec<String> {
        let mut detail = Vec::new();
        if self.install {
            detail.push(match (&self.from, &self.wanted) {
                (Some(from), Some(wanted)) if matches(wanted, from) => format!("version {from} is half installed"),
                (Some(from), Some(wanted)) => format!("version {from} → {wanted}"),
                (Some(from), None) => format!("version {from} is half installed"),
                (None, Some(wanted)) => format!("version {wanted}"),
                (None, None) => "newest version".to_owned(),
            });
        }
        match self.hold {
            Some(true) => detail.push("hold".to_owned()),
            Some(false) => detail.push("no longer held".to_owned()),
            None => {}
        }
        detail
    }
}

pub fn diff(spec: &PackageSpec, observed: &Observed) -> Option<Change> {
    if spec.absent {
        return observed.version.as_ref().map(|from| Change {
            from: Some(from.clone()),
            install: false,
            remove: true,
            hold: None,
            keep_hold: false,
            wanted: None,
        });
    }
    // Where the indexes have none, what is installed is the newest there is.
    let wanted = if spec.latest() { observed.candidate.clone() } else { spec.version.clone() };
    let right = observed.complete
        && observed
            .version
            .as_ref()
            .is_some_and(|version| wanted.as_ref().is_none_or(|wanted| matches(wanted, version)));
    let hold = spec.hold.filter(|&hold| hold != observed.hold);
    if right && hold.is_none() {
        return None;
    }
    let keep_hold = !right && observed.hold && spec.hold != Some(false);
    Some(Change { from: observed.version.clone(), install: !right, remove: false, hold, keep_hold, wanted })
}

/// The indexes have a newer version than the one that was newest before: nobody changed anything on the node.
pub fn is_newer(spec: &PackageSpec, change: &Change) -> bool {
    spec.latest() && change.install && change.from.is_some() && change.wanted != change.from
}

/// Whether a version is the one asked for: equal, or with the pattern's beginning where it ends in `*`.
pub fn matches(wanted: &str, version: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => version.starts_with(beginning),
        None => version == wanted,
    }
}
