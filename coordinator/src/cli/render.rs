//! What people see: diagnostics and small tables. JSON is the same content for programs.

use std::{
    fmt,
    io::{self, Write},
};

use muster_catalog::{Diagnostic, Diagnostics};
use serde::Serialize;
use serde_json::json;

use crate::cloud::docker::DockerError;

/// Writes to standard output, whole at once. Where nobody reads it any more (`muster events | head`) the command ends as
/// other programs do, with SIGPIPE's exit code; what cannot be written otherwise is an error.
pub fn put(text: impl fmt::Display) {
    let mut out = io::stdout().lock();
    let written = write!(out, "{text}").and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(141),
        Err(error) => {
            eprintln!("error: cannot write to standard output: {error}");
            std::process::exit(1)
        }
    }
}

/// The same, with a line's end.
pub fn say(text: impl fmt::Display) {
    put(format_args!("{text}\n"));
}

/// What is worth saying and no error: to standard error.
pub fn warnings(all: &[Diagnostic]) {
    all.iter().for_each(|warning| eprintln!("warning: {warning}\n"));
}

/// Prints diagnostics to standard error, or as one JSON object to standard output.
pub fn diagnostics(diagnostics: &Diagnostics, json: bool) -> anyhow::Result<()> {
    if json {
        let error = match diagnostics.0.len() {
            1 => "one error in the site".to_owned(),
            many => format!("{many} errors in the site"),
        };
        print_json(&json!({ "error": error, "help": [], "diagnostics": diagnostics }))
    } else {
        eprintln!("{diagnostics}");
        Ok(())
    }
}

/// What went wrong, and the ways out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    error: String,
    help: Vec<String>,
}

impl Wrong {
    /// An error with its causes, each once, and all their help lines.
    pub fn of(error: &anyhow::Error) -> Self {
        let (mut said, mut help) = (String::new(), Vec::new());
        for cause in error.chain() {
            if let Some(hint) = cause.downcast_ref::<DockerError>().and_then(DockerError::hint) {
                help.push(hint.to_owned());
            }
            let cause = cause.to_string();
            let mut lines = Vec::new();
            for line in cause.lines() {
                match line.trim_start().strip_prefix("help: ") {
                    Some(hint) => help.push(hint.to_owned()),
                    None => lines.push(line),
                }
            }
            let text = lines.join("\n");
            if !said.contains(&text) {
                said = if said.is_empty() { text } else { format!("{said}: {text}") };
            }
        }
        help.dedup();
        Self { error: said, help }
    }

    /// A command line that clap refuses.
    pub fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        let error = lines.next().unwrap_or_default();
        Self { error: error.strip_prefix("error: ").unwrap_or(&error).to_owned(), help: lines.collect() }
    }

    /// To standard error for people, as one JSON object to standard output for programs.
    pub fn print(&self, json: bool) {
        if json {
            say(json!(self));
        } else {
            eprintln!("error: {self}");
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.help.iter().try_for_each(|help| write!(f, "\n  help: {help}"))
    }
}

/// What was done: a line for people, one JSON object for programs.
pub fn tell(json: bool, value: &serde_json::Value, text: impl fmt::Display) -> anyhow::Result<()> {
    if json {
        print_json(value)
    } else {
        say(&text);
        Ok(())
    }
}

/// Somebody was asked and did not agree.
pub fn unchanged(json: bool) -> anyhow::Result<()> {
    tell(json, &json!({ "changed": false }), "Nothing was changed.")
}

/// One JSON value on standard output.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table without lines: columns as wide as their widest cell.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// Seconds of `90s`, `30m`, `1h`, `2d` or a plain number of seconds.
pub fn seconds(text: &str) -> anyhow::Result<u32> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => anyhow::bail!("`{text}` is no time: write 90s, 30m, 1h or 2d"),
    };
    let number: u32 = number.parse().map_err(|_| anyhow::anyhow!("`{text}` is no time: write 90s, 30m, 1h or 2d"))?;
    number.checked_mul(factor).ok_or_else(|| anyhow::anyhow!("`{text}` is too long a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(seconds("90s").unwrap(), 90);
        assert_eq!(seconds("1h").unwrap(), 3600);
        assert_eq!(seconds("0").unwrap(), 0);
        assert!(seconds("1 week").is_err() && seconds("h").is_err() && seconds("99999999d").is_err());
    }

    #[test]
    fn what_docker_refuses_comes_with_a_way_out() {
        let error = anyhow::Error::from(DockerError::Permission { socket: "/var/run/docker.sock".into() });
        let said = Wrong::of(&error.context("up")).to_string();
        assert!(said.starts_with("up: no permission") && said.contains("\n  help: run as root"), "{said}");
    }

    #[test]
    fn causes_come_before_help() {
        let error =
            anyhow::anyhow!("connection refused").context("no coordinator\n  help: muster up").context("plan failed");
        let wrong = Wrong::of(&error);
        assert_eq!(wrong.to_string(), "plan failed: no coordinator: connection refused\n  help: muster up");
        let json = json!({ "error": "plan failed: no coordinator: connection refused", "help": ["muster up"] });
        assert_eq!(json!(wrong), json);
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let text = table(&["node", "ready"], &[vec!["workers-1".into(), "yes".into()]]);
        assert_eq!(text, "node       ready\nworkers-1  yes\n");
    }
}
