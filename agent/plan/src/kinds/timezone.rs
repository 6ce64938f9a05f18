//! `[[timezone]]`: the difference of the link and of the name beside it.

use muster_catalog::kinds::timezone::TimezoneSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The node's tzdata has the zone.
    pub known: bool,
    /// Where `/etc/localtime` leads to, from the root; none where it is no link.
    pub link: Option<String>,
    /// What stands in `/etc/timezone`.
    pub name: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub link: bool,
    pub name: bool,
    pub known: bool,
    pub detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        Action::Change
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &TimezoneSpec, observed: &Observed) -> Option<Change> {
    let link = observed.link.as_deref() != Some(spec.zone().as_str());
    let name = observed.name.as_deref().map(str::trim) != Some(&spec.name);
    let old = observed.link.as_deref().and_then(|link| link.strip_prefix("/usr/share/zoneinfo/"));
    let old = old.unwrap_or("no zone by name");
    let detail = if link { format!("{old} → {}", spec.name) } else { format!("/etc/timezone says {}", spec.name) };
    (link || name).then(|| Change { link, name, known: observed.known, detail: vec![detail] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_and_the_name_beside_it_are_one_zone() {
        let spec = TimezoneSpec { name: "Europe/Zurich".into() };
        let seen = |zone: &str, name: &str| Observed {
            known: true,
            link: Some(format!("/usr/share/zoneinfo/{zone}")),
            name: Some(name.to_owned()),
        };
        assert_eq!(diff(&spec, &seen("Europe/Zurich", "Europe/Zurich\n")), None);
        let change = diff(&spec, &seen("Etc/UTC", "Europe/Zurich\n")).unwrap();
        assert!(change.link && !change.name);
        assert_eq!(change.detail, ["Etc/UTC → Europe/Zurich"]);
        assert!(diff(&spec, &seen("Europe/Zurich", "Etc/UTC\n")).is_some_and(|change| change.name && !change.link));
        assert!(diff(&spec, &Observed::default()).is_some());
    }
}
