//! `[[authorized_key]]`: the lines of a file that others write, too.

use muster_catalog::kinds::authorized_key::AuthorizedKeySpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The user is there.
    pub user: bool,
    /// The file's content.
    pub content: Option<Vec<u8>>,
}

/// What would be done to the lines with the key.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub action: Action,
    pub detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        self.action
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &AuthorizedKeySpec, observed: &Observed) -> Option<Change> {
    let content = observed.content.as_deref().unwrap_or_default();
    // Nobody can log in as a user that is not there.
    if (spec.absent && !observed.user) || edited(spec, content) == content {
        return None;
    }
    let there: Vec<&[u8]> = lines(content).filter(|line| holds(line, spec.parts())).collect();
    let (action, first) = match (there.len(), spec.absent) {
        (_, true) => (Action::Remove, format!("no longer: {} for {}", spec.short(), spec.user)),
        (0, false) => (Action::Create, format!("{} for {}", spec.short(), spec.user)),
        (_, false) => (Action::Change, format!("the line becomes: {}", shown(spec))),
    };
    let mut detail = vec![first];
    if there.len() > 1 {
        detail.push(format!("{} lines have this key", there.len()));
    }
    Some(Change { action, detail })
}

/// Options and comment, with the key cut short.
fn shown(spec: &AuthorizedKeySpec) -> String {
    let (kind, key) = spec.parts();
    spec.line().replace(&format!("{kind} {key}"), &spec.short())
}

/// The file as it should be: all other lines byte by byte as they are.
pub fn edited(spec: &AuthorizedKeySpec, content: &[u8]) -> Vec<u8> {
    let ours = spec.line();
    let mut written = spec.absent;
    let mut all = Vec::with_capacity(content.len() + ours.len() + 2);
    for line in lines(content) {
        if !holds(line, spec.parts()) {
            all.extend_from_slice(line);
        } else if !written {
            written = true;
            if line.trim_ascii() == ours.as_bytes() {
                all.extend_from_slice(line);
            } else {
                all.extend_from_slice(ours.as_bytes());
                all.push(b'\n');
            }
        }
    }
    if !written {
        if !all.is_empty() && !all.ends_with(b"\n") {
            all.push(b'\n');
        }
        all.extend_from_slice(ours.as_bytes());
        all.push(b'\n');
    }
    all
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split_inclusive(|byte| *byte == b'\n')
}

/// Whether a line lets in this very key, whatever its options.
fn holds(line: &[u8], (kind, key): (&str, &str)) -> bool {
    let words = words(line);
    let is = |word: Option<&Vec<u8>>, text: &str| word.is_some_and(|word| word == text.as_bytes());
    // Without options, or after them.
    let at = |from: usize| is(words.get(from), kind) && is(words.get(from + 1), key);
    at(0) || at(1)
}

/// The first three words of a line that is no comment. Blanks between double quotes separate nothing.
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let line = line.trim_ascii();
    let mut words: Vec<Vec<u8>> = Vec::new();
    if line.starts_with(b"#") {
        return words;
    }
    let (mut quoted, mut escaped, mut blank) = (false, false, true);
    for byte in line {
        if !quoted && matches!(byte, b' ' | b'\t') {
            blank = true;
            continue;
        }
        if blank && words.len() == 3 {
            break;
        }
        if std::mem::take(&mut blank) {
            words.push(Vec::new());
        }
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        if let Some(word) = words.last_mut() {
            word.push(*byte);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(options: &[&str]) -> AuthorizedKeySpec {
        AuthorizedKeySpec {
            name: "alice".into(),
            user: "deploy".into(),
            key: "ssh-ed25519 AAAAkey alice@laptop".into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            comment: None,
            absent: false,
        }
    }

    const OTHERS: &str = "# team\n\nfrom=\"a b\",command=\"echo \\\"ssh-ed25519 AAAAkey\\\"\" ssh-rsa AAAAother bob\nbroken line\n#ssh-ed25519 AAAAkey old";

    #[test]
    fn a_key_joins_the_others_and_they_stay_to_the_byte() {
        let whole = edited(&spec(&[]), OTHERS.as_bytes());
        let text = String::from_utf8(whole.clone()).unwrap();
        assert_eq!(text, format!("{OTHERS}\nssh-ed25519 AAAAkey alice@laptop\n"));
        assert_eq!(edited(&spec(&[]), &whole), whole);
        let gone = edited(&AuthorizedKeySpec { absent: true, ..spec(&[]) }, &whole);
        assert_eq!(String::from_utf8(gone).unwrap(), format!("{OTHERS}\n"));
        assert_eq!(edited(&spec(&[]), b""), b"ssh-ed25519 AAAAkey alice@laptop\n");
    }

    #[test]
    fn every_line_with_the_key_becomes_the_one_that_is_written() {
        let before = "x\nssh-ed25519 AAAAkey open\nssh-rsa AAAAother bob\nfrom=\"h, i\"\tssh-ed25519  AAAAkey later\n";
        let spec = spec(&["from=\"10.0.0.0/8\"", "no-pty"]);
        let after = edited(&spec, before.as_bytes());
        let line = "from=\"10.0.0.0/8\",no-pty ssh-ed25519 AAAAkey alice@laptop";
        assert_eq!(String::from_utf8(after).unwrap(), format!("x\n{line}\nssh-rsa AAAAother bob\n"));
        let seen = Observed { user: true, content: Some(before.into()) };
        let change = diff(&spec, &seen).unwrap();
        assert_eq!(change.action, Action::Change);
        assert_eq!(change.detail[1], "2 lines have this key");
    }

    #[test]
    fn nobody_needs_to_be_kept_out_of_an_account_that_is_not_there() {
        let absent = AuthorizedKeySpec { absent: true, ..spec(&[]) };
        assert_eq!(diff(&absent, &Observed::default()), None);
        assert!(diff(&spec(&[]), &Observed::default()).is_some());
    }
}
