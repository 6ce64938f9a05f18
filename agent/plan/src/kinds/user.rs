//! `[[user]]`: the difference of an account.

use std::collections::BTreeSet;

use muster_catalog::kinds::user::UserSpec;

use super::Describe;
use crate::row::Action;

/// Said of what a directory service has.
pub(super) const FOREIGN: &str =
    "it is not in this node's own files: a directory service has it, and only there it can be changed";

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Account>,
    /// A group of the user's own name exists already, so that useradd must take it instead of making it.
    pub own_group: bool,
    /// What userdel does with that group.
    pub takes: Takes,
    /// Processes that run as the user, as in `812 (sleep)`. Looked for where they are in the way.
    pub processes: Vec<String>,
    /// It is not in `/etc/passwd`: a directory service has it, and only there it can be changed.
    pub foreign: bool,
}

/// What becomes of the group of a user's own name when the user is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Takes {
    /// There is none, or userdel leaves it: others are in it, or it is not the user's primary one.
    #[default]
    Nothing,
    /// userdel takes it along.
    Group,
    /// userdel would take it along, and a resource keeps it.
    KeptGroup,
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
        detail: Vec<String>,
    },
    /// usermod's options and values, in order.
    Modify {
        options: Vec<(String, String)>,
        detail: Vec<String>,
    },
    Remove {
        takes: Takes,
        detail: Vec<String>,
    },
    /// It differs, and is another's to change.
    Foreign(Box<Change>),
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Create { .. } => Action::Create,
            Self::Modify { .. } => Action::Change,
            Self::Remove { .. } => Action::Remove,
            Self::Foreign(change) => change.action(),
        }
    }

    fn detail(&self) -> Vec<String> {
        match self {
            Self::Create { detail, .. } | Self::Modify { detail, .. } | Self::Remove { detail, .. } => detail.clone(),
            Self::Foreign(change) => std::iter::once(FOREIGN.to_owned()).chain(change.detail()).collect(),
        }
    }
}

pub fn diff(spec: &UserSpec, observed: &Observed) -> Option<Change> {
    let change = match (&observed.current, spec.absent) {
        (None, true) => return None,
        (None, false) => create(spec, observed),
        (Some(current), true) => remove(spec, observed, current),
        (Some(current), false) => modify(spec, observed, current)?,
    };
    Some(if observed.foreign { Change::Foreign(Box::new(change)) } else { change })
}

fn create(spec: &UserSpec, observed: &Observed) -> Change {
    let mut detail = Vec::new();
    let mut say = |what: &str, value: Option<String>| detail.extend(value.map(|value| format!("{what} {value}")));
    say("uid", spec.uid.map(|uid| uid.to_string()));
    say("group", spec.group.clone());
    say("groups", further(spec, None).filter(|groups| !groups.is_empty()).map(|groups| list(&groups)));
    say("home", spec.home.clone());
    say("shell", spec.shell.clone());
    Change::Create { own_group: observed.own_group, detail }
}

fn remove(spec: &UserSpec, observed: &Observed, current: &Account) -> Change {
    let mut detail = Vec::new();
    match observed.takes {
        Takes::Nothing => {}
        Takes::KeptGroup => detail.push(format!("its group {} stays", spec.name)),
        Takes::Group => detail.push(format!("with its group {}", spec.name)),
    }
    detail.push(format!("what is in its home {} stays", current.home));
    busy(&mut detail, observed);
    Change::Remove { takes: observed.takes, detail }
}

fn modify(spec: &UserSpec, observed: &Observed, current: &Account) -> Option<Change> {
    let mut options = Vec::new();
    let mut detail = Vec::new();
    let mut change = |option: &str, what: &str, old: String, new: String, more: &str| {
        if old != new {
            detail.push(format!("{what} {old} → {new}{more}"));
            options.push((option.to_owned(), new));
        }
    };
    if let Some(uid) = spec.uid {
        let more = format!("; files in its home {} follow, others keep number {}", current.home, current.uid);
        change("--uid", "uid", current.uid.to_string(), uid.to_string(), &more);
    }
    if let Some(group) = &spec.group {
        let more = format!("; files in its home {} follow, others keep their group", current.home);
        change("--gid", "group", current.group.clone(), group.clone(), &more);
    }
    if let Some(wanted) = further(spec, Some(current)) {
        change("--groups", "groups", list(&current.groups), list(&wanted), "");
    }
    if let Some(home) = &spec.home {
        let more = "; nothing is moved, and the new folder is not made";
        change("--home", "home", current.home.clone(), home.clone(), more);
    }
    if let Some(shell) = &spec.shell {
        change("--shell", "shell", current.shell.clone(), shell.clone(), "");
    }
    if options.iter().any(|(option, _)| option == "--uid") {
        busy(&mut detail, observed);
    }
    if options.is_empty() { None } else { Some(Change::Modify { options, detail }) }
}

