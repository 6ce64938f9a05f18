//! `[[user]]`: the difference of an account.

use std::collections::BTreeSet;

use muster_catalog::kinds::user::UserSpec;

use super::Describe;
use crate::row::Action;

/// The account, where there is one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Account>,
    /// A group of the user's own name exists already, so that useradd must take it instead of making it.
    pub own_group: bool,
}

/// An account as the system has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    pub uid: u32,
    /// The primary group's name.
    pub group: String,
    /// Further groups.
    pub groups: BTreeSet<String>,
    pub home: String,
    pub shell: String,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Create {
        own_group: bool,
    },
    /// usermod's options and values, in order.
    Modify {
        options: Vec<(String, String)>,
        detail: Vec<String>,
    },
    Remove,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Create { .. } => Action::Create,
            Self::Modify { .. } => Action::Change,
            Self::Remove => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        match self {
            Self::Create { .. } | Self::Remove => Vec::new(),
            Self::Modify { detail, .. } => detail.clone(),
        }
    }
}

pub fn diff(spec: &UserSpec, observed: &Observed) -> Option<Change> {
    let Some(current) = &observed.current else {
        return (!spec.absent).then_some(Change::Create { own_group: observed.own_group });
    };
    if spec.absent {
        return Some(Change::Remove);
    }
    let mut options = Vec::new();
    let mut detail = Vec::new();
    let mut change = |option: &str, what: &str, old: String, new: String| {
        if old != new {
            detail.push(format!("{what} {old} → {new}"));
            options.push((option.to_owned(), new));
        }
    };
    if let Some(uid) = spec.uid {
        change("--uid", "uid", current.uid.to_string(), uid.to_string());
    }
    if let Some(group) = &spec.group {
        change("--gid", "group", current.group.clone(), group.clone());
    }
    let wanted: BTreeSet<String> = spec.groups.iter().cloned().collect();
    let list = |groups: &BTreeSet<String>| groups.iter().cloned().collect::<Vec<_>>().join(",");
    change("--groups", "groups", list(&current.groups), list(&wanted));
    if let Some(home) = &spec.home {
        change("--home", "home", current.home.clone(), home.clone());
    }
    if let Some(shell) = &spec.shell {
        change("--shell", "shell", current.shell.clone(), shell.clone());
    }
    if options.is_empty() { None } else { Some(Change::Modify { options, detail }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_is_compared() {
        let spec = UserSpec {
            name: "app".into(),
            uid: None,
            group: None,
            groups: vec!["docker".into(), "adm".into()],
            home: None,
            shell: Some("/bin/bash".into()),
            system: false,
            absent: false,
        };
        let groups = ["adm".to_owned(), "docker".to_owned()].into();
        let account = Account { uid: 1003, group: "app".into(), groups, home: "/srv".into(), shell: "/bin/sh".into() };
        let observed = Observed { current: Some(account), own_group: true };
        let Some(Change::Modify { options, .. }) = diff(&spec, &observed) else { panic!() };
        assert_eq!(options, [("--shell".to_owned(), "/bin/bash".to_owned())]);
    }
}
