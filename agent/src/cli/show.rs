//! Reports and plans as text. Pure.

use std::{fmt::Write as _, time::Duration};

use muster_ids::ResourceId;
use muster_plan::{Certainty, Outcome, Report, Row, Skip, row::Action};

/// 0 nothing to do, 2 changed, 4 not all as written, 6 both.
pub fn exit_status(report: &Report) -> u8 {
    let changed = report.steps.iter().any(|step| step.outcome == Outcome::Done);
    u8::from(changed) * 2 + u8::from(!report.converged) * 4
}

fn name(id: &ResourceId) -> String {
    format!("{} {}", id.kind(), id.name())
}

pub fn report(report: &Report, took: Duration) -> String {
    let mut text = String::new();
    let (mut changed, mut failed, mut blocked, mut skipped) = (0, 0, 0, 0);
    for step in &report.steps {
        let name = name(&step.resource);
        let mut line = |word: &str, more: &str| {
            let _ = writeln!(text, "  {word:<8} {name}{more}");
        };
        let help = match &step.outcome {
            Outcome::AlreadyRight => continue,
            Outcome::Done => {
                changed += 1;
                line("changed", "");
                None
            }
            Outcome::Skipped { why } => {
                skipped += 1;
                line("skipped", &format!(": {}", skip(why)));
                None
            }
            Outcome::Blocked { by } => {
                blocked += 1;
                line("blocked", &format!(" by {}", self::name(by)));
                None
            }
            Outcome::Failed { error, help, .. } => {
                failed += 1;
                line("failed", &format!(": {error}"));
                help.as_ref()
            }
        };
        for detail in step.detail.iter().chain(&step.notes) {
            let _ = writeln!(text, "             {detail}");
        }
        if let Some(help) = help {
            let _ = writeln!(text, "             help: {help}");
        }
    }
    let _ = write!(text, "{} already right, {changed} changed", report.already_right);
    for (count, word) in [(failed, "failed"), (blocked, "blocked"), (skipped, "skipped")] {
        if count > 0 {
            let _ = write!(text, ", {count} {word}");
        }
    }
    let _ = writeln!(text, "; {:.1} s.", took.as_secs_f64());
    text
}

fn skip(why: &Skip) -> String {
    match why {
        Skip::Turn { held_by } => format!("waits for a turn, {held_by} has it"),
        Skip::NotTheLeader { leader } => format!("{leader} does it"),
        Skip::Contested { until } => {
            format!("something else changes it again and again; left alone until {}", time(*until))
        }
        Skip::Paused { until } => format!("paused until {}", time(*until)),
        Skip::Guard => "its guard says that it need not run".to_owned(),
        Skip::Waits { what } => format!("waits for {what}"),
    }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

pub fn rows(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut unknown = 0;
    for row in rows {
        let sign = match row.action {
            Action::Create => '+',
            Action::Change => '~',
            Action::Remove => '-',
            Action::Run => '!',
        };
        let known = match &row.certainty {
            Certainty::Certain => String::new(),
            Certainty::KnownAfter(after) => {
                unknown += 1;
                if *after == row.resource {
                    "  (not known)".to_owned()
                } else {
                    format!("  (known after {})", name(after))
                }
            }
        };
        let _ = writeln!(text, "  {sign} {:<40} {}{known}", name(&row.resource), row.reason);
        for detail in &row.detail {
            let _ = writeln!(text, "        {detail}");
        }
    }
    let count = |wanted: Action| rows.iter().filter(|row| row.action == wanted).count();
    if rows.is_empty() {
        text.push_str("Everything is as written.\n");
        return text;
    }
    let _ = write!(
        text,
        "{} to create, {} to change, {} to remove, {} to run.",
        count(Action::Create),
        count(Action::Change),
        count(Action::Remove),
        count(Action::Run)
    );
    if unknown > 0 {
        let _ = write!(text, " {unknown} of them are known for sure only on the way.");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use muster_catalog::kinds::service::Disrupts;
    use muster_plan::StepReport;

    use super::*;

    #[test]
    fn a_report_reads_well() {
        let step = |kind: &str, name: &str, outcome, detail: &[&str]| StepReport {
            resource: ResourceId::new(kind, name),
            outcome,
            detail: detail.iter().map(|&line| line.to_owned()).collect(),
            notes: vec![],
            took: 0,
        };
        let failed =
            Outcome::Failed { error: "no such unit".into(), help: Some("add its package".into()), retry: false };
        let ended = Report {
            steps: vec![
                step("file", "/etc/x", Outcome::Done, &["- a", "+ b"]),
                step("service", "x", failed, &[]),
                step("command", "y", Outcome::Blocked { by: ResourceId::new("service", "x") }, &[]),
            ],
            already_right: 7,
            ..Report::default()
        };
        insta::assert_snapshot!(report(&ended, Duration::from_millis(1234)), @r"
          changed  file /etc/x
                     - a
                     + b
          failed   service x: no such unit
                     help: add its package
          blocked  command y by service x
        7 already right, 1 changed, 1 failed, 1 blocked; 1.2 s.
        ");
        assert_eq!(exit_status(&ended), 6);
    }

    #[test]
    fn a_plan_reads_well() {
        let row = |resource: ResourceId, action, certainty, reason: &str| Row {
            resource,
            action,
            certainty,
            detail: vec!["version 1".into()],
            reason: reason.into(),
            disrupts: Disrupts::Nothing,
        };
        let package = ResourceId::new("package", "x");
        let all = [
            row(package.clone(), Action::Create, Certainty::Certain, "not done yet"),
            row(ResourceId::new("service", "x"), Action::Change, Certainty::KnownAfter(package), "not done yet"),
        ];
        insta::assert_snapshot!(rows(&all), @r"
          + package x                                not done yet
                version 1
          ~ service x                                not done yet  (known after package x)
                version 1
        1 to create, 1 to change, 0 to remove, 0 to run. 1 of them are known for sure only on the way.
        ");
    }
}
