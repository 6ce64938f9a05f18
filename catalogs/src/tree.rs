//! TOML as a tree in which every key and value knows its place, across all files of a site.
//!
//! serde loses places with tables that are flattened or tagged, and stops at the first error. So files become
//! this tree first, are checked against the shape of what they should hold (`shape`), and are decoded last.

mod decode;
mod parse;
mod quoted;
mod sources;

use std::collections::BTreeMap;

pub(crate) use decode::Without;
pub(crate) use parse::of;
pub use parse::parse;
pub use sources::{At, Sources};

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

    /// The text at a key.
    pub(crate) fn text_mut(&mut self, key: &str) -> Option<&mut String> {
        let Value::Table(table) = &mut self.value else { return None };
        match &mut table.get_mut(key)?.node.value {
            Value::String(text) => Some(text),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date(_)
            | Value::Array(_)
            | Value::Table(_) => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        Sources::new(&BTreeMap::from([("a.toml".to_owned(), text.to_owned())]).into())
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
