//! What people see: diagnostics and small tables. JSON is the same content for programs.

use muster_catalog::Diagnostics;
use serde::Serialize;

use crate::cloud::docker::DockerError;

/// Prints diagnostics to standard error, or as JSON to standard output.
pub fn diagnostics(diagnostics: &Diagnostics, json: bool) -> anyhow::Result<()> {
    if json {
        print_json(diagnostics)
    } else {
        eprintln!("{diagnostics}");
        Ok(())
    }
}

/// An error with its causes, each once, on one line; their help lines below.
pub fn chain(error: &anyhow::Error) -> String {
    let (mut said, mut help) = (String::new(), Vec::new());
    for cause in error.chain() {
        if let Some(hint) = cause.downcast_ref::<DockerError>().and_then(DockerError::hint) {
            help.push(format!("  help: {hint}"));
        }
        let cause = cause.to_string();
        let mut lines = Vec::new();
        for line in cause.lines() {
            if line.trim_start().starts_with("help: ") { help.push(line.to_owned()) } else { lines.push(line) }
        }
        let text = lines.join("\n");
        if !said.contains(&text) {
            said = if said.is_empty() { text } else { format!("{said}: {text}") };
        }
    }
    help.dedup();
    help.insert(0, said);
    help.join("\n")
}

/// One JSON value on standard output.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
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
        let said = chain(&error.context("up"));
        assert!(said.starts_with("up: no permission") && said.contains("\n  help: run as root"), "{said}");
    }

    #[test]
    fn causes_come_before_help() {
        let error =
            anyhow::anyhow!("connection refused").context("no coordinator\n  help: muster up").context("plan failed");
        assert_eq!(chain(&error), "plan failed: no coordinator: connection refused\n  help: muster up");
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let text = table(&["node", "ready"], &[vec!["workers-1".into(), "yes".into()]]);
        assert_eq!(text, "node       ready\nworkers-1  yes\n");
    }
}
