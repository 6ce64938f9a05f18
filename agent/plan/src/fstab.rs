//! `/etc/fstab`: the lines of one resource in a file that is everybody's. Pure: text in, text out.
//!
//! A line is read as libmount reads it (fstab(5), getmntent(3)): fields between blanks, with octal escapes; `#` begins a comment at
//! the start of a line, and what follows the sixth field is ignored, a comment mostly. Where the numbers of the fifth and sixth
//! field are anything else libmount ignores the line as a whole, so such a line is written anew. Other lines stay to the byte.

use crate::mounts::{clean, unescape};

/// The file.
pub const PATH: &str = "/etc/fstab";

/// What a line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    pub source: String,
    /// `none` for swap.
    pub target: String,
    pub fstype: String,
    /// Separated by commas.
    pub options: String,
}

/// A line of the file that describes something to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub line: Line,
    /// For dump and fsck, kept as they stand; none where they are unreadable.
    numbers: Option<[String; 2]>,
    /// What stands after all that, a comment mostly.
    rest: String,
}

/// The file with other lines for one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub text: Vec<u8>,
    /// Lines that went.
    pub removed: Vec<String>,
    /// The line that came.
    pub added: Option<String>,
}

/// All that the file describes.
pub fn entries(text: &[u8]) -> Vec<Entry> {
    lines(text).filter_map(entry).collect()
}

/// Makes `wanted` the one line of those that are `ours`, in the place of the first; with none, takes them away. None where it
/// is so already.
pub fn edit(text: &[u8], ours: impl Fn(&Line) -> bool, wanted: Option<&Line>) -> Option<Edited> {
    let is_ours = |line: &[u8]| entry(line).filter(|entry| ours(&entry.line));
    let mine: Vec<(usize, Entry)> =
        lines(text).enumerate().filter_map(|(at, line)| Some((at, is_ours(line)?))).collect();
    let says = |entry: &Entry| wanted.is_some_and(|wanted| entry.numbers.is_some() && same(&entry.line, wanted));
    // One that says it already stays as it was written.
    let place = mine.iter().find(|(_, entry)| says(entry)).or(mine.first()).map(|(at, _)| *at);
    let mut edited = Edited { text: Vec::with_capacity(text.len() + 80), removed: Vec::new(), added: None };
    for (at, line) in lines(text).enumerate() {
        let Some((_, entry)) = mine.iter().find(|(mine, _)| *mine == at) else {
            edited.text.extend_from_slice(line);
            continue;
        };
        match wanted {
            Some(_) if Some(at) == place && says(entry) => {
                edited.text.extend_from_slice(line);
                continue;
            }
            Some(wanted) if Some(at) == place => {
                edited.write(&render(wanted, entry.numbers.as_ref(), &entry.rest));
            }
            Some(_) | None => {}
        }
        edited.removed.push(String::from_utf8_lossy(line).trim().to_owned());
    }
    if let (Some(wanted), None) = (wanted, place) {
        if edited.text.last().is_some_and(|&last| last != b'\n') {
            edited.text.push(b'\n');
        }
        edited.write(&render(wanted, None, ""));
    }
    (edited.added.is_some() || !edited.removed.is_empty()).then_some(edited)
}

impl Edited {
    fn write(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        self.added = Some(line.to_owned());
    }

    /// For plans: what goes and what comes.
    pub fn detail(&self) -> Vec<String> {
        let removed = self.removed.iter().map(|line| format!("- {line}"));
        removed.chain(self.added.iter().map(|line| format!("+ {line}"))).collect()
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

fn entry(line: &[u8]) -> Option<Entry> {
    let text = String::from_utf8_lossy(line);
    let mut rest = text.trim_matches(|c: char| c.is_ascii_whitespace());
    if rest.starts_with('#') {
        return None;
    }
    let mut next = || {
        let (field, after) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        rest = after.trim_start_matches([' ', '\t']);
        (!field.is_empty()).then(|| field.to_owned())
    };
    let (source, target, fstype) = (next()?, next()?, next()?);
    let options = next().unwrap_or_default();
    let mut numbers = Some(["0", "0"].map(str::to_owned));
    for at in 0..2 {
        if rest.is_empty() {
            break;
        }
        let (field, after) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        if field.parse::<i32>().is_err() {
            numbers = None;
            break;
        }
        if let Some(numbers) = &mut numbers {
            numbers[at] = field.to_owned();
        }
        rest = after.trim_start_matches([' ', '\t']);
    }
    let line = Line {
        source: unescape(&source),
        target: unescape(&target),
        fstype,
        options: if options.is_empty() { "defaults".to_owned() } else { unescape(&options) },
    };
    Some(Entry { line, numbers, rest: rest.to_owned() })
}

fn render(line: &Line, numbers: Option<&[String; 2]>, rest: &str) -> String {
    let zero = ["0", "0"].map(str::to_owned);
    let [dump, pass] = numbers.unwrap_or(&zero);
    let fields = [&line.source, &line.target, &line.fstype, &line.options].map(|field| escape(field));
    // Only what is a comment is kept where the numbers could not be read.
    let rest = if numbers.is_some() || rest.starts_with('#') { rest } else { "" };
    format!("{} {dump} {pass} {rest}", fields.join(" ")).trim_end().to_owned()
}

fn escape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    for (at, c) in field.chars().enumerate() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\\' => out.push_str(&format!("\\{:03o}", u32::from(c))),
            '#' if at == 0 => out.push_str("\\043"),
            c => out.push(c),
        }
    }
    out
}