fn busy(detail: &mut Vec<String>, observed: &Observed) {
    if !observed.processes.is_empty() {
        detail.push(format!("not while these run as it: {}", observed.processes.join(", ")));
    }
}

/// The further groups that are written, but for the primary one, in which the user is anyway.
pub fn further(spec: &UserSpec, current: Option<&Account>) -> Option<BTreeSet<String>> {
    let primary = spec.group.as_ref().or(current.map(|current| &current.group)).unwrap_or(&spec.name);
    spec.groups.as_ref().map(|groups| groups.iter().filter(|group| *group != primary).cloned().collect())
}

fn list(groups: &BTreeSet<String>) -> String {
    groups.iter().cloned().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> UserSpec {
        UserSpec {
            name: "app".into(),
            uid: None,
            group: None,
            groups: None,
            home: None,
            shell: None,
            system: false,
            absent: false,
        }
    }

    fn seen(group: &str, groups: &[&str]) -> Observed {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let account = Account { uid: 1003, group: group.into(), groups, home: "/srv".into(), shell: "/bin/sh".into() };
        Observed { current: Some(account), own_group: true, ..Observed::default() }
    }

    fn options(spec: &UserSpec, seen: &Observed) -> Vec<(String, String)> {
        match diff(spec, seen) {
            None => Vec::new(),
            Some(Change::Modify { options, .. }) => options,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_is_written_is_compared() {
        assert_eq!(diff(&spec(), &seen("app", &["adm", "dialout"])), None);
        let shell = UserSpec { shell: Some("/bin/bash".into()), ..spec() };
        assert_eq!(options(&shell, &seen("app", &["adm"])), [("--shell".to_owned(), "/bin/bash".to_owned())]);
    }

    #[test]
    fn groups_are_exactly_those_written_and_the_primary_one_counts_for_nothing() {
        let of =
            |groups: &[&str]| UserSpec { groups: Some(groups.iter().map(|g| (*g).to_owned()).collect()), ..spec() };
        assert_eq!(options(&of(&["adm", "app"]), &seen("app", &["adm"])), []);
        assert_eq!(options(&of(&[]), &seen("app", &["adm"])), [("--groups".to_owned(), String::new())]);
        let staff = UserSpec { group: Some("staff".into()), ..of(&["staff", "adm"]) };
        assert_eq!(options(&staff, &seen("staff", &["adm"])), []);
        // The old primary group is no membership that is kept.
        assert_eq!(options(&staff, &seen("app", &["adm"])), [("--gid".to_owned(), "staff".to_owned())]);
        assert_eq!(further(&staff, None), Some(["adm".to_owned()].into()));
    }

    #[test]
    fn what_a_directory_service_has_is_right_or_refused() {
        let foreign = Observed { foreign: true, ..seen("app", &[]) };
        assert_eq!(diff(&UserSpec { uid: Some(1003), ..spec() }, &foreign), None);
        for spec in [UserSpec { uid: Some(1004), ..spec() }, UserSpec { absent: true, ..spec() }] {
            let change = diff(&spec, &foreign).unwrap();
            assert!(matches!(change, Change::Foreign(_)) && change.detail()[0].contains("directory service"));
        }
    }

    #[test]
    fn a_removal_says_what_goes_and_what_is_in_its_way() {
        let busy = Observed { takes: Takes::Group, processes: vec!["7 (sleep)".into()], ..seen("app", &[]) };
        let change = diff(&UserSpec { absent: true, ..spec() }, &busy).unwrap();
        assert_eq!(
            change.detail(),
            ["with its group app", "what is in its home /srv stays", "not while these run as it: 7 (sleep)"]
        );
    }
}
