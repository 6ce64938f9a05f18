//! Errors of a site: all at once, each with place, what was expected, and the way out.
//!
//! The text form is for people and kept in golden files; the JSON form is the same by serde.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a file of the site. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
    /// Characters that the mark covers.
    pub width: u32,
    /// The line's text, or a part of it around the mark, with `…` where it is cut.
    pub text: String,
    /// Where `text` begins in the line: so many characters further right.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cut: u32,
    /// What stands at the mark: "a file has: path, content, …".
    pub label: String,
}

fn is_nothing(count: &u32) -> bool {
    *count == 0
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    pub message: String,
    pub places: Vec<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The most characters of a value that a message repeats.
const MOST_REPEATED: usize = 80;

/// A value of the site as messages repeat it: its beginning, on one line.
pub(crate) fn brief(value: &str) -> String {
    let line = value.lines().next().unwrap_or_default();
    let cut = line.char_indices().nth(MOST_REPEATED).map(|(at, _)| at);
    match cut {
        Some(at) => format!("{}…", &line[..at]),
        None if line.len() < value.trim_end().len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

/// The most characters of a word of a message, and how many are left of a longer one.
const MOST_OF_A_WORD: usize = 300;
const LEFT_OF_A_WORD: usize = 160;

/// A text of an error, with its long words cut: they are the site's.
fn readable(text: String) -> String {
    if text.len() <= MOST_OF_A_WORD {
        return text;
    }
    let cut = |word: &str| match word.char_indices().nth(MOST_OF_A_WORD) {
        Some(_) => format!("{}…", word.chars().take(LEFT_OF_A_WORD).collect::<String>()),
        None => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

impl Diagnostic {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: readable(message.into()), places: Vec::new(), help: None }
    }

    #[must_use]
    pub fn at(mut self, mut place: Place) -> Self {
        place.label = readable(place.label);
        self.places.push(place);
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(readable(help.into()));
        self
    }

    #[must_use]
    pub fn help_if(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }
}

/// The parts below the message, without a final line end.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let gutter = self.places.iter().map(|p| p.line.to_string().len()).max().unwrap_or(0);
        for place in &self.places {
            // Tabs would move the mark away from what it marks.
            let text = place.text.replace('\t', " ");
            let indent = " ".repeat((place.column.saturating_sub(place.cut) as usize).saturating_sub(1));
            let mark = "^".repeat((place.width as usize).max(1));
            write!(f, "\n{:gutter$} ┌─ {}:{}:{}", "", place.file, place.line, place.column)?;
            write!(f, "\n{:>gutter$}│ {}", place.line, text.trim_end())?;
            write!(f, "\n{:gutter$}│ {}", "", format!("{indent}{mark} {}", place.label).trim_end())?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// At least one error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Sorted by place, each error once: the same site always gives the same text.
    pub fn sorted(mut all: Vec<Diagnostic>) -> Self {
        all.sort_by(|a, b| (&a.places, &a.message, &a.help).cmp(&(&b.places, &b.message, &b.help)));
        all.dedup();
        Self(all)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Every error, then their number.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "error: {diagnostic}\n")?;
        }
        match self.0.len() {
            1 => write!(f, "1 error. Nothing was changed."),
            n => write!(f, "{n} errors. Nothing was changed."),
        }
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, line: u32) -> Place {
        Place {
            file: file.to_owned(),
            line,
            column: 1,
            width: 8,
            text: "contents = \"hello\"".to_owned(),
            cut: 0,
            label: "a file has: path, content".to_owned(),
        }
    }

    #[test]
    fn an_error_reads_as_designed() {
        let one = Diagnostic::new("unknown key `contents` for a file")
            .at(place("roles/base.toml", 14))
            .help("did you mean `content`?");
        let text = Diagnostics::sorted(vec![one.clone(), one]).to_string();
        assert_eq!(
            text,
            "error: unknown key `contents` for a file\n   ┌─ roles/base.toml:14:1\n14│ contents = \"hello\"\n  \
             │ ^^^^^^^^ a file has: path, content\n  help: did you mean `content`?\n\n1 error. Nothing was changed."
        );
    }
}
