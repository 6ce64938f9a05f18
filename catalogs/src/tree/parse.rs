//! From TOML to a tree.
//!
//! A file without errors is read by one parser, which is five times as quick, and one with errors by another, which
//! goes on after each and says them better. Both make the same tree, places included; a test holds them to it.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use toml_spanner::{Arena, ArrayStyle, Item, Table as Quick, TableStyle};

use super::{At, Entry, Node, Sources, Table, Value};
use crate::diagnostic::Diagnostic;

/// Parses one file of `sources`. All syntax errors at once; with any, the tree holds only what could be read.
pub fn parse(sources: &Sources, path: &str, errors: &mut Vec<Diagnostic>) -> Option<Node> {
    let file = sources.file(path)?;
    let text = sources.text(path)?;
    if let Some(key) = too_deep(text) {
        let place = sources.place(file.part(key.start, key.end), format!("expected at most {MOST_PARTS} parts"));
        errors.push(Diagnostic::new("this key has too many parts").at(place));
        return None;
    }
    if let Some(node) = quick(text, file) {
        return Some(node);
    }
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
    let mut numbers = Vec::new();
    let node = converted(&table, file, &mut numbers);
    // A number that is no TOML was reported above.
    for at in numbers.into_iter().filter(|_| faults.is_empty()) {
        errors.push(
            Diagnostic::new("this number is too large").at(sources.place(at, "a whole number has at most 64 bits")),
        );
    }
    Some(node)
}

/// A key opens a table for each of its parts, and nobody writes so many; with very many the stack would not do.
const MOST_PARTS: usize = 50;

/// The first key with too many parts: names joined by dots, in a header or before `=`. Only lines with so many dots are read.
fn too_deep(text: &str) -> Option<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let mut last = [0; MOST_PARTS];
    let mut read = 0;
    for (count, at) in memchr::memchr_iter(b'.', bytes).enumerate() {
        last[count % MOST_PARTS] = at;
        let first = last[(count + 1) % MOST_PARTS];
        if count + 1 < MOST_PARTS || first < read || memchr::memchr(b'\n', &bytes[first..at]).is_some() {
            continue;
        }
        let start = memchr::memrchr(b'\n', &bytes[..first]).map_or(0, |end| end + 1);
        read = memchr::memchr(b'\n', &bytes[at..]).map_or(text.len(), |end| at + end);
        if let Some(key) = too_deep_in(&text[start..read]) {
            return Some(start + key.start..start + key.end);
        }
    }
    None
}

fn too_deep_in(line: &str) -> Option<std::ops::Range<usize>> {
    let named = |c: char| c.is_alphanumeric() || "_-\"' \t".contains(c);
    line.split(|c: char| !named(c) && c != '.').find_map(|run| {
        let parts = run.split('.').filter(|part| !part.trim().is_empty()).count();
        let start = run.as_ptr() as usize - line.as_ptr() as usize;
        let (before, after) = (line[..start].trim(), line[start + run.len()..].trim_start());
        let is_key = ["[", "[["].contains(&before) || after.starts_with('=');
        (parts > MOST_PARTS && is_key).then(|| start..start + run.len())
    })
}

/// The tree of a text that stands in no file; nothing where it is no TOML.
pub(crate) fn of(text: &str) -> Option<Node> {
    quick(text, At::start())
}

fn quick(text: &str, file: At) -> Option<Node> {
    let arena = Arena::new();
    let document = toml_spanner::parse(text, &arena).ok()?;
    Some(Node { at: file.part(0, 0), value: Value::Table(quick_table(document.table(), text, file)?) })
}

fn quick_table(table: &Quick<'_>, text: &str, file: At) -> Option<Table> {
    let entry = |(key, item): &(toml_spanner::Key<'_>, Item<'_>)| {
        let node = quick_node(item, text, file)?;
        let header = item.as_table().is_some_and(|table| table.style() == TableStyle::Header);
        if header && key.span.start < node.at.start {
            // Of a table that was opened by another's header before its own, the parsers take different keys.
            return None;
        }
        Some((key.name.to_owned(), Entry { key: file.part(key.span.start as usize, key.span.end as usize), node }))
    };
    // One by one: collected, the few entries of most tables would be sorted in a list of their own first.
    let mut all = Table::new();
    for one in table.entries() {
        let (key, value) = entry(one)?;
        all.insert(key, value);
    }
    Some(all)
}

