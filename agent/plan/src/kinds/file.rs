//! `[[file]]`: the difference of content, mode and owner. Content is compared whole: a byte changed under an unchanged
//! size and time is seen.

use muster_catalog::kinds::file::FileSpec;

use super::Describe;
use crate::{row::Action, text};

/// What was seen, and what names in the specification mean on this node.
#[derive(Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Current>,
    /// The content, where it is a secret.
    pub secret: Option<Vec<u8>>,
    /// In words, what a replacement would take away; looked for only where there is a difference.
    pub lost: Vec<String>,
    /// Something is mounted on the file; looked for only where there is a difference.
    pub mounted: bool,
    /// The mode that the specification asks for.
    pub mode: u32,
    /// The ids of the owner and group asked for; none where there is no such account (yet).
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").field("there", &self.current.is_some()).finish_non_exhaustive()
    }
}

/// What is at the path.
#[derive(Clone, PartialEq)]
pub struct Current {
    /// A regular file; else the rest says little.
    pub regular: bool,
    pub folder: bool,
    /// It has another name elsewhere, whose owner and mode it shares.
    pub shared: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Whole, or its beginning where it is longer than what is asked for.
    pub content: Vec<u8>,
}

/// What would be done.
#[derive(Clone, PartialEq)]
pub struct Change {
    pub does: Does,
    pub detail: Vec<String>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").field("detail", &self.detail).finish_non_exhaustive()
    }
}

