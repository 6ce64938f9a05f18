//! `[[directory]]`: the difference, and what a purge takes away.

use std::path::PathBuf;

use muster_catalog::kinds::directory::DirectorySpec;

use super::Describe;
use crate::row::Action;

/// What was seen, and what names in the specification mean on this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Current>,
    pub mode: u32,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// In words, what a change of the owner would take away.
    pub lost: Vec<String>,
    /// What a purge takes away: what no resource owns and holds nothing owned; where the folder is to go, all that is in it.
    pub strangers: Vec<Stranger>,
    /// Why these may not go, in words: "/srv/x has a file system mounted on it".
    pub reasons: Vec<String>,
}

/// A file or folder that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Of any bytes.
    pub path: PathBuf,
    pub folder: bool,
    /// How many files and folders are in it, however deep.
    pub inside: usize,
    /// There is more that was not counted.
    pub more: bool,
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// A folder and no link to one.
    pub directory: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
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
    Make {
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// Mode and owner where `attributes`, then the paths are removed.
    Mend {
        attributes: bool,
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
        purge: Vec<Stranger>,
    },
    /// With all in it where `tree`.
    Remove {
        tree: bool,
    },
    /// Something forbids it, and nothing is done.
    Refuse {
        because: String,
        help: String,
    },
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self.does {
            Does::Make { .. } => Action::Create,
            Does::Mend { .. } | Does::Refuse { .. } => Action::Change,
            Does::Remove { .. } => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &DirectorySpec, observed: &Observed) -> Option<Change> {
    let Observed { mode, uid, gid, .. } = *observed;
    let Some(current) = &observed.current else {
        let made = Change { does: Does::Make { mode, uid, gid }, detail: vec![format!("mode {mode:04o}")] };
        return (!spec.absent).then_some(made);
    };
    if !current.directory {
        return Some(refuse(
            format!("{} is there and is no folder", spec.path),
            "move it away by hand, or manage it with `[[file]]` or `[[link]]` and `absent = true`",
            vec!["something else is there: it has to be moved away by hand".to_owned()],
        ));
    }
    if !observed.reasons.is_empty() {
        let what = if spec.absent { "removed" } else { "purged" };
        let mut lines = cut(observed.reasons.iter().cloned());
        let because = format!("{} cannot be {what}: {}", spec.path, lines.join("; "));
        lines.insert(0, format!("cannot be {what}:"));
        let help = "nothing was removed: unmount it, stop who uses it, `chattr -i` what is frozen, or take it out of the folder; then it goes on";
        return Some(refuse(because, help, lines));
    }
    if spec.absent {
        return Some(Change { does: Does::Remove { tree: spec.purge }, detail: listed(&observed.strangers) });
    }
    let mut detail = Vec::new();
    if current.mode != mode {
        detail.push(format!("mode {:04o} → {mode:04o}", current.mode));
    }
    if uid != Some(current.uid) {
        detail.push(format!("owner {} → {}", current.uid, spec.owner));
    }
    if gid != Some(current.gid) {
        detail.push(format!("group {} → {}", current.gid, spec.group));
    }
    let attributes = !detail.is_empty();
    detail.extend(observed.lost.iter().map(|lost| format!("{lost} goes")));
    detail.extend(listed(&observed.strangers));
    if detail.is_empty() {
        return None;
    }
    Some(Change { does: Does::Mend { attributes, mode, uid, gid, purge: observed.strangers.clone() }, detail })
}

fn refuse(because: String, help: &str, detail: Vec<String>) -> Change {
    Change { does: Does::Refuse { because, help: help.to_owned() }, detail }
}

/// Of more than this many the rest is counted.
const SHOWN: usize = 20;

/// What goes, counted and by name.
fn listed(strangers: &[Stranger]) -> Vec<String> {
    if strangers.is_empty() {
        return Vec::new();
    }
    let all: usize = strangers.iter().map(|stranger| 1 + stranger.inside).sum();
    let more = if strangers.iter().any(|stranger| stranger.more) { "more than " } else { "" };
    let mut lines = vec![format!("{more}{all} to be removed:")];
    lines.extend(cut(strangers.iter().map(|stranger| {
        // Others may have given the name: it is not to begin a line of its own, nor to change the terminal's state.
        let path = stranger.path.to_string_lossy().escape_debug().to_string();
        match (stranger.folder, stranger.inside) {
            (false, _) => format!("- {path}"),
            (true, 0) => format!("- {path}/"),
            (true, inside) => format!("- {path}/ ({inside} in it)"),
        }
    })));
    lines
}

fn cut(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let rest = lines.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = lines.take(SHOWN).collect();
    shown.extend((rest > 0).then(|| format!("… and {rest} more")));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(absent: bool) -> DirectorySpec {
        DirectorySpec {
            path: "/etc/x.d".into(),
            mode: "0755".into(),
            owner: "root".into(),
            group: "root".into(),
            purge: true,
            absent,
        }
    }

    fn seen(strangers: Vec<Stranger>) -> Observed {
        let current = Current { directory: true, mode: 0o755, uid: 0, gid: 0 };
        let (uid, gid) = (Some(0), Some(0));
        Observed { current: Some(current), mode: 0o755, uid, gid, strangers, ..Observed::default() }
    }

    fn stranger(path: &str, inside: usize) -> Stranger {
        Stranger { path: path.into(), folder: inside > 0, inside, more: false }
    }

    #[test]
    fn a_purge_takes_strangers_only() {
        assert_eq!(diff(&spec(false), &seen(Vec::new())), None);
        let change =
            diff(&spec(false), &seen(vec![stranger("/etc/x.d/old", 0), stranger("/etc/x.d/a\nb", 3)])).unwrap();
        assert_eq!(change.detail, ["5 to be removed:", "- /etc/x.d/old", "- /etc/x.d/a\\nb/ (3 in it)"]);
        let Does::Mend { attributes, .. } = change.does else { panic!("{change:?}") };
        assert!(!attributes);
    }

    #[test]
    fn a_folder_is_made_and_goes_with_all_in_it_only_where_purge_says_so() {
        let nothing = Observed { mode: 0o755, uid: Some(0), gid: Some(0), ..Observed::default() };
        assert_eq!(diff(&spec(true), &nothing), None);
        let made = diff(&spec(false), &nothing).unwrap();
        assert_eq!(made.does, Does::Make { mode: 0o755, uid: Some(0), gid: Some(0) });
        assert_eq!((made.action(), made.detail()), (Action::Create, vec!["mode 0755".to_owned()]));
        for purge in [true, false] {
            let change = diff(&DirectorySpec { purge, ..spec(true) }, &seen(Vec::new())).unwrap();
            assert_eq!((&change.does, change.action()), (&Does::Remove { tree: purge }, Action::Remove));
        }
    }

    #[test]
    fn each_attribute_is_mended_by_itself_and_what_is_no_folder_not_at_all() {
        let other = |mode, uid, gid| Current { directory: true, mode, uid, gid };
        for (current, says) in [
            (other(0o700, 0, 0), "mode 0700 → 0755"),
            (other(0o755, 7, 0), "owner 7 → root"),
            (other(0o755, 0, 7), "group 7 → root"),
        ] {
            let change = diff(&spec(false), &Observed { current: Some(current), ..seen(Vec::new()) }).unwrap();
            assert_eq!((change.detail(), change.action()), (vec![says.to_owned()], Action::Change));
            assert!(
                matches!(&change.does, Does::Mend { attributes: true, purge, .. } if purge.is_empty()),
                "{change:?}"
            );
        }
        let file = Current { directory: false, ..other(0o755, 0, 0) };
        for absent in [false, true] {
            let change = diff(&spec(absent), &Observed { current: Some(file.clone()), ..seen(Vec::new()) }).unwrap();
            assert!(matches!(change.does, Does::Refuse { .. }), "{change:?}");
        }
    }

    #[test]
    fn what_goes_is_counted_beyond_the_twentieth() {
        let many = (0..25).map(|n| stranger(&format!("/etc/x.d/{n}"), 0)).collect();
        for absent in [false, true] {
            let detail = diff(&spec(absent), &seen(Vec::clone(&many))).unwrap().detail;
            let ends = (detail[0].as_str(), detail[20].as_str(), detail[21].as_str(), detail.len());
            assert_eq!(ends, ("25 to be removed:", "- /etc/x.d/19", "… and 5 more", 22));
        }
    }

    #[test]
    fn what_others_need_forbids_all_of_it() {
        for (absent, what) in [(true, "removed"), (false, "purged")] {
            let mut observed = seen(vec![stranger("/etc/x.d/old", 0)]);
            observed.reasons = vec!["/etc/x.d/m has a file system mounted on it".into()];
            let change = diff(&spec(absent), &observed).unwrap();
            let Does::Refuse { because, .. } = change.does else { panic!("{change:?}") };
            assert_eq!(because, format!("/etc/x.d cannot be {what}: /etc/x.d/m has a file system mounted on it"));
        }
    }
}
