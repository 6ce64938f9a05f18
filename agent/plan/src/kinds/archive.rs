//! `[[archive]]`: the difference of what a folder was unpacked from, and of what became of it since.

use muster_catalog::kinds::archive::ArchiveSpec;
use serde::{Deserialize, Serialize};

use super::Describe;
use crate::{row::Action, text};

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub there: There,
    /// A run that was killed left something: what it fetched, a half, or what was there before.
    pub left: bool,
    /// What the names in the specification mean on this node.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// What is at the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum There {
    #[default]
    Nothing,
    /// An empty folder.
    Empty,
    Unpacked(Unpacked),
    /// Something that no archive of ours brought.
    Other,
}

/// A folder that was unpacked by us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub from: Origin,
    /// Paths of the archive that are gone or changed, the first of them.
    pub changed: Vec<String>,
    /// Paths that it did not bring, the first of them.
    pub strangers: Vec<String>,
    /// Something is mounted in there.
    pub mounts: Vec<String>,
}

/// What a folder was unpacked from, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub sha256: String,
    pub strip: u8,
    pub uid: u32,
    pub gid: u32,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub does: Does,
    pub detail: Vec<String>,
    action: Action,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Does {
    /// In the place of what is there.
    Unpack {
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Remove,
    /// Only what a run that was killed left.
    Clear,
    /// Nothing, and it is an error: somebody else's things are there.
    Refuse(String),
}

impl Describe for Change {
    fn action(&self) -> Action {
        self.action
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }

    fn of_our_doing(&self) -> bool {
        self.does == Does::Clear
    }
}

pub fn diff(spec: &ArchiveSpec, observed: &Observed) -> Option<Change> {
    let clear = || Change {
        does: Does::Clear,
        detail: vec!["remove what a run that was killed left".into()],
        action: Action::Change,
    };
    in_place(spec, observed).or_else(|| observed.left.then(clear))
}

/// The difference of the folder itself.
fn in_place(spec: &ArchiveSpec, observed: &Observed) -> Option<Change> {
    let Observed { there, left: _, uid, gid } = observed;
    let (uid, gid) = (*uid, *gid);
    if let There::Unpacked(Unpacked { mounts, .. }) = there
        && let Some(mount) = mounts.first()
        && (spec.absent || !is_right(spec, observed))
    {
        let why = format!("{mount} is mounted in {}", spec.path);
        return Some(Change { does: Does::Refuse(why.clone()), detail: vec![why], action: Action::Change });
    }
    let unpack = |action, detail| Some(Change { does: Does::Unpack { uid, gid }, detail, action });
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    match (there, spec.absent) {
        (There::Nothing, true) => None,
        (There::Empty | There::Unpacked(_), true) => {
            let strangers = match there {
                There::Unpacked(unpacked) => named(&unpacked.strangers),
                There::Nothing | There::Empty | There::Other => Vec::new(),
            };
            Some(Change { does: Does::Remove, detail: strangers, action: Action::Remove })
        }
        (There::Other, _) => {
            let why = format!("{} holds something that no archive brought", spec.path);
            Some(Change { does: Does::Refuse(why.clone()), detail: vec![why], action: Action::Change })
        }
        (There::Nothing | There::Empty, false) => {
            let from = match (&spec.url, spec.bytes()) {
                (Some(url), _) => url.clone(),
                (None, bytes) => format!("{} of the site", text::size(bytes.unwrap_or_default().len() as u64)),
            };
            unpack(Action::Create, vec![format!("unpack {from} ({})", short(spec.digest()))])
        }
        (There::Unpacked(_), false) if is_right(spec, observed) => None,
        (There::Unpacked(unpacked), false) => {
            let mut detail = Vec::new();
            let from = &unpacked.from;
            if from.sha256 != spec.digest() {
                detail.push(format!("{} → {}", short(&from.sha256), short(spec.digest())));
            }
            if from.strip != spec.strip {
                detail.push(format!("strip {} → {}", from.strip, spec.strip));
            }
            if uid != Some(from.uid) {
                detail.push(format!("owner {} → {}", from.uid, spec.owner));
            }
            if gid != Some(from.gid) {
                detail.push(format!("group {} → {}", from.gid, spec.group));
            }
            detail.extend(unpacked.changed.iter().take(MOST_NAMED).map(|path| format!("changed: {path}")));
            detail.extend(named(&unpacked.strangers));
            unpack(Action::Change, detail)
        }
    }
}

/// So many paths are named.
const MOST_NAMED: usize = 20;

fn named(strangers: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = strangers.iter().take(MOST_NAMED).map(|path| format!("- {path}")).collect();
    if strangers.len() > MOST_NAMED {
        lines.push(format!("and {} more that the archive did not bring", strangers.len() - MOST_NAMED));
    }
    lines
}

fn is_right(spec: &ArchiveSpec, observed: &Observed) -> bool {
    let There::Unpacked(unpacked) = &observed.there else { return false };
    let Origin { sha256, strip, uid, gid } = &unpacked.from;
    *sha256 == spec.digest()
        && *strip == spec.strip
        && observed.uid == Some(*uid)
        && observed.gid == Some(*gid)
        && unpacked.changed.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ArchiveSpec {
        ArchiveSpec {
            path: "/opt/tool".into(),
            url: Some("https://example.org/tool.tar.gz".into()),
            source: None,
            content: None,
            content_base64: None,
            sha256: Some("a".repeat(64)),
            strip: 1,
            owner: "root".into(),
            group: "root".into(),
            absent: false,
        }
    }

    fn seen(there: There) -> Observed {
        Observed { there, left: false, uid: Some(0), gid: Some(0) }
    }

    #[test]
    fn it_is_unpacked_once_per_digest() {
        let from = Origin { sha256: "a".repeat(64), strip: 1, uid: 0, gid: 0 };
        let right = Unpacked { from, strangers: vec!["/opt/tool/log".into()], ..Unpacked::default() };
        assert_eq!(diff(&spec(), &seen(There::Unpacked(right.clone()))), None, "what others put there stays");
        let newer = ArchiveSpec { sha256: Some("b".repeat(64)), ..spec() };
        let change = diff(&newer, &seen(There::Unpacked(right.clone()))).unwrap();
        assert_eq!(change.detail, ["aaaaaaaaaaaa → bbbbbbbbbbbb", "- /opt/tool/log"], "and is named when it goes");
        let changed = Unpacked { changed: vec!["/opt/tool/bin".into()], ..right.clone() };
        assert!(diff(&spec(), &seen(There::Unpacked(changed))).is_some());
        let mounts = Unpacked { mounts: vec!["/opt/tool/m".into()], ..right };
        assert_eq!(diff(&spec(), &seen(There::Unpacked(mounts.clone()))), None);
        let Does::Refuse(why) = diff(&newer, &seen(There::Unpacked(mounts))).unwrap().does else { panic!() };
        assert_eq!(why, "/opt/tool/m is mounted in /opt/tool");
    }

    #[test]
    fn what_a_kill_left_goes_and_is_nobodys_drift() {
        let left = |there| Observed { left: true, ..seen(there) };
        let from = Origin { sha256: "a".repeat(64), strip: 1, uid: 0, gid: 0 };
        let right = There::Unpacked(Unpacked { from, ..Unpacked::default() });
        let change = diff(&spec(), &left(right)).unwrap();
        assert!(change.does == Does::Clear && change.of_our_doing());
        let gone = ArchiveSpec { absent: true, ..spec() };
        assert_eq!(diff(&gone, &left(There::Nothing)).unwrap().does, Does::Clear);
        assert!(matches!(diff(&spec(), &left(There::Nothing)).unwrap().does, Does::Unpack { .. }));
    }

    #[test]
    fn what_is_somebody_elses_is_left() {
        assert!(matches!(diff(&spec(), &seen(There::Other)).unwrap().does, Does::Refuse(_)));
        let gone = ArchiveSpec { absent: true, ..spec() };
        assert!(matches!(diff(&gone, &seen(There::Other)).unwrap().does, Does::Refuse(_)));
        assert_eq!(diff(&gone, &seen(There::Nothing)), None);
        assert_eq!(diff(&gone, &seen(There::Empty)).unwrap().does, Does::Remove);
        assert!(matches!(diff(&spec(), &seen(There::Empty)).unwrap().does, Does::Unpack { .. }));
    }
}
