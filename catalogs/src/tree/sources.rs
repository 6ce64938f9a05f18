//! The files of a site, and places in them as people read them.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

use super::quoted;
use crate::{
    diagnostic::Place,
    files::{Binary, SiteFiles},
};

/// The most characters of a line that are shown around what is marked in it.
const MOST_SHOWN: usize = 160;
/// How many of them stand before the mark.
const BEFORE: usize = 40;

/// A range of bytes in a file of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    file: u32,
    pub start: u32,
    pub end: u32,
}

/// All files of a site, for showing places. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Arc<Files>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Files {
    /// A place holds the index, so that a file once there stays where it is.
    all: Vec<File>,
    by_path: BTreeMap<String, u32>,
    binary: BTreeMap<String, Binary>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct File {
    path: String,
    text: String,
    lines: Lines,
}

/// Where the lines of a text end: found once, so that many errors in one file cost no more than they are.
#[derive(Debug, Clone, Default)]
struct Lines(OnceLock<Vec<usize>>);

impl Lines {
    /// The number of the line at a byte of the text, from 1.
    fn at(&self, text: &str, byte: usize) -> u32 {
        let ends = self.0.get_or_init(|| memchr::memchr_iter(b'\n', text.as_bytes()).collect());
        small(ends.partition_point(|end| *end < byte)) + 1
    }
}

/// They follow from the text.
impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lines {}

impl Sources {
    pub fn new(files: &SiteFiles) -> Self {
        let mut all = Files { binary: files.binary.clone(), ..Files::default() };
        for (path, text) in &files.texts {
            all.add(path.clone(), text.clone());
        }
        Self(Arc::new(all))
    }

    /// Adds a text, or nothing when there is one of this path. Places that were taken before stay right.
    pub fn add(&mut self, path: String, text: String) {
        Arc::make_mut(&mut self.0).add(path, text);
    }

    pub(crate) fn add_binary(&mut self, path: String, content: Binary) {
        Arc::make_mut(&mut self.0).binary.insert(path, content);
    }

    /// The start of a file.
    pub fn file(&self, path: &str) -> Option<At> {
        Some(At { file: *self.0.by_path.get(path)?, start: 0, end: 0 })
    }

    /// The whole of a file.
    pub(crate) fn whole(&self, path: &str) -> Option<At> {
        let at = self.file(path)?;
        Some(at.part(0, self.get(at).1.len()))
    }

    fn get(&self, at: At) -> (&str, &str) {
        self.0.all.get(at.file as usize).map_or(("", ""), |file| (&file.path, &file.text))
    }

    pub fn path(&self, at: At) -> &str {
        self.get(at).0
    }

    /// The text at a place.
    pub fn slice(&self, at: At) -> &str {
        self.get(at).1.get(at.start as usize..at.end as usize).unwrap_or("")
    }

    /// The text of a file of the site.
    pub fn text(&self, path: &str) -> Option<&str> {
        Some(self.get(self.file(path)?).1)
    }

    /// What a file of the site holds, where that is no text.
    pub(crate) fn binary(&self, path: &str) -> Option<&Binary> {
        self.0.binary.get(path)
    }

    /// Every path, texts before binary ones.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.by_path.keys().chain(self.0.binary.keys()).map(String::as_str)
    }

    /// The place of a part of a text that is the value at `at`, quoted and perhaps escaped there. The whole value's
    /// place where its parts cannot be told.
    pub(crate) fn part(&self, at: At, text: &str, part: Range<usize>) -> At {
        let (start, end) = (floor(text, part.start), floor(text, part.end));
        match quoted::origin(self.slice(at), text, start..end) {
            Some(range) => at.part(range.start, range.end),
            None => at,
        }
    }

    /// A place as people read it. What spans several lines is marked on its first; a long line is cut around the mark.
    pub fn place(&self, at: At, label: impl Into<String>) -> Place {
        let (path, text) = self.get(at);
        let start = floor(text, at.start as usize);
        let end = floor(text, at.end as usize).max(start);
        let line = self.0.all.get(at.file as usize).map_or(1, |file| file.lines.at(text, start));
        place(path, text, line, start..end, label.into())
    }

    /// Where a file stops being UTF-8.
    pub(crate) fn where_no_text(&self, path: &str, label: impl Into<String>) -> Option<Place> {
        let content = &self.binary(path)?.0;
        let good = std::str::from_utf8(content).err().map_or(0, |error| error.valid_up_to());
        let begin = content[..good].iter().rposition(|byte| *byte == b'\n').map_or(0, |i| i + 1);
        let finish = content[good..].iter().position(|byte| *byte == b'\n').map_or(content.len(), |i| good + i);
        // A binary file's lines may be long: what is far behind the mark is not shown anyway.
        let line = String::from_utf8_lossy(&content[begin..finish.min(good + 4 * MOST_SHOWN)]).into_owned();
        let number = small(memchr::memchr_iter(b'\n', &content[..good]).count()) + 1;
        let mark = good - begin..good - begin + '\u{fffd}'.len_utf8();
        Some(place(path, &line, number, mark, label.into()))
    }
}

