//! From a part of a text to where it stands in TOML, between quotes and perhaps escaped.

use std::ops::Range;

/// The bytes of `raw`, a value as it stands in a file, that `part` of `text`, the value that it has, came from.
pub(super) fn origin(raw: &str, text: &str, part: Range<usize>) -> Option<Range<usize>> {
    let (quote, escapes) = [("\"\"\"", true), ("'''", false), ("\"", true), ("'", false)]
        .into_iter()
        .find(|(quote, _)| raw.len() >= 2 * quote.len() && raw.starts_with(quote) && raw.ends_with(quote))?;
    let mut at = quote.len();
    let end = raw.len() - quote.len();
    if quote.len() == 3 {
        // The first line's end belongs to the quotes.
        at += ["\r\n", "\n"].iter().find(|line_end| raw[at..].starts_with(**line_end)).map_or(0, |found| found.len());
    }
    let mut start = None;
    let mut behind = at;
    let mut done = 0;
    for character in text.chars() {
        if escapes && quote.len() == 3 {
            at = skip_joined_lines(raw, at, end);
        }
        if done == part.start {
            start = Some(at);
        }
        if done >= part.end && start.is_some() {
            break;
        }
        at += written(&raw[at..end], character, escapes)?;
        behind = at;
        done += character.len_utf8();
    }
    let start = if done == part.start { start.unwrap_or(at) } else { start? };
    Some(start..behind.max(start))
}

/// How many bytes at the beginning of `raw` stand for this character.
fn written(raw: &str, character: char, escapes: bool) -> Option<usize> {
    if let (true, Some(escaped)) = (escapes, raw.strip_prefix('\\')) {
        let digits = match escaped.chars().next()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        return (escaped.len() > digits).then_some(2 + digits);
    }
    // A line's end may have been made one of another kind.
    if character == '\n' && raw.starts_with("\r\n") {
        return Some(2);
    }
    raw.starts_with(character).then_some(character.len_utf8())
}

/// `\` at a line's end joins it with the next.
fn skip_joined_lines(raw: &str, mut at: usize, end: usize) -> usize {
    while let Some(rest) = raw[at..end].strip_prefix('\\') {
        let next = rest.trim_start();
        let skipped = rest.len() - next.len();
        if !rest[..skipped].contains('\n') {
            break;
        }
        at += 1 + skipped;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found<'a>(raw: &'a str, text: &str, what: &str) -> &'a str {
        let start = text.find(what).unwrap();
        &raw[origin(raw, text, start..start + what.len()).unwrap()]
    }

    #[test]
    fn parts_are_found_between_all_quotes() {
        for raw in ["'a {{ x }}'", "\"a {{ x }}\"", "'''a {{ x }}'''", "\"\"\"\na {{ x }}\"\"\"", "'''\r\na {{ x }}'''"]
        {
            assert_eq!(found(raw, "a {{ x }}", "{{ x }}"), "{{ x }}", "{raw}");
        }
        assert_eq!(found(r#""\tä\u00e4\n\"{{ x }}\\""#, "\tää\n\"{{ x }}\\", "{{ x }}"), "{{ x }}");
        assert_eq!(found(r#""a\nb""#, "a\nb", "\n"), r"\n");
        assert_eq!(found("\"\"\"\\\n   one \\\r\n  two\"\"\"", "one two", "two"), "two");
        assert_eq!(origin("true", "true", 0..4), None);
        assert_eq!(origin("\"a\"", "b", 0..1), None);
        assert_eq!(origin("\"ab\"", "ab", 2..2), Some(3..3));
    }

    proptest! {
        #[test]
        fn whatever_toml_says_its_parts_are_found(text in "[a-z\\n\\r\"'\\\\ä{}#\\t]{0,20}", start in 0usize..20, length in 0usize..20) {
            let written = toml::Value::String(text.clone()).to_string();
            let toml::Value::String(read) = format!("x = {written}").parse::<toml::Table>().unwrap()["x"].clone() else {
                panic!("a text");
            };
            prop_assert_eq!(&read, &text);
            let floor = |mut at: usize| { at = at.min(text.len()); while !text.is_char_boundary(at) { at -= 1; } at };
            let (start, end) = (floor(start), floor(start + length));
            let range = origin(&written, &text, start..end);
            prop_assert!(range.is_some(), "{written}");
            let plain = |c: char| c.is_ascii_lowercase() || c == '{' || c == 'ä';
            if text[start..end].chars().all(plain) && !text[start..end].is_empty() {
                prop_assert_eq!(&written[range.unwrap()], &text[start..end]);
            }
        }
    }
}
