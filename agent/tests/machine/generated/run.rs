//! A case on a node, from plan to take-away.

use muster_plan::{Certainty, Outcome, Report, Row};

use super::{
    case::{Case, Check},
    snapshot::{self, Snapshot},
    things::packages,
};
use crate::lab::Lab;

/// Why a case failed: the phase and what was seen.
pub type Why = String;

/// A node with the small packages that cases install.
pub fn prepared() -> Lab {
    let lab = Lab::start();
    lab.must(&["bash", "-ec", packages::REPOSITORY]);
    lab.must(&["mkdir", "-p", "/srv", "/opt", "/var/lib/demo"]);
    lab
}

/// Runs it; the first thing that is wrong ends it.
pub fn run(lab: &Lab, case: &Case) -> Result<(), Why> {
    let phase = |phase: &str, why: String| format!("{phase}: {why}");
    let (status, out, err) = lab.run(&["bash", "-ec", &case.prep()]);
    if status != 0 {
        return Err(phase("preparation", format!("{out}{err}")));
    }
    let before = snapshot::take(lab);
    let planned = plan(lab, case).map_err(|why| phase("plan", why))?;
    if case.seed.is_multiple_of(4) {
        same(case, &before, &snapshot::take(lab), true).map_err(|why| phase("after the plan", why))?;
    }
    let killed = case.killed_after();
    if let Some(after) = killed {
        lab.put("/root/case.toml", &case.present());
        let seconds = format!("{}.{:03}", after / 1000, after % 1000);
        // Its end is the kill, or it was quicker.
        lab.run(&["timeout", "--signal=KILL", &seconds, "muster-agent", "apply", "/root/case.toml"]);
    }
    let report = apply(lab, &case.present()).map_err(|why| phase("apply", why))?;
    if killed.is_none() {
        as_planned(&planned, &report).map_err(|why| phase("apply", why))?;
    }
    judge(lab, case.things.iter().flat_map(|thing| &thing.checks)).map_err(|why| phase("after the apply", why))?;
    same(case, &before, &snapshot::take(lab), false).map_err(|why| phase("after the apply", why))?;
    nothing(lab, &case.present()).map_err(|why| phase("the second apply", why))?;
    lab.reboot();
    nothing(lab, &case.present()).map_err(|why| phase("the apply after the boot", why))?;
    judge(lab, case.things.iter().flat_map(|thing| &thing.checks)).map_err(|why| phase("after the boot", why))?;
    apply(lab, &case.absent()).map_err(|why| phase("take-away", why))?;
    nothing(lab, &case.absent()).map_err(|why| phase("the second take-away", why))?;
    judge(lab, case.things.iter().flat_map(|thing| &thing.gone)).map_err(|why| phase("after the take-away", why))?;
    same(case, &before, &snapshot::take(lab), false).map_err(|why| phase("after the take-away", why))
}

fn plan(lab: &Lab, case: &Case) -> Result<Vec<Row>, Why> {
    lab.put("/root/case.toml", &case.present());
    let (status, out, err) = lab.run(&["muster-agent", "plan", "/root/case.toml", "--json"]);
    let rows: Vec<Row> = serde_json::from_str(&out).map_err(|error| format!("{error}: {status}\n{out}{err}"))?;
    let wanted = if rows.is_empty() { 0 } else { 2 };
    if status == wanted { Ok(rows) } else { Err(format!("status {status} with {} rows", rows.len())) }
}

fn apply(lab: &Lab, toml: &str) -> Result<Report, Why> {
    lab.put("/root/case.toml", toml);
    let (status, out, err) = lab.run(&["muster-agent", "apply", "/root/case.toml", "--json"]);
    let report: Report = serde_json::from_str(&out).map_err(|error| format!("{error}: {status}\n{out}{err}"))?;
    if report.converged && (status == 0 || status == 2) {
        return Ok(report);
    }
    let bad = report.steps.iter().filter(|step| step.outcome != Outcome::Done);
    Err(format!("status {status}\n{}", bad.map(|step| format!("{step:?}\n")).collect::<String>()))
}

/// An apply that changes nothing.
fn nothing(lab: &Lab, toml: &str) -> Result<(), Why> {
    let report = apply(lab, toml)?;
    if report.steps.is_empty() { Ok(()) } else { Err(format!("something was changed: {:#?}", report.steps)) }
}

/// What is certain was done, and nothing else but what was said to be known later.
fn as_planned(planned: &[Row], report: &Report) -> Result<(), Why> {
    let done: Vec<_> = report.steps.iter().filter(|step| step.outcome == Outcome::Done).collect();
    for row in planned.iter().filter(|row| row.certainty == Certainty::Certain) {
        if !done.iter().any(|step| step.resource == row.resource) {
            return Err(format!("planned for sure and not done: {row:?}"));
        }
    }
    match done.iter().find(|step| !planned.iter().any(|row| row.resource == step.resource)) {
        Some(step) => Err(format!("done and not planned: {step:?}")),
        None => Ok(()),
    }
}

fn same(case: &Case, before: &Snapshot, after: &Snapshot, own: bool) -> Result<(), Why> {
    let found = if own {
        let nobody = Case { seed: case.seed, things: Vec::new() };
        snapshot::others(&nobody, before, after)
    } else {
        snapshot::others(case, before, after)
    };
    if found.is_empty() { Ok(()) } else { Err(format!("what belongs to others was changed:\n{}", found.join("\n"))) }
}

/// Asks all in one shell; each answer stands between two lines of its own.
fn judge<'a>(lab: &Lab, checks: impl Iterator<Item = &'a Check>) -> Result<(), Why> {
    let checks: Vec<&Check> = checks.collect();
    let script: String = checks.iter().map(|check| format!("({}\n) 2>&1\necho; echo @@@@\n", check.asks)).collect();
    let (_, out, err) = lab.run(&["bash", "-c", &script]);
    let answers: Vec<&str> = out.split("@@@@\n").collect();
    if answers.len() != checks.len() + 1 {
        return Err(format!("the judges did not all answer: {out}{err}"));
    }
    let wrong: Vec<String> = checks
        .iter()
        .zip(answers)
        .filter(|(check, answer)| answer.trim() != check.says)
        .map(|(check, answer)| format!("{}\n    wanted: {}\n    said:   {}", check.asks, check.says, answer.trim()))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
