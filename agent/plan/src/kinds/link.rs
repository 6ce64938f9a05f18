//! `[[link]]`: where it leads, and what is in its place.

use muster_catalog::kinds::link::LinkSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Current>,
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq)]
pub enum Current {
    /// With its target.
    Link(String),
    File,
    EmptyFolder,
    Folder,
    Other,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub does: Does,
    pub detail: Vec<String>,
}

/// The act.
#[derive(Debug, Clone, PartialEq)]
pub enum Does {
    /// Takes the place of what is there, of an empty folder where `folder`.
    Make {
        target: String,
        new: bool,
        folder: bool,
    },
    Remove,
    /// Something else is there.
    Refuse {
        because: String,
        help: String,
    },
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self.does {
            Does::Make { new: true, .. } => Action::Create,
            Does::Make { new: false, .. } | Does::Refuse { .. } => Action::Change,
            Does::Remove => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &LinkSpec, observed: &Observed) -> Option<Change> {
    if spec.absent {
        return match &observed.current {
            Some(Current::Link(target)) => {
                Some(Change { does: Does::Remove, detail: vec![format!("leads to {}", shown(target))] })
            }
            Some(Current::File | Current::EmptyFolder | Current::Folder | Current::Other) | None => None,
        };
    }
    let target = spec.target.clone().unwrap_or_default();
    let make = |new, folder, detail| {
        let does = Does::Make { target: target.clone(), new, folder };
        Some(Change { does, detail: vec![detail] })
    };
    let leads = shown(&target);
    match (&observed.current, spec.replace) {
        (None, _) => make(true, false, format!("leads to {leads}")),
        (Some(Current::Link(old)), _) if *old == target => None,
        (Some(Current::Link(old)), _) => make(false, false, format!("leads to {} → {leads}", shown(old))),
        (Some(Current::File), true) => make(false, false, format!("a file goes; leads to {leads}")),
        (Some(Current::EmptyFolder), true) => make(false, true, format!("an empty folder goes; leads to {leads}")),
        (Some(Current::File), false) => refuse(spec, "a file", "or let the link take its place: `replace = true`"),
        (Some(Current::EmptyFolder), false) => {
            refuse(spec, "an empty folder", "or let the link take its place: `replace = true`")
        }
        (Some(Current::Folder), _) => refuse(spec, "a folder with something in it", "or make another path the link"),
        (Some(Current::Other), _) => refuse(spec, "neither a file nor a folder", "or make another path the link"),
    }
}

fn refuse(spec: &LinkSpec, what: &str, or: &str) -> Option<Change> {
    let because = format!("{} is there and is {what}, no link", spec.path);
    let detail = vec![format!("{what} is there: it has to be moved away by hand")];
    Some(Change { does: Does::Refuse { because, help: format!("move it away by hand, {or}") }, detail })
}

/// Others may have made the link that is there: its target is not to change the terminal's state.
fn shown(target: &str) -> String {
    target.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(replace: bool, absent: bool) -> LinkSpec {
        LinkSpec { path: "/srv/l".into(), target: (!absent).then(|| "v2".into()), replace, absent }
    }

    #[test]
    fn a_link_takes_the_place_of_links_and_of_what_it_may() {
        let all = [
            None,
            Some(Current::Link("v1".into())),
            Some(Current::Link("v2".into())),
            Some(Current::File),
            Some(Current::EmptyFolder),
            Some(Current::Folder),
            Some(Current::Other),
        ];
        let does = |replace, absent| -> Vec<&str> {
            let one = |current: &Option<Current>| match diff(
                &spec(replace, absent),
                &Observed { current: current.clone() },
            ) {
                None => "-",
                Some(Change { does: Does::Make { folder: false, .. }, .. }) => "make",
                Some(Change { does: Does::Make { folder: true, .. }, .. }) => "clear",
                Some(Change { does: Does::Remove, .. }) => "remove",
                Some(Change { does: Does::Refuse { .. }, .. }) => "refuse",
            };
            all.iter().map(one).collect()
        };
        assert_eq!(does(false, false), ["make", "make", "-", "refuse", "refuse", "refuse", "refuse"]);
        assert_eq!(does(true, false), ["make", "make", "-", "make", "clear", "refuse", "refuse"]);
        assert_eq!(does(false, true), ["-", "remove", "remove", "-", "-", "-", "-"]);
    }

    #[test]
    fn a_plan_shows_where_it_led() {
        let current = Some(Current::Link("/old\u{1b}[2J".into()));
        let change = diff(&spec(false, false), &Observed { current }).unwrap();
        assert_eq!(change.detail, ["leads to /old\\u{1b}[2J → v2"]);
    }
}