impl Files {
    fn add(&mut self, path: String, text: String) {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let all = &mut self.all;
        self.by_path.entry(path).or_insert_with_key(|path| {
            all.push(File { path: path.clone(), text, lines: Lines::default() });
            next
        });
    }
}

fn place(file: &str, text: &str, line: u32, mark: Range<usize>, label: String) -> Place {
    let begin = text[..mark.start].rfind('\n').map_or(0, |i| i + 1);
    let finish = text[mark.start..].find('\n').map_or(text.len(), |i| mark.start + i);
    let shown = text[begin..finish].trim_end_matches('\r');
    let before = text[begin..mark.start].chars().count();
    let width = text[mark.start..mark.end.min(finish)].chars().count().max(1);
    let (text_shown, cut, width) = window(shown, before, width);
    // Control characters would do something to a terminal.
    let text_shown = text_shown.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    Place {
        file: file.to_owned(),
        line,
        column: small(before) + 1,
        width: small(width),
        text: text_shown,
        cut: small(cut),
        label,
    }
}

/// What is shown of a line, how many characters its beginning there is further right in the line, and the mark's width.
fn window(line: &str, before: usize, width: usize) -> (String, usize, usize) {
    let length = line.chars().count();
    if length <= MOST_SHOWN {
        return (line.to_owned(), 0, width);
    }
    let first = before.saturating_sub(BEFORE).min(length.saturating_sub(MOST_SHOWN));
    let mut shown: String = line.chars().skip(first).take(MOST_SHOWN).collect();
    if first + MOST_SHOWN < length {
        shown.push('…');
    }
    let width = width.min((first + MOST_SHOWN).saturating_sub(before).max(1));
    if first == 0 {
        return (shown, 0, width);
    }
    (format!("…{shown}"), first - 1, width)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX - 1)
}

fn floor(text: &str, mut index: usize) -> usize {
    index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

impl At {
    /// Where a text starts that is in no file.
    pub(crate) fn start() -> Self {
        Self { file: 0, start: 0, end: 0 }
    }

    /// A part of this place, by bytes from its start.
    pub fn part(self, start: usize, end: usize) -> Self {
        let add = |n: usize| self.start.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        Self { file: self.file, start: add(start), end: add(end) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Diagnostic;

    fn sources(text: &str) -> Sources {
        Sources::new(&BTreeMap::from([("a.toml".to_owned(), text.to_owned())]).into())
    }

    #[test]
    fn a_long_line_is_cut_around_its_mark() {
        let text = format!("ä = \"{}\", wrong = 1, more = \"{}\"\n", "x".repeat(300_000), "y".repeat(300_000));
        let sources = sources(&text);
        let start = text.find("wrong").unwrap();
        for (start, width) in [(start, 5), (0, 2), (text.len() - 3, 2), (start, 300_000)] {
            let place = sources.place(sources.file("a.toml").unwrap().part(start, start + width), "here");
            assert!(place.text.chars().count() <= MOST_SHOWN + 2, "{}", place.text.len());
            let shown = Diagnostic::new("wrong").at(place.clone()).to_string();
            assert!(shown.lines().all(|line| line.chars().count() < 220), "{shown}");
            let lines: Vec<&str> = shown.lines().collect();
            let marked = lines[3].chars().zip(lines[2].chars().chain(std::iter::repeat(' ')));
            let marked: String = marked.filter(|(mark, _)| *mark == '^').map(|(_, shown)| shown).collect();
            let whole: String = text[start..].chars().take(marked.chars().count()).collect();
            assert_eq!(marked, whole, "{shown}");
        }
    }

    #[test]
    fn the_place_where_a_file_is_no_text() {
        let mut files = SiteFiles::default();
        files.insert("roles/files/a".to_owned(), b"one\nStra\xdfe \x1b[0m\nthree\n".to_vec());
        let place = Sources::new(&files).where_no_text("roles/files/a", "here").unwrap();
        assert_eq!((place.line, place.column, place.width), (2, 5, 1));
        assert_eq!(place.text, "Stra\u{fffd}e \u{fffd}[0m");
    }
}
