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
    let mut lines = Vec::new();
    let mut more = 0;
    for change in TextDiff::from_lines(old_text, new_text).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        if lines.len() == MOST_LINES {
            more += 1;
            continue;
        }
        let value = change.value();
        let end = if value.ends_with('\n') { "" } else { " (no newline at the end)" };
        lines.push(format!("{sign} {}{end}", shown(value.trim_end_matches('\n'))));
    }
    if more > 0 {
        lines.push(format!("… and {more} lines more"));
    }
    lines
}

/// One line for people. Whoever wrote the file is not to change the state or the look of their terminals.
fn shown(line: &str) -> String {
    let mut shown = String::with_capacity(line.len().min(MOST_WIDTH));
    for (at, c) in line.chars().enumerate() {
        if at == MOST_WIDTH {
            let more = line.chars().count() - at;
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
    fn what_is_no_text_shows_sizes() {
        assert_eq!(diff(&[0xff, 0xfe], b"ab\n"), ["content differs: 2 bytes → 3 bytes"]);
        assert_eq!(diff(b"a", b"a\n"), ["- a (no newline at the end)", "+ a"]);
        assert_eq!(diff(b"a\0", b"ab"), ["content differs: 2 bytes → 2 bytes"]);
    }
}
