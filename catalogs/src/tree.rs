//! TOML as a tree in which every key and value knows its place, across all files of a site.
//!
//! serde loses places with tables that are flattened or tagged, and stops at the first error. So files become
//! this tree first, are checked against the shape of what they should hold (`shape`), and are decoded last.

use std::{collections::BTreeMap, sync::Arc};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Place};

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
    /// Path and text. A place holds the index, so that a file once there stays where it is.
    all: Vec<(String, String)>,
    by_path: BTreeMap<String, u32>,
}

impl Sources {
    pub fn new(files: &BTreeMap<String, String>) -> Self {
        let mut sources = Self::default();
        for (path, text) in files {
            sources.add(path.clone(), text.clone());
        }
        sources
    }

    /// Adds a file, or nothing when there is one of this path. Places that were taken before stay right.
    pub fn add(&mut self, path: String, text: String) {
        let files = Arc::make_mut(&mut self.0);
        let next = u32::try_from(files.all.len()).unwrap_or(u32::MAX);
        files.by_path.entry(path.clone()).or_insert_with(|| {
            files.all.push((path, text));
            next
        });
    }

    /// The start of a file.
    pub fn file(&self, path: &str) -> Option<At> {
        Some(At { file: *self.0.by_path.get(path)?, start: 0, end: 0 })
    }

    fn get(&self, at: At) -> (&str, &str) {
        self.0.all.get(at.file as usize).map_or(("", ""), |(path, text)| (path, text))
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

    /// A place as people read it. What spans several lines is marked on its first.
    pub fn place(&self, at: At, label: impl Into<String>) -> Place {
        let (file, text) = self.get(at);
        let start = floor(text, at.start as usize);
        let end = floor(text, at.end as usize).max(start);
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let finish = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let count = |s: &str| u32::try_from(s.chars().count()).unwrap_or(u32::MAX);
        Place {
            file: file.to_owned(),
            line: count_lines(&text[..start]),
            column: count(&text[begin..start]) + 1,
            width: count(&text[start..end.min(finish)]).max(1),
            text: text[begin..finish].trim_end_matches('\r').to_owned(),
            label: label.into(),
        }
    }
}

fn floor(text: &str, mut index: usize) -> usize {
    index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

fn count_lines(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|b| *b == b'\n').count()).unwrap_or(u32::MAX - 1) + 1
}

impl At {
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { file: 0, start: 0, end: 0 }
    }

    /// A part of this place, by bytes from its start.
    pub fn part(self, start: usize, end: usize) -> Self {
        let add = |n: usize| self.start.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        Self { file: self.file, start: add(start), end: add(end) }
    }
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

/// What TOML can say. Dates are texts that were not quoted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date(String),
    Array(Vec<Node>),
    Table(Table),
}

/// Keys in alphabetical order, each with its place.
pub type Table = BTreeMap<String, Entry>;

/// A key's place and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: At,
    pub node: Node,
}