fn quick_node(item: &Item<'_>, text: &str, file: At) -> Option<Node> {
    let span = item.span();
    let (start, mut end) = (span.start as usize, span.end as usize);
    let value = match item.value() {
        toml_spanner::Value::String(text) => Value::String((*text).to_owned()),
        toml_spanner::Value::Integer(number) => Value::Integer(number.as_i64()?),
        toml_spanner::Value::Float(number) => Value::Float(*number),
        toml_spanner::Value::Boolean(yes) => Value::Boolean(*yes),
        // Its words are the other parser's.
        toml_spanner::Value::DateTime(_) => return None,
        toml_spanner::Value::Array(all) => {
            let items = all.iter().map(|item| quick_node(item, text, file)).collect::<Option<_>>()?;
            end = if all.style() == ArrayStyle::Header { header(text, start) } else { end };
            Value::Array(items)
        }
        toml_spanner::Value::Table(table) => {
            let inner = quick_table(table, text, file)?;
            end = if table.style() == TableStyle::Header { header(text, start) } else { end };
            Value::Table(inner)
        }
    };
    Some(Node { at: file.part(start, end), value })
}

/// Where a header ends that starts here: a table's place is its header.
fn header(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let closing = if text[start..].starts_with("[[") { 2 } else { 1 };
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at += 1;
                while bytes.get(at).is_some_and(|inner| inner != byte) {
                    at += if *byte == b'"' && bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b']' => return at + closing,
            _other => {}
        }
        at += 1;
    }
    at
}

fn converted(table: &Spanned<DeTable<'_>>, file: At, numbers: &mut Vec<At>) -> Node {
    Node { at: file.part(0, 0), value: Value::Table(convert_table(table.get_ref(), file, numbers)) }
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
    use proptest::prelude::*;

    use super::*;

    /// Both parsers' trees, where both take it for TOML.
    fn both(text: &str) -> Option<(Node, Node)> {
        let one = of(text)?;
        let (table, faults) = DeTable::parse_recoverable(text);
        let mut numbers = Vec::new();
        let other = converted(&table, At::start(), &mut numbers);
        assert!(faults.is_empty() && numbers.is_empty(), "{text}: {faults:?}");
        Some((one, other))
    }

    fn same(text: &str) {
        let (one, other) = both(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(one, other, "{text}");
    }

    #[test]
    fn both_parsers_make_the_same_tree() {
        for text in [
            "",
            "a = [[]]\n[[b]]\nc = [[1], [2]]\n",
            "a = 1\n",
            "# a\n  a.b.c = 'x' # more\n[t]\n\n",
            "[pool.a] # one\ncount = 3\n\n[pool.b]\ncount = 0x10\n",
            "[[file]]  # first\npath = \"/a\\n\\u00e4\"\nmode = '''\nx'''\n[[file]]\n[[file]]\npath = \"\"\"\\\n  a\"\"\"\n",
            "a = [1, [2, 3], { b = 1.5, c = true }, ]\nb = { c.d = 1, e = { f = [] } }\n",
            "[a.\"b ] c\".'d]']\nx = 1\n[[a.\"b ] c\".e]]\n",
            "x = -17\ny = +1_000\nz = 0b11\ne = 1e6\n",
        ] {
            same(text);
        }
    }

    /// What the quick one leaves to the other.
    #[test]
    fn not_everything_is_quick() {
        for text in ["[a.b]\n[a]\n", "a = 1979-05-27\n", "a = 99999999999999999999\n", "a = \n", "a = 1\na = 2\n"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_shipped_files_make_the_same_tree() {
        fn walk(folder: &std::path::Path, count: &mut usize) {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, count);
                } else if path.extension().is_some_and(|extension| extension == "toml" || extension == "append")
                    && let Ok(text) = std::fs::read_to_string(&path)
                    && let Some((one, other)) = both(&text)
                {
                    assert_eq!(one, other, "{}", path.display());
                    *count += 1;
                }
            }
        }
        let mut count = 0;
        walk(std::path::Path::new(env!("CARGO_MANIFEST_DIR")), &mut count);
        assert!(count > 60, "{count}");
    }

    proptest! {
        #[test]
        fn any_file_makes_the_same_tree(parts in prop::collection::vec(prop_oneof![
            Just("[a]\n"), Just("[a.b]\n"), Just("[[c]]\n"), Just("[[c.d]] # x\n"), Just("x = 1\n"), Just("y = \"\\t{{ a }}\"\n"),
            Just("z = '''\n a\n'''\n"), Just("  w.v = [1, 'b'] # c\n"), Just("\r\n"), Just("\"q ]\" = { r = 1 }\n"), Just("[e.'f]']\n"),
        ], 0..12)) {
            let text: String = parts.concat();
            if let Some((one, other)) = both(&text) {
                prop_assert_eq!(one, other, "{}", text);
            }
        }
    }
}
