//! How content is shown in plans: short line diffs, sizes.

use similar::{ChangeTag, TextDiff};

/// The most lines that one resource shows.
const MOST_LINES: usize = 60;
/// The most characters of a line.
const MOST_WIDTH: usize = 400;
/// Beyond this many bytes on either side only sizes are compared: a line diff would cost more than it tells.
const MOST_BYTES: usize = 256 * 1024;

/// The changed lines, `- ` and `+ ` first; one line about sizes where it is no text or too long.
pub fn diff(old: &[u8], new: &[u8]) -> Vec<String> {
    let texts = (std::str::from_utf8(old), std::str::from_utf8(new));
    let (Ok(old_text), Ok(new_text)) = texts else {
        return vec![format!("content differs: {} → {}", size(old.len() as u64), size(new.len() as u64))];
    };
    if old.len().max(new.len()) > MOST_BYTES || old.contains(&0) || new.contains(&0) {
        return vec![format!("content differs: {} → {}", size(old.len() as u64), size(new.len() as u64))];
    }
    let diff = TextDiff::from_lines(old_text, new_text);
    let mut lines = Vec::new();
    let (mut deleted, mut inserted) = (Vec::new(), Vec::new());
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Equal => hunk(&mut deleted, &mut inserted, &mut lines),
            ChangeTag::Delete => deleted.push(change.value()),
            ChangeTag::Insert => inserted.push(change.value()),
        }
    }
    hunk(&mut deleted, &mut inserted, &mut lines);
    let more = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if more > 0 {
        lines.push(format!("… and {more} lines more"));
    }
    lines
}

/// Lines that took each other's place. Of a long one with its like on the other side, what differs is shown.
fn hunk(deleted: &mut Vec<&str>, inserted: &mut Vec<&str>, lines: &mut Vec<String>) {
    for (sign, ours, others) in [('-', &*deleted, &*inserted), ('+', &*inserted, &*deleted)] {
        for (at, line) in ours.iter().enumerate() {
            let end = if line.ends_with('\n') { "" } else { " (no newline at the end)" };
            let line = line.trim_end_matches('\n');
            let from = others.get(at).map_or(0, |other| differs_from(line, other.trim_end_matches('\n'), MOST_WIDTH));
            lines.push(format!("{sign} {}{end}", shown(line, from)));
        }
    }
    deleted.clear();
    inserted.clear();
}

/// Where showing one of two texts begins, in characters: at its start where it fits into `width`, else shortly before
/// they differ.
fn differs_from(text: &str, other: &str, width: usize) -> usize {
    if text.chars().count() <= width {
        return 0;
    }
    let same = text.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    if same < width / 2 { 0 } else { same - width / 4 }
}

/// Two texts that differ, each in at most `width` characters and two ellipses, so that the difference is seen.
pub fn unlike(old: &str, new: &str, width: usize) -> (String, String) {
    let cut = |text: &str, other: &str| {
        let from = differs_from(text, other, width);
        let mut rest = text.chars().skip(from);
        let part: String = rest.by_ref().take(width).collect();
        let (before, behind) = (if from > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
        format!("{before}{part}{behind}")
    };
    (cut(old, new), cut(new, old))
}

/// One line for people, from a character on. Whoever wrote the file is not to change the state or the look of their
/// terminals.
fn shown(line: &str, from: usize) -> String {
    let mut shown = String::with_capacity(line.len().min(MOST_WIDTH));
    if from > 0 {
        shown.push_str(&format!("({from} characters as before) … "));
    }
    for (at, c) in line.chars().skip(from).enumerate() {
        if at == MOST_WIDTH {
            let more = line.chars().count() - from - at;
            shown.push_str(&format!(" … and {more} characters more"));
            break;
        }
        // Control characters, and those that turn the direction of what follows (Unicode, UAX #9).
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || (c.is_control() && c != '\t') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// As in `34 bytes`, `12 KiB`, `3.4 MiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _more => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_diff_is_cut_and_says_so() {
        let new: String = (0..100).map(|n| format!("{n}\n")).collect();
        let lines = diff(b"", new.as_bytes());
        assert_eq!((lines.len(), lines[60].as_str()), (61, "… and 40 lines more"));
    }

    #[test]
    fn a_line_is_cut_and_does_nothing_to_a_terminal() {
        let lines = diff("a\x1b]0;x\x07\tb\u{202e}c\r\n".as_bytes(), "x".repeat(500).as_bytes());
        assert_eq!(lines[0], "- a\\u{1b}]0;x\\u{7}\tb\\u{202e}c\\r");
        assert_eq!(lines[1], format!("+ {} … and 100 characters more (no newline at the end)", "x".repeat(400)));
    }

    #[test]
    fn of_long_lines_what_differs_is_shown() {
        let line = |word: &str| format!("{}{word}{}", "x".repeat(500), "y".repeat(500));
        let lines = diff(line("old").as_bytes(), line("new").as_bytes());
        assert!(lines[0].starts_with("- (400 characters as before) … xx"), "{}", lines[0]);
        assert!(lines[0].contains("xoldy") && lines[1].contains("xnewy"), "{lines:?}");
        let (old, new) = unlike(&line("old"), &line("new"), 60);
        assert!(old.contains("xoldy") && new.contains("xnewy") && old.chars().count() == 62, "{old} {new}");
        // Also where one only goes on, or the other ends.
        let (old, new) = unlike(&"x".repeat(100), &"x".repeat(101), 60);
        assert_eq!((old.chars().count(), new.chars().count()), (16, 17));
        assert_eq!(unlike("a", "b", 60), ("a".to_owned(), "b".to_owned()));
    }

    #[test]
    fn what_is_no_text_shows_sizes() {
        assert_eq!(diff(&[0xff, 0xfe], b"ab\n"), ["content differs: 2 bytes → 3 bytes"]);
        assert_eq!(diff(b"a", b"a\n"), ["- a (no newline at the end)", "+ a"]);
        assert_eq!(diff(b"a\0", b"ab"), ["content differs: 2 bytes → 2 bytes"]);
    }
}
