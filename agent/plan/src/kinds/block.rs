//! `[[block]]`: where it stands in the file, and what the file would be with it.

use std::ops::Range;

use muster_catalog::kinds::block::{BlockSpec, Edge, marker};

use super::Describe;
use crate::{row::Action, text};

/// What was seen.
#[derive(Clone, Default, PartialEq)]
pub struct Observed {
    pub file: Seen,
    /// In words, what a replacement of the file would take away.
    pub lost: Vec<String>,
}

/// What is at the path.
#[derive(Clone, Default, PartialEq)]
pub enum Seen {
    #[default]
    Missing,
    /// Something that has no lines to mark: "a link to /run/x", "a folder".
    NoFile(String),
    File {
        content: Vec<u8>,
        /// Everyone on the node may read it.
        open: bool,
    },
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
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
    /// The block, with its markers, put in or in place of the one that is there; none: taken out.
    Write {
        block: Option<String>,
    },
    Refuse {
        because: String,
        help: String,
    },
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self.does {
            Does::Write { .. } | Does::Refuse { .. } => Action::Change,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

/// The block's markers do not stand as muster writes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(String);

/// The bytes of the block, its markers and their line ends included; none where there is no such block.
pub fn find(content: &[u8], name: &str) -> Result<Option<Range<usize>>, Damage> {
    let mut begin: Option<(usize, usize)> = None;
    let mut found: Option<(Range<usize>, usize)> = None;
    let mut at = 0;
    for (number, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (start, end, number) = (at, at + line.len(), number + 1);
        at = end;
        let Some((edge, of)) = std::str::from_utf8(line).ok().and_then(marker) else { continue };
        match (edge, of == name, begin) {
            (Edge::Begin, true, None) => match &found {
                None => begin = Some((start, number)),
                Some((_, first)) => {
                    return Err(Damage(format!(
                        "the block {name} stands there twice: it begins in lines {first} and {number}"
                    )));
                }
            },
            (Edge::Begin, true, Some((_, first))) => {
                return Err(Damage(format!("the block {name} begins in line {first} and again in line {number}")));
            }
            (Edge::End, true, Some((from, first))) => {
                found = Some((from..end, first));
                begin = None;
            }
            (Edge::End, true, None) => {
                return Err(Damage(format!("the block {name} ends in line {number} and has no beginning before it")));
            }
            (_, false, Some((_, first))) => {
                return Err(Damage(format!(
                    "line {number} is a marker of the block {of} inside of the block {name}, which begins in line {first}"
                )));
            }
            (_, false, None) => {}
        }
    }
    match begin {
        Some((_, first)) => Err(Damage(format!("the block {name} begins in line {first} and has no end"))),
        None => Ok(found.map(|(range, _)| range)),
    }
}

/// The file with the block, or without it; all else as it was.
pub fn with(content: &[u8], name: &str, block: Option<&str>) -> Result<Vec<u8>, Damage> {
    let found = find(content, name)?;
    let at = found.unwrap_or(content.len()..content.len());
    let mut new = content[..at.start].to_vec();
    if block.is_some() && !new.is_empty() && !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(block.unwrap_or_default().as_bytes());
    new.extend_from_slice(&content[at.end..]);
    Ok(new)
}

pub fn diff(spec: &BlockSpec, observed: &Observed) -> Option<Change> {
    let (content, open) = match &observed.file {
        Seen::Missing if spec.absent => return None,
        Seen::Missing => {
            return refuse(
                format!("there is no {} to put the block {} in", spec.path, spec.name),
                "name what brings it in `after`, or write it as a whole with `[[file]]`".to_owned(),
                "its file is not there".to_owned(),
            );
        }
        Seen::NoFile(what) => {
            return refuse(
                format!("{} is {what}, and a block is written into a file", spec.path),
                "name the file itself".to_owned(),
                format!("its file is {what}"),
            );
        }
        Seen::File { content, open } => (content, *open),
    };
    let block = (!spec.absent).then(|| spec.text());
    let found = match find(content, &spec.name) {
        Ok(found) => found.map(|range| &content[range]),
        Err(damage) => {
            let comment = &spec.comment;
            let help = format!(
                "mend these lines by hand: `{comment} BEGIN muster {name}` and `{comment} END muster {name}` once each, in this \
                 order and with nothing of others between; or take both out, then the block goes to the end",
                name = spec.name
            );
            return refuse(format!("{}: {damage}", spec.path), help, damage.to_string());
        }
    };
    if found == block.as_deref().map(str::as_bytes) {
        return None;
    }
    let mut detail = if open {
        text::diff(found.unwrap_or_default(), block.as_deref().unwrap_or_default().as_bytes())
    } else {
        vec!["the block differs; not shown, as others may not read the file".to_owned()]
    };
    detail.extend(observed.lost.iter().map(|lost| format!("{lost} goes")));
    Some(Change { does: Does::Write { block }, detail })
}

fn refuse(because: String, help: String, detail: String) -> Option<Change> {
    Some(Change { does: Does::Refuse { because, help }, detail: vec![detail] })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(content: Option<&str>) -> BlockSpec {
        BlockSpec {
            name: "a".into(),
            path: "/etc/x".into(),
            content: content.map(Into::into),
            comment: "#".into(),
            absent: content.is_none(),
        }
    }

    fn seen(content: &[u8]) -> Observed {
        Observed { file: Seen::File { content: content.to_vec(), open: true }, lost: Vec::new() }
    }

    const BLOCK: &str = "# BEGIN muster a\n1\n# END muster a\n";

    #[test]
    fn it_goes_to_the_end_stays_where_it_is_and_goes_again() {
        let with = |content: &str, block| String::from_utf8(with(content.as_bytes(), "a", block).unwrap()).unwrap();
        assert_eq!(with("", Some(BLOCK)), BLOCK);
        assert_eq!(with("x\n", Some(BLOCK)), format!("x\n{BLOCK}"));
        assert_eq!(with("x", Some(BLOCK)), format!("x\n{BLOCK}"), "a last line without an end gets one");
        let old = "x\n; BEGIN muster a\r\nold\n; END muster a\r\ny";
        assert_eq!(with(old, Some(BLOCK)), format!("x\n{BLOCK}y"));
        assert_eq!(with(old, None), "x\ny");
        assert_eq!(with("x", None), "x");
        assert_eq!(with("x\n# BEGIN muster a\n# END muster a", Some(BLOCK)), format!("x\n{BLOCK}"));
        // One name that begins another's.
        let other = "# BEGIN muster ab\n# END muster ab\n";
        assert_eq!(with(other, Some(BLOCK)), format!("{other}{BLOCK}"));
    }

    #[test]
    fn damaged_markers_are_named_by_line() {
        for (content, said) in [
            ("x\n# BEGIN muster a\n1\n", "begins in line 2 and has no end"),
            ("# END muster a\n", "ends in line 1 and has no beginning before it"),
            ("# END muster a\n# BEGIN muster a\n", "ends in line 1 and has no beginning"),
            ("# BEGIN muster a\n# BEGIN muster a\n# END muster a\n", "begins in line 1 and again in line 2"),
            (&format!("{BLOCK}{BLOCK}"), "stands there twice: it begins in lines 1 and 4"),
            (
                "# BEGIN muster a\n# BEGIN muster b\n# END muster a\n# END muster b\n",
                "line 2 is a marker of the block b",
            ),
            ("# BEGIN muster a\n# END muster b\n# END muster a\n", "line 2 is a marker of the block b"),
        ] {
            for spec in [spec(Some("1")), spec(None)] {
                let Some(Change { does: Does::Refuse { because, help }, .. }) = diff(&spec, &seen(content.as_bytes()))
                else {
                    panic!("{content}")
                };
                assert!(because.contains(said) && help.contains("`# END muster a`"), "{because}");
            }
        }
    }

    #[test]
    fn only_its_own_lines_are_shown_and_nothing_of_a_closed_file() {
        let content = format!("password = x\n{BLOCK}");
        let change = diff(&spec(Some("2\n")), &seen(content.as_bytes())).unwrap();
        assert_eq!(change.detail, ["- 1", "+ 2"]);
        let closed = Observed { file: Seen::File { content: content.into(), open: false }, lost: Vec::new() };
        assert_eq!(diff(&spec(None), &closed).unwrap().detail.len(), 1);
        assert_eq!(diff(&spec(Some("1")), &closed), None);
        assert_eq!(diff(&spec(None), &Observed::default()), None);
        assert!(matches!(diff(&spec(Some("1")), &Observed::default()).unwrap().does, Does::Refuse { .. }));
    }

    proptest! {
        /// Line ends that are none elsewhere, other encodings, blocks of others: all of it stays.
        #[test]
        fn the_rest_stays_to_the_byte(
            before in proptest::collection::vec(any::<u8>(), 0..60), after in proptest::collection::vec(any::<u8>(), 0..60),
            old in "[a-z\u{b}\u{c}\u{2028}\r\n]{0,20}", new in proptest::option::of("[a-z\u{b}\u{2028}\n]{0,20}"),
        ) {
            let before = if before.is_empty() { before } else { [before, b"\n".to_vec()].concat() };
            let there = spec(Some(&old)).text();
            let content = [before.clone(), there.into_bytes(), after.clone()].concat();
            let spec = spec(new.as_deref());
            let written = match diff(&spec, &seen(&content)) {
                Some(Change { does: Does::Write { block }, .. }) => with(&content, "a", block.as_deref()).unwrap(),
                Some(Change { does: Does::Refuse { because, .. }, .. }) => panic!("{because}"),
                None => content,
            };
            let block = if new.is_some() { spec.text() } else { String::new() };
            prop_assert_eq!(&written, &[before, block.into_bytes(), after].concat());
            prop_assert_eq!(diff(&spec, &seen(&written)), None);
        }
    }
}
