//! The client's own record of what it sent and what became of it, one JSON object a line.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What the client knows of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The server said that it succeeded: it must be there from now on.
    Acknowledged,
    /// No such answer: it may be there or not.
    Failed,
}

/// One payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub key: String,
    pub user: String,
    pub amount_cents: i64,
    /// RFC 3339, UTC.
    pub sent_at: String,
    pub latency_ms: u64,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A ledger being written. Each line is written at once and whole, so that a killed client leaves what it knew.
pub struct Writer(File);

impl Writer {
    /// # Errors
    /// When the file can neither be made nor continued.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot write the ledger {}", path.display()))?))
    }

    /// # Errors
    /// When the line cannot be written, on a full disk for one.
    pub fn write(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.0.write_all(&line).context("cannot write to the ledger")
    }
}

/// Reads a ledger. A last line without its end is what a killed client leaves, and is left out.
///
/// # Errors
/// When the file cannot be read, or any other line is none of a ledger.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the ledger {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let lines = whole.lines().enumerate();
    lines
        .map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{} is no line of a ledger", path.display(), number + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_torn_line_is_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let entry = Entry {
            key: "k".to_owned(),
            user: "u".to_owned(),
            amount_cents: 1,
            sent_at: "2026-11-22T09:41:10Z".to_owned(),
            latency_ms: 3,
            outcome: Outcome::Failed,
            reason: Some("status 503".to_owned()),
        };
        let mut writer = Writer::open(file.path()).unwrap();
        writer.write(&entry).unwrap();
        writer.0.write_all(b"{\"key\":\"torn").unwrap();
        assert_eq!(read(file.path()).unwrap(), [entry]);
        writer.0.write_all(b"\n").unwrap();
        assert!(read(file.path()).is_err());
    }
}
