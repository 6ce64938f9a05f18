//! `[[hostname]]`: the difference of the live name and of the one for the next boot.

use muster_catalog::kinds::hostname::HostnameSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub live: String,
    /// The first name in `/etc/hostname`.
    pub kept: Option<String>,
    /// It is a member of a cluster, under the name that it has.
    pub member: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub live: bool,
    pub kept: bool,
    pub member: bool,
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

pub fn diff(spec: &HostnameSpec, observed: &Observed) -> Option<Change> {
    let live = observed.live != spec.name;
    let kept = observed.kept.as_ref() != Some(&spec.name);
    let mut detail = Vec::new();
    if live {
        detail.push(format!("{} → {}", observed.live, spec.name));
    }
    if kept {
        detail.push("kept over a boot".to_owned());
    }
    (live || kept).then_some(Change { live, kept, member: observed.member, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_live_and_kept() {
        let spec = HostnameSpec { name: "bastion".into() };
        let seen = Observed { live: "bastion".into(), kept: Some("bastion".into()), member: true };
        assert_eq!(diff(&spec, &seen), None);
        let change = diff(&spec, &Observed { live: "node-1".into(), kept: None, member: false }).unwrap();
        assert_eq!(change.detail, ["node-1 → bastion", "kept over a boot"]);
    }
}
