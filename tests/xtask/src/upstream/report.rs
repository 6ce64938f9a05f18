//! Reads what upstream's test program and its runner write: the list of conformance tests and the report of a run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::progress::elapsed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// By the spec itself, with a reason, or because the run ended before it.
    Skipped,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub outcome: Outcome,
    pub took: Duration,
    /// Why it failed or was skipped; empty for one that passed.
    pub reason: String,
}

/// The `codename`s of `--list-conformance-tests`, which is YAML of one flat list: a name may be quoted and go on in the next
/// lines, indented deeper than keys.
pub fn codenames(listing: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = listing.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) = line.trim_start_matches("- ").trim_start().strip_prefix("codename: ") else { continue };
        let mut name = first.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
            name.push(' ');
            name.push_str(more.trim());
        }
        let plain = match name.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
            Some(quoted) => quoted.replace("''", "'"),
            None => name.trim_matches('"').to_owned(),
        };
        names.push(plain);
    }
    names
}

/// A text as a regular expression of Go's that matches just it.
pub fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// What the runner reports of these specs, in their order. One of which it says nothing did not run.
pub fn read(json: &Path, names: &[String]) -> Result<Vec<Spec>> {
    let text = std::fs::read(json).with_context(|| format!("cannot read {}", json.display()))?;
    let report: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", json.display()))?;
    let suites = report.as_array().context("a report is a list of suites")?;
    let reports: Vec<&Value> = suites.iter().filter_map(|suite| suite["SpecReports"].as_array()).flatten().collect();
    Ok(names
        .iter()
        .map(|name| {
            reports.iter().find(|report| full_name(report) == *name).map_or_else(
                || Spec {
                    name: name.clone(),
                    outcome: Outcome::Skipped,
                    took: Duration::ZERO,
                    reason: "the test program has no such spec".into(),
                },
                |report| spec(name, report),
            )
        })
        .collect())
}

fn spec(name: &str, report: &Value) -> Spec {
    let state = report["State"].as_str().unwrap_or_default();
    let outcome = match state {
        "passed" => Outcome::Passed,
        "skipped" | "pending" => Outcome::Skipped,
        // Failed, panicked, interrupted, aborted, timed out: each is a spec that did not do what it says.
        _ => Outcome::Failed,
    };
    let message = report["Failure"]["Message"].as_str().unwrap_or_default().trim();
    let reason = match outcome {
        Outcome::Passed => String::new(),
        Outcome::Failed | Outcome::Skipped if message.is_empty() => state.to_owned(),
        Outcome::Failed | Outcome::Skipped => message.lines().next().unwrap_or_default().to_owned(),
    };
    let took = Duration::from_nanos(report["RunTime"].as_u64().unwrap_or_default());
    Spec { name: name.to_owned(), outcome, took, reason }
}

/// The words of a spec's groups and its own.
fn full_name(report: &Value) -> String {
    let groups = report["ContainerHierarchyTexts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words = groups.iter().chain([&report["LeafNodeText"]]).filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ")
}

/// How a spec ended, if this line of the runner's output says that one did; its name is in the next line.
pub fn mark(line: &str) -> Option<char> {
    if line.starts_with("S [SKIPPED]") {
        return Some('-');
    }
    let rest = line.strip_prefix("• [")?;
    Some(if rest.starts_with(|c: char| c.is_ascii_digit()) { '✓' } else { '✗' })
}

/// A Markdown table, for a reader and for the record.
pub fn table(specs: &[Spec]) -> String {
    let mut table = String::from("| spec | result | time |\n|---|---|---|\n");
    for spec in specs {
        let name = spec.name.trim_start_matches("[sig-network] ").replace(" [Conformance]", "");
        let result = match spec.outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed => format!("**failed**: {}", spec.reason),
            Outcome::Skipped => format!("skipped: {}", spec.reason),
        };
        table.push_str(&format!("| {name} | {} | {} |\n", result.replace('|', "\\|"), elapsed(spec.took)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_plain_quoted_and_folded() {
        let listing = "- testname: A\n  codename: '[sig-network] It''s a name that goes\n    on [Conformance]'\n  file: x\n\
                       - codename: plain one\n  testname: B\n";
        assert_eq!(codenames(listing), ["[sig-network] It's a name that goes on [Conformance]", "plain one"]);
    }

    #[test]
    fn an_ended_spec_is_seen_in_the_output() {
        let marks =
            ["• [1.204 seconds]", "• [FAILED] [2.000 seconds]", "S [SKIPPED] [0.1 seconds]", "  STEP: • [1"].map(mark);
        assert_eq!(marks, [Some('✓'), Some('✗'), Some('-'), None]);
    }

    #[test]
    fn a_pattern_matches_the_name_alone() {
        assert_eq!(escaped("[a] b: c. (d)"), r"\[a\] b: c\. \(d\)");
    }

    #[test]
    fn a_report_tells_of_each_spec_that_was_asked_for() {
        let report = serde_json::json!([{"SpecReports": [
            {"ContainerHierarchyTexts": ["[n] A"], "LeafNodeText": "works", "State": "passed", "RunTime": 1_500_000_000_u64},
            {"ContainerHierarchyTexts": ["[n] A"], "LeafNodeText": "breaks", "State": "timedout", "RunTime": 5,
             "Failure": {"Message": "no answer | none\nmore"}},
            {"ContainerHierarchyTexts": null, "LeafNodeText": "six", "State": "skipped", "RunTime": 0,
             "Failure": {"Message": "no IPv6"}},
            {"ContainerHierarchyTexts": [], "LeafNodeText": "not asked for", "State": "failed", "RunTime": 0},
        ]}]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        std::fs::write(&path, report.to_string()).unwrap();
        let names = ["[n] A works", "[n] A breaks", "six", "gone"].map(str::to_owned);
        let specs = read(&path, &names).unwrap();
        let outcomes: Vec<Outcome> = specs.iter().map(|spec| spec.outcome).collect();
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed, Outcome::Skipped, Outcome::Skipped]);
        assert_eq!(specs[1].reason, "no answer | none");
        let table = table(&specs);
        assert!(table.contains("| [n] A works | passed | 1.5 s |"), "{table}");
        assert!(table.contains(r"no answer \| none"), "{table}");
    }
}