impl Node {
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date(_)
            | Value::Array(_) => None,
        }
    }

    pub(crate) fn into_table(self) -> Option<Table> {
        if let Value::Table(table) = self.value { Some(table) } else { None }
    }

    /// True when a text in it is to be rendered.
    pub(crate) fn has_templates(&self) -> bool {
        match &self.value {
            Value::String(text) => crate::shape::is_template(text),
            Value::Array(all) => all.iter().any(Node::has_templates),
            Value::Table(table) => table.values().any(|e| e.node.has_templates()),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => false,
        }
    }

    pub fn array(&self) -> Option<&[Node]> {
        if let Value::Array(all) = &self.value { Some(all) } else { None }
    }

    pub fn str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    /// The value at a path of keys.
    pub fn get(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| Some(&node.table()?.get(*key)?.node))
    }

    /// The place of the value at a path of keys, or of the deepest part of it that there is.
    pub fn at(&self, path: &[&str]) -> At {
        let mut node = self;
        for key in path {
            match node.table().and_then(|t| t.get(*key)) {
                Some(entry) => node = &entry.node,
                None => break,
            }
        }
        node.at
    }

    pub fn to_json(&self) -> serde_json::Value {
        self.clone().into_json()
    }

    pub(crate) fn into_json(self) -> serde_json::Value {
        match self.value {
            Value::String(text) | Value::Date(text) => text.into(),
            Value::Integer(n) => n.into(),
            Value::Float(n) => n.into(),
            Value::Boolean(b) => b.into(),
            Value::Array(all) => all.into_iter().map(Node::into_json).collect(),
            Value::Table(table) => {
                table.into_iter().map(|(k, e)| (k, e.node.into_json())).collect::<serde_json::Map<_, _>>().into()
            }
        }
    }

    /// A value that was computed at a place.
    pub(crate) fn from_json(json: &serde_json::Value, at: At) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::String(String::new()),
            serde_json::Value::Bool(b) => Value::Boolean(*b),
            serde_json::Value::Number(n) => match n.as_i64() {
                Some(n) => Value::Integer(n),
                None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(all) => Value::Array(all.iter().map(|v| Self::from_json(v, at)).collect()),
            serde_json::Value::Object(map) => Value::Table(
                map.iter().map(|(k, v)| (k.clone(), Entry { key: at, node: Self::from_json(v, at) })).collect(),
            ),
        };
        Self { at, value }
    }

    /// What it is, in the words of messages.
    pub fn noun(&self) -> &'static str {
        match &self.value {
            Value::String(_) => "a text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Date(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Parses one file of `sources`. All syntax errors at once; with any, the tree holds only what could be read.
pub fn parse(sources: &Sources, path: &str, errors: &mut Vec<Diagnostic>) -> Option<Node> {
    let file = sources.file(path)?;
    let text = sources.text(path)?;
    let (table, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let span = fault.span().unwrap_or(0..0);
        let text = fault.message().lines().next().unwrap_or_default();
        let (message, expected) = text.split_once(", expected ").unwrap_or((text, "nothing"));
        let label = match (message, expected) {
            ("duplicate key", _) => "it stands above already".to_owned(),
            (_, "nothing") => String::new(),
            (_, expected) => format!("expected {expected}"),
        };
        errors.push(
            Diagnostic::new(format!("this is not TOML: {message}"))
                .at(sources.place(file.part(span.start, span.end), label)),
        );
    }
    let span = table.span();
    let mut numbers = Vec::new();
    let node = Node {
        at: file.part(span.start.min(text.len()), span.start.min(text.len())),
        value: Value::Table(convert_table(table.get_ref(), file, &mut numbers)),
    };
    // A number that is no TOML was reported above.
    for at in numbers.into_iter().filter(|_| faults.is_empty()) {
        errors.push(
            Diagnostic::new("this number is too large").at(sources.place(at, "a whole number has at most 64 bits")),
        );
    }
    Some(node)
}

fn convert_table(table: &DeTable<'_>, file: At, numbers: &mut Vec<At>) -> Table {
    table
        .iter()
        .map(|(key, value)| {
            let span = key.span();
            let entry = Entry { key: file.part(span.start, span.end), node: convert(value, file, numbers) };
            (key.get_ref().to_string(), entry)
        })
        .collect()
}

fn convert(value: &Spanned<DeValue<'_>>, file: At, numbers: &mut Vec<At>) -> Node {
    let span = value.span();
    let at = file.part(span.start, span.end);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                numbers.push(at);
                Value::Integer(0)
            }
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(all) => Value::Array(all.iter().map(|v| convert(v, file, numbers)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, file, numbers)),
    };
    Node { at, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        Sources::new(&BTreeMap::from([("a.toml".to_owned(), text.to_owned())]))
    }

    #[test]
    fn places_count_characters_and_lines() {
        let sources = sources("# ä\r\nname = \"größe\"\r\nx = 1\n");
        let mut errors = Vec::new();
        let tree = parse(&sources, "a.toml", &mut errors).unwrap();
        let place = sources.place(tree.at(&["name"]), "");
        assert_eq!((place.line, place.column, place.width, place.text.as_str()), (2, 8, 7, "name = \"größe\""));
        assert_eq!(sources.place(tree.at(&["x"]), "").line, 3);
        assert!(errors.is_empty());
    }

    #[test]
    fn the_place_of_what_is_missing_is_the_deepest_table_above_it() {
        let sources = sources("[pool.a]\ncount = 1\n");
        let tree = parse(&sources, "a.toml", &mut Vec::new()).unwrap();
        assert_eq!(sources.place(tree.at(&["pool", "a", "role"]), "").text, "[pool.a]");
    }

    #[test]
    fn no_text_makes_a_place_panic() {
        let sources = sources("ä");
        for start in 0..5 {
            for end in 0..5 {
                let at = sources.file("a.toml").unwrap().part(start, end);
                assert_eq!(sources.place(at, "").line, 1);
            }
        }
    }

    #[test]
    fn numbers_of_every_base_and_too_large_ones() {
        let sources = sources("a = 0o755\nb = 0xff\nc = 99999999999999999999\nd = 1_000\n");
        let mut errors = Vec::new();
        let tree = parse(&sources, "a.toml", &mut errors).unwrap();
        assert_eq!(tree.to_json(), serde_json::json!({ "a": 493, "b": 255, "c": 0, "d": 1000 }));
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}
