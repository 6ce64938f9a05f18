//! `{#` that is no comment: bash's `${#a[@]}` would open one and swallow every line up to the next `#}` without a word.
//!
//! A comment must look as if somebody meant one: before it a line's start, a blank or another mark, inside it blanks at its
//! beginning, an end, and no second `{#`; one over several lines begins its line. All else is an error.

use std::ops::Range;

/// A `{#` that is taken for no comment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stray {
    /// The mark and what clings to it.
    pub(super) at: Range<usize>,
    pub(super) why: &'static str,
}

/// All of them outside of expressions, statements, `raw` and comments. It ends where the template's own errors begin.
pub(super) fn stray(text: &str) -> Vec<Stray> {
    let mut found = Vec::new();
    let mut at = 0;
    // Where the last mark ended: a comment may follow it at once.
    let mut behind = 0;
    while let Some((start, mark)) = next(text, at) {
        let end = match mark {
            b'{' => end_of(text, start + 2, "}}"),
            b'%' => match block(&text[start + 2..], "raw") {
                Some(inner) => end_of_raw(text, start + 2 + inner),
                None => end_of(text, start + 2, "%}"),
            },
            _comment => match comment(text, start, behind) {
                Ok(end) => Some(end),
                Err(why) => {
                    let rest = &text[start + 2..];
                    let clings = rest.find(|c: char| c.is_whitespace() || c == '}').unwrap_or(rest.len()).min(12);
                    let clings = (0..=clings).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(0);
                    found.push(Stray { at: start..start + 2 + clings, why });
                    at = start + 2;
                    continue;
                }
            },
        };
        let Some(end) = end else { break };
        (at, behind) = (end, end);
    }
    found
}

fn next(text: &str, from: usize) -> Option<(usize, u8)> {
    let bytes = text.as_bytes();
    text[from..].match_indices('{').map(|(at, _)| from + at).find_map(|at| {
        let mark = *bytes.get(at + 1)?;
        matches!(mark, b'{' | b'%' | b'#').then_some((at, mark))
    })
}

/// The comment's end, or why it is none.
fn comment(text: &str, start: usize, behind: usize) -> Result<usize, &'static str> {
    let line = &text[text[..start].rfind('\n').map_or(0, |end| end + 1)..start];
    let begins_its_line = line.trim().is_empty();
    if !begins_its_line && behind != start && !line.ends_with(char::is_whitespace) {
        return Err("no blank before it");
    }
    let rest = &text[start + 2..];
    let inner = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if !inner.starts_with(char::is_whitespace) {
        return Err("no blank after it");
    }
    let Some(end) = rest.find("#}") else { return Err("it has no end, `#}`") };
    if rest[..end].contains("{#") {
        return Err("another begins before its end");
    }
    if rest[..end].contains('\n') && !begins_its_line {
        return Err("it is of several lines and does not begin its own");
    }
    Ok(start + 2 + end + 2)
}

/// Where an expression or statement ends: not in its strings and brackets.
fn end_of(text: &str, from: usize, end: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (from, 0_u32);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at += 1;
                while *bytes.get(at)? != *byte {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ if depth == 0 && text.as_bytes()[at..].starts_with(end.as_bytes()) => return Some(at + end.len()),
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _other => {}
        }
        at += 1;
    }
    None
}

/// The length of `raw %}` or `endraw %}` with its blanks, at the beginning of a text that follows `{%`.
fn block(text: &str, name: &str) -> Option<usize> {
    let sign = |text: &'_ str| text.strip_prefix(['-', '+']).map_or(0, |_| 1);
    let rest = text[sign(text)..].trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
    let rest = rest[sign(rest)..].strip_prefix("%}")?;
    Some(text.len() - rest.len())
}

fn end_of_raw(text: &str, from: usize) -> Option<usize> {
    text[from..].match_indices("{%").find_map(|(at, _)| {
        let inner = from + at + 2;
        Some(inner + block(&text[inner..], "endraw")?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks(text: &str) -> Vec<&str> {
        stray(text).into_iter().map(|stray| &text[stray.at]).collect()
    }

    #[test]
    fn comments_are_comments() {
        for text in [
            "{# one #}",
            "a {# two #} b",
            "  {#- trimmed -#}\n",
            "{# over\n several #}",
            "{{ x }}{# at once #}",
            "{# a #}{# b #}",
            "{%- if x %}{# c #}{% endif %}",
            "{# {{ switched.off }} {% if %} #}",
            "\t{#\n#}",
        ] {
            assert_eq!(marks(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn what_other_programs_mean_is_none() {
        for (text, found) in [
            ("echo ${#a[@]}\n", vec!["{#a[@]"]),
            ("echo ${#a[@]}\nkept\nb=${b#}\n", vec!["{#a[@]"]),
            ("${#}", vec!["{#"]),
            ("${##} ${#*}", vec!["{##", "{#*"]),
            ("\\newcommand{\\x}[1]{#1}", vec!["{#1"]),
            ("  {#1}", vec!["{#1"]),
            ("checksum _6{#<\\b", vec!["{#<\\b"]),
            ("awk '{# first\n}\n#}'", vec!["{#"]),
            ("server {# main\n a;\n#}\n", vec!["{#"]),
            ("a {# one\n b {# two #}", vec!["{#"]),
            ("a {# to the end", vec!["{#"]),
            ("{#comment#}", vec!["{#comment#"]),
            ("ä{#ä", vec!["{#ä"]),
        ] {
            assert_eq!(marks(text), found, "{text}");
        }
    }

    #[test]
    fn strings_and_raw_text_are_not_looked_into() {
        for text in [
            "{{ \"${#a}\" }}",
            "{{ {'a': {'b': '}}${#'}} }}",
            "{% raw %}${#a[@]}{% endraw %}",
            "{%- raw -%}\n${#a}\n{%- endraw -%} b",
            "{% if x == '%}${#' %}{% endif %}",
        ] {
            assert_eq!(marks(text), Vec::<&str>::new(), "{text}");
        }
        assert_eq!(marks("{% raw %}${#a}{% endraw %} ${#b}"), ["{#b"]);
        // Its own error is minijinja's.
        assert_eq!(marks("{{ ' ${#b}"), Vec::<&str>::new());
    }

    proptest! {
        /// Where nothing is said, nothing but comments went.
        #[test]
        fn nothing_vanishes(parts in prop::collection::vec(prop_oneof![
            Just("{#"), Just("#}"), Just(" "), Just("\n"), Just("$"), Just("a"), Just("{# note #}"), Just("{% raw %}"), Just("{% endraw %}"), Just("-"),
        ], 0..12)) {
            let text: String = parts.concat();
            let environment = minijinja::Environment::new();
            let rendered = environment.template_from_str(&text).ok().and_then(|t| t.render(()).ok());
            if let (Some(rendered), true) = (rendered, stray(&text).is_empty()) {
                // Comments of this test's own words, and what was written between their marks.
                let mut rest = text.clone();
                while let Some(start) = rest.find("{# ").or_else(|| rest.find("{#\n")).or_else(|| rest.find("{#-")) {
                    let Some(length) = rest[start..].find("#}") else { break };
                    rest.replace_range(start..start + length + 2, "");
                }
                let letters = |text: &str| text.matches('a').count();
                if !text.contains("raw") {
                    prop_assert_eq!(letters(&rendered), letters(&rest), "{:?}", text);
                }
            }
        }
    }
}