/// The act.
#[derive(Clone, PartialEq)]
pub enum Does {
    Create {
        content: Vec<u8>,
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Replace {
        content: Vec<u8>,
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Attributes {
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Remove,
    /// A folder is there.
    Refuse,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self.does {
            Does::Create { .. } => Action::Create,
            Does::Replace { .. } | Does::Attributes { .. } | Does::Refuse => Action::Change,
            Does::Remove => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &FileSpec, observed: &Observed) -> Option<Change> {
    if observed.current.as_ref().is_some_and(|current| current.folder) {
        let detail = vec!["a folder is there: it has to be moved away by hand".to_owned()];
        return Some(Change { does: Does::Refuse, detail });
    }
    if spec.absent {
        return observed.current.as_ref().map(|_| Change { does: Does::Remove, detail: Vec::new() });
    }
    let secret = spec.secret.is_some();
    let wanted: &[u8] = match &observed.secret {
        Some(content) => content,
        None => spec.bytes(),
    };
    let Observed { mode, uid, gid, .. } = *observed;
    let Some(current) = &observed.current else {
        let detail = vec![if secret { "secret content".to_owned() } else { text::size(wanted.len() as u64) }];
        return Some(Change { does: Does::Create { content: wanted.to_vec(), mode, uid, gid }, detail });
    };
    let mut detail = attributes(spec, observed, current);
    if !current.regular {
        detail.insert(0, "is no regular file".to_owned());
        return Some(Change { does: Does::Replace { content: wanted.to_vec(), mode, uid, gid }, detail });
    }
    if current.size != wanted.len() as u64 || current.content != wanted {
        if secret {
            detail.push("secret content differs".to_owned());
        } else if current.mode & mode & 0o004 == 0 {
            // What nobody else may read on the node is not shown to those who read plans and reports: it may be a key, or
            // the secret that stood here before.
            detail.push("content differs; not shown, as others may not read it".to_owned());
        } else {
            detail.extend(text::diff(&current.content, wanted));
        }
        detail.extend(consequences(observed));
        return Some(Change { does: Does::Replace { content: wanted.to_vec(), mode, uid, gid }, detail });
    }
    if detail.is_empty() {
        return None;
    }
    // Who owned it may hold it open or have another name for it: the new owner gets a file of his own. So does a file
    // whose other name has its own owner and mode.
    if current.shared || uid != Some(current.uid) {
        detail.extend(current.shared.then(|| "another name of this file keeps what it has".to_owned()));
        detail.extend(consequences(observed));
        return Some(Change { does: Does::Replace { content: wanted.to_vec(), mode, uid, gid }, detail });
    }
    Some(Change { does: Does::Attributes { mode, uid, gid }, detail })
}

/// What a replacement means beside what was asked for.
fn consequences(observed: &Observed) -> Vec<String> {
    if observed.mounted {
        return vec!["something is mounted on it: it is written in place".to_owned()];
    }
    observed.lost.iter().map(|lost| format!("{lost} goes")).collect()
}

fn attributes(spec: &FileSpec, observed: &Observed, current: &Current) -> Vec<String> {
    let mut detail = Vec::new();
    if current.mode != observed.mode {
        detail.push(format!("mode {:04o} → {:04o}", current.mode, observed.mode));
    }
    if observed.uid != Some(current.uid) {
        detail.push(format!("owner {} → {}", current.uid, spec.owner));
    }
    if observed.gid != Some(current.gid) {
        detail.push(format!("group {} → {}", current.gid, spec.group));
    }
    detail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(content: &str) -> FileSpec {
        FileSpec {
            path: "/etc/x".into(),
            content: Some(content.into()),
            content_base64: None,
            source: None,
            template: None,
            secret: None,
            mode: None,
            owner: "root".into(),
            group: "root".into(),
            absent: false,
        }
    }

    fn seen(content: &[u8], mode: u32) -> Observed {
        Observed {
            current: Some(Current {
                regular: true,
                folder: false,
                shared: false,
                mode,
                uid: 0,
                gid: 0,
                size: content.len() as u64,
                content: content.to_vec(),
            }),
            secret: None,
            lost: Vec::new(),
            mounted: false,
            mode: 0o644,
            uid: Some(0),
            gid: Some(0),
        }
    }

    /// What applying a change leaves behind.
    fn applied(observed: &Observed, change: &Change) -> Observed {
        let current = match &change.does {
            Does::Create { content, mode, uid, gid } | Does::Replace { content, mode, uid, gid } => Some(Current {
                regular: true,
                folder: false,
                shared: false,
                mode: *mode,
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
                size: content.len() as u64,
                content: content.clone(),
            }),
            Does::Attributes { mode, uid, gid } => observed.current.clone().map(|current| Current {
                mode: *mode,
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
                ..current
            }),
            Does::Remove => None,
            Does::Refuse => observed.current.clone(),
        };
        Observed { current, ..observed.clone() }
    }

    #[test]
    fn one_byte_of_equal_size_is_seen() {
        let change = diff(&spec("port = 8080\n"), &seen(b"port = 8090\n", 0o644)).unwrap();
        assert_eq!(change.detail, ["- port = 8090", "+ port = 8080"]);
    }

    #[test]
    fn what_is_no_text_shows_its_size() {
        let binary = |content: &[u8]| FileSpec {
            content: None,
            content_base64: Some(muster_catalog::Binary(content.to_vec())),
            ..spec("")
        };
        let wanted: Vec<u8> = (0..=255).collect();
        let created = diff(&binary(&wanted), &Observed { current: None, ..seen(b"", 0o644) }).unwrap();
        assert_eq!(created.detail, ["256 bytes"]);
        assert!(matches!(created.does, Does::Create { content, .. } if content == wanted));
        let changed = diff(&binary(&wanted), &seen(b"Stra\xdfe", 0o644)).unwrap();
        assert_eq!(changed.detail, ["content differs: 6 bytes → 256 bytes"]);
        assert_eq!(diff(&binary(&wanted), &seen(&wanted, 0o644)), None);
    }

    #[test]
    fn a_secret_never_shows() {
        let mut secret = spec("");
        secret.content = None;
        secret.secret = Some("password".into());
        let observed = Observed { secret: Some(b"hunter2".to_vec()), mode: 0o600, ..seen(b"hunter1", 0o644) };
        let change = diff(&secret, &observed).unwrap();
        assert_eq!(change.detail, ["mode 0644 → 0600", "secret content differs"]);
        assert!(!format!("{change:?}{observed:?}").contains("hunter"));
    }

    #[test]
    fn what_only_its_owner_reads_is_not_shown() {
        for (current, wanted) in [(0o600, 0o644), (0o644, 0o640)] {
            let observed = Observed { mode: wanted, ..seen(b"hunter1", current) };
            let change = diff(&spec("no secret any more"), &observed).unwrap();
            assert_eq!(change.detail[1..], ["content differs; not shown, as others may not read it"]);
        }
    }

    #[test]
    fn another_owner_gets_a_file_of_his_own() {
        let theirs = |uid, shared| {
            let mut observed = seen(b"x", 0o644);
            let current = observed.current.as_mut().unwrap();
            (current.uid, current.shared) = (uid, shared);
            observed.lost = vec!["its access control list".into()];
            observed
        };
        let change = diff(&spec("x"), &theirs(1000, false)).unwrap();
        assert_eq!(change.detail, ["owner 1000 → root", "its access control list goes"]);
        assert!(matches!(change.does, Does::Replace { .. }));
        assert_eq!(diff(&spec("x"), &theirs(0, true)), None, "a second name alone is no difference");
        let change = diff(&spec("x"), &Observed { mode: 0o600, ..theirs(0, true) }).unwrap();
        assert!(matches!(change.does, Does::Replace { .. }));
        assert_eq!(change.detail[1], "another name of this file keeps what it has");
        let change = diff(&spec("x"), &Observed { mode: 0o600, ..theirs(0, false) }).unwrap();
        assert!(matches!(change.does, Does::Attributes { .. }));
    }

    proptest! {
        #[test]
        fn applying_leaves_no_difference(
            wanted in ".{0,40}", there in proptest::option::of((proptest::collection::vec(any::<u8>(), 0..40), 0u32..0o7777)),
            absent: bool,
        ) {
            let spec = FileSpec { absent, ..spec(&wanted) };
            let observed = match there {
                Some((content, mode)) => seen(&content, mode),
                None => Observed { current: None, ..seen(b"", 0o644) },
            };
            if let Some(change) = diff(&spec, &observed) {
                prop_assert_eq!(diff(&spec, &applied(&observed, &change)), None);
            }
        }

        #[test]
        fn equal_is_no_difference(content in ".{0,80}") {
            prop_assert_eq!(diff(&spec(&content), &seen(content.as_bytes(), 0o644)), None);
        }
    }
}
