//! `[[package]]`: the difference of version and hold.

use muster_catalog::kinds::package::PackageSpec;

use super::Describe;
use crate::row::Action;

/// The package as dpkg knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// None where it is not installed, whatever configuration it left.
    pub version: Option<String>,
    /// Unpacked and configured. False where a run of dpkg was cut off.
    pub complete: bool,
    pub hold: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub from: Option<String>,
    pub install: bool,
    pub remove: bool,
    /// A hold to set or to lift.
    pub hold: Option<bool>,
    /// As asked for, for people.
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
            hold: observed.hold.then_some(false),
            wanted: None,
        });
    }
    let right = observed.complete
        && observed
            .version
            .as_ref()
            .is_some_and(|version| spec.version.as_ref().is_none_or(|wanted| matches(wanted, version)));
    let hold = (spec.hold != observed.hold).then_some(spec.hold);
    if right && hold.is_none() {
        return None;
    }
    Some(Change { from: observed.version.clone(), install: !right, remove: false, hold, wanted: spec.version.clone() })
}

/// Whether a version is the one asked for: equal, or with the pattern's beginning where it ends in `*`.
pub fn matches(wanted: &str, version: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => version.starts_with(beginning),
        None => version == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(version: Option<&str>, hold: bool) -> PackageSpec {
        PackageSpec { name: "kubelet".into(), version: version.map(Into::into), hold, absent: false }
    }

    #[test]
    fn a_pattern_ends_in_a_star() {
        assert!(matches("1.34.4-*", "1.34.4-1.1"));
        assert!(!matches("1.34.4-*", "1.34.40-1.1"));
        assert!(!matches("1.34.4", "1.34.4-1.1"));
    }

    #[test]
    fn half_installed_is_not_installed() {
        let half = Observed { version: Some("1.34.4-1.1".into()), complete: false, hold: false };
        assert!(diff(&spec(Some("1.34.4-*"), false), &half).unwrap().install);
        let whole = Observed { complete: true, ..half };
        assert_eq!(diff(&spec(Some("1.34.4-*"), false), &whole), None);
        let held = diff(&spec(None, true), &whole).unwrap();
        assert_eq!((held.install, held.hold), (false, Some(true)));
    }
}