/// Says the same to mount(8).
fn same(one: &Line, other: &Line) -> bool {
    let path = |text: &str| if text.starts_with('/') { clean(text) } else { text.to_owned() };
    let options = |line: &Line| {
        let mut words: Vec<String> =
            line.options.split(',').filter(|word| *word != "defaults").map(str::to_owned).collect();
        words.sort();
        words
    };
    let bind = options(one).iter().any(|word| word == "bind" || word == "rbind");
    let fstype = |line: &Line| if bind && line.fstype == "auto" { "none".to_owned() } else { line.fstype.clone() };
    // The target is how the line was found: by whatever name.
    path(&one.source) == path(&other.source) && fstype(one) == fstype(other) && options(one) == options(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tmpfs(target: &str, options: &str) -> Line {
        Line { source: "tmpfs".into(), target: target.into(), fstype: "tmpfs".into(), options: options.into() }
    }

    fn at(target: &'static str) -> impl Fn(&Line) -> bool {
        move |line| clean(&line.target) == target
    }

    fn edited(text: &str, target: &'static str, wanted: Option<&Line>) -> Option<String> {
        edit(text.as_bytes(), at(target), wanted).map(|edited| String::from_utf8(edited.text).unwrap())
    }

    #[test]
    fn a_line_that_says_it_already_stays_however_it_is_written() {
        let wanted = tmpfs("/srv/x", "size=1m,nosuid");
        for line in [
            "tmpfs /srv/x tmpfs size=1m,nosuid 0 0\n",
            "tmpfs /srv/x/ tmpfs nosuid,size=1m\n",
            "\ttmpfs\t/srv//x tmpfs defaults,size=1m,nosuid 0 2 # by hand",
            "tmpfs /srv/x tmpfs size=1m,nosuid 0 0 by hand\n",
            "tmpfs \\057srv/x tmpfs size=1m,nosuid 1\r\n",
        ] {
            assert_eq!(edited(line, "/srv/x", Some(&wanted)), None, "{line}");
        }
        let bind =
            Line { source: "/srv/a".into(), target: "/srv/x".into(), fstype: "auto".into(), options: "bind".into() };
        assert_eq!(edited("/srv/a/ /srv/x none bind 0 0\n", "/srv/x", Some(&bind)), None);
    }

    #[test]
    fn a_line_is_changed_in_its_place_and_keeps_its_numbers_and_its_comment() {
        let wanted = tmpfs("/srv/x", "size=2m");
        let other = "# a\nUUID=1 / ext4 defaults 0 1\n \n#tmpfs /srv/x tmpfs size=1m\n";
        let text = format!("{other}tmpfs /srv/x tmpfs size=1m 0 2 # by hand\nproc /proc proc");
        let after = format!("{other}tmpfs /srv/x tmpfs size=2m 0 2 # by hand\nproc /proc proc");
        assert_eq!(edited(&text, "/srv/x", Some(&wanted)), Some(after));
        // libmount ignores these as a whole.
        for line in ["tmpfs /srv/x tmpfs size=2m # by hand\n", "tmpfs /srv/x tmpfs size=2m 0 #by hand\n"] {
            let after = edited(line, "/srv/x", Some(&wanted)).unwrap();
            assert!(after.starts_with("tmpfs /srv/x tmpfs size=2m 0 0 #"), "{after}");
        }
        assert_eq!(
            edited("tmpfs /srv/x tmpfs size=2m x y\n", "/srv/x", Some(&wanted)).unwrap(),
            "tmpfs /srv/x tmpfs size=2m 0 0\n"
        );
    }

    #[test]
    fn there_is_one_line_and_it_begins_on_its_own() {
        let wanted = tmpfs("/srv/x", "size=1m");
        assert_eq!(edited("a /b c", "/srv/x", Some(&wanted)).unwrap(), "a /b c\ntmpfs /srv/x tmpfs size=1m 0 0\n");
        assert_eq!(edited("", "/srv/x", Some(&wanted)).unwrap(), "tmpfs /srv/x tmpfs size=1m 0 0\n");
        let twice =
            "tmpfs /srv/x tmpfs size=9m 0 0\na /b c\ntmpfs /srv/x/ tmpfs size=1m\ntmpfs /srv/x tmpfs size=1m 0 0\n";
        assert_eq!(edited(twice, "/srv/x", Some(&wanted)).unwrap(), "a /b c\ntmpfs /srv/x/ tmpfs size=1m\n");
        assert_eq!(edited(twice, "/srv/x", None).unwrap(), "a /b c\n");
        assert_eq!(edited("a /b c\n", "/srv/x", None), None);
    }

    #[test]
    fn odd_names_are_escaped_and_other_bytes_stay() {
        let odd = Line { source: "#x y".into(), ..tmpfs("/srv/a b\\c", "size=1m") };
        let mut text = b"# caf\xe9\r\n".to_vec();
        let edited = edit(&text, at("/srv/a b\\c"), Some(&odd)).unwrap();
        text.extend_from_slice(b"\\043x\\040y /srv/a\\040b\\134c tmpfs size=1m 0 0\n");
        assert_eq!(edited.text, text);
        assert_eq!(edit(&text, at("/srv/a b\\c"), Some(&odd)), None, "read as it was written");
        assert_eq!(entries(&text)[0].line, odd);
    }
}
