//! A case on a node, from plan to take-away.

use base64::Engine as _;
use muster_plan::{Certainty, Outcome, Report, Row};

use super::{
    case::{Case, Check, Served},
    killer,
    session::{Said, Session},
    snapshot::{self, Snapshot},
    things::{containers, node, packages},
};
use crate::{containers::docker, lab::Lab};

/// Why a case failed: the phase and what was seen.
pub type Why = String;

/// A node with the small packages that cases install.
pub fn prepared() -> Lab {
    let lab = Lab::start();
    let ready = "mkdir -p /srv /opt /var/lib/demo /etc/apt/keyrings /usr/local/lib/systemd/system";
    lab.must(&["bash", "-ec", &format!("{}\n{}\n{ready}", packages::REPOSITORY, node::NAMED_AT_BOOT)]);
    lab
}

/// Docker, for the first case that needs it.
fn with_docker(lab: &Lab) {
    if lab.run(&["test", "-e", "/usr/bin/docker"]).0 == 0 {
        return;
    }
    let known = docker(lab).replace("\"insecure-registries\": [", "\"insecure-registries\": [\"server:5000\", ");
    lab.applied(&known);
    lab.must(&["bash", "-ec", containers::IMAGES]);
    lab.must(&[
        "bash",
        "-ec",
        "rm /etc/apt/sources.list.d/muster.sources /etc/apt/keyrings/muster.asc; apt-get update -qq",
    ]);
}

/// On, with nothing of another case; or off, so that a boot does not wait for it.
fn docker_or_not(case: &Case) -> &'static str {
    if case.docker() {
        "systemctl enable --quiet --now containerd docker\n\
         docker ps --all --quiet | xargs --no-run-if-empty docker rm --force >/dev/null; docker volume prune --force >/dev/null; docker network prune --force >/dev/null\n"
    } else {
        "if systemctl --quiet is-enabled docker 2>/dev/null; then systemctl disable --quiet --now docker.socket docker containerd; fi\n"
    }
}

/// Runs it; the first thing that is wrong ends it. What it says of one that is right: where the agent was killed.
pub fn run(lab: &Lab, case: &Case) -> Result<String, Why> {
    if case.docker() {
        with_docker(lab);
    }
    serve(lab, case);
    let phase = |phase: &'static str| move |why: String| format!("{phase}: {why}");
    let killed = case.killed_at();
    let present = "/root/present.toml";
    let apply = |path: &str| format!("muster-agent apply {path} --json");
    let mut session = Session::default()
        .put(present, &case.present())
        .step("prep", &format!("{}{}", docker_or_not(case), case.prep()))
        .step("before", snapshot::SCRIPT)
        .step("plan", &format!("muster-agent plan {present} --json"));
    let looked = case.seed.is_multiple_of(4);
    if looked {
        session = session.step("planned", snapshot::SCRIPT);
    }
    if let Some(at) = killed {
        session = session.step("killed", &killer::killed(at, present));
    }
    let checks: Vec<&Check> = case.things.iter().flat_map(|thing| &thing.checks).collect();
    let seen = session
        .step("apply", &apply(present))
        .step("judge", &asked(&checks))
        .step("after", snapshot::SCRIPT)
        .step("again", &apply(present))
        .run(lab)?;
    let prep = seen.said("prep")?;
    if prep.status != 0 {
        return Err(phase("preparation")(format!("{}{}", prep.out, prep.err)));
    }
    let before = snapshot::read(&seen.said("before")?.out);
    let planned = plan(seen.said("plan")?).map_err(phase("plan"))?;
    if looked {
        let nobody = Case { seed: case.seed, things: Vec::new() };
        same(&nobody, &before, &seen.said("planned")?.out).map_err(phase("after the plan"))?;
    }
    let report = applied(seen.said("apply")?).map_err(phase("apply"))?;
    if killed.is_none() {
        as_planned(&planned, &report).map_err(phase("apply"))?;
    }
    judge(&checks, seen.said("judge")?).map_err(phase("after the apply"))?;
    same(case, &before, &seen.said("after")?.out).map_err(phase("after the apply"))?;
    nothing(seen.said("again")?).map_err(phase("the second apply"))?;
    let killed = if killed.is_some() { seen.said("killed")?.out.trim().to_owned() } else { String::new() };

    lab.reboot();
    let absent = "/root/absent.toml";
    let gone: Vec<&Check> = case.things.iter().flat_map(|thing| &thing.gone).collect();
    let seen = Session::default()
        .put(absent, &case.absent())
        .step("apply", &apply(present))
        .step("judge", &asked(&checks))
        .step("away", &apply(absent))
        .step("again", &apply(absent))
        .step("gone", &asked(&gone))
        .step("after", snapshot::SCRIPT)
        .run(lab)?;
    nothing(seen.said("apply")?).map_err(phase("the apply after the boot"))?;
    judge(&checks, seen.said("judge")?).map_err(phase("after the boot"))?;
    applied(seen.said("away")?).map_err(phase("take-away"))?;
    nothing(seen.said("again")?).map_err(phase("the second take-away"))?;
    judge(&gone, seen.said("gone")?).map_err(phase("after the take-away"))?;
    same(case, &before, &seen.said("after")?.out).map_err(phase("after the take-away"))?;
    Ok(killed)
}

fn serve(lab: &Lab, case: &Case) {
    let mut script = String::new();
    for served in case.things.iter().flat_map(|thing| &thing.serves) {
        match served {
            Served::File { name, content } => {
                let text = base64::engine::general_purpose::STANDARD.encode(content);
                script.push_str(&format!("echo {text} | base64 --decode > /srv/broken/{name}\n"));
            }
            Served::Repository { name } => {
                script.push_str(&format!(
                    "mkdir -p $(dirname /srv/broken/{name}); ln -sfn /srv/debian /srv/broken/{name}\n"
                ));
            }
        }
    }
    if !script.is_empty() {
        lab.at_server(&format!("mkdir -p /srv/broken\n{script}"));
    }
}

fn plan(said: &Said) -> Result<Vec<Row>, Why> {
    let Said { status, out, err } = said;
    let rows: Vec<Row> = serde_json::from_str(out).map_err(|error| format!("{error}: {status}\n{out}{err}"))?;
    let wanted = if rows.is_empty() { 0 } else { 2 };
    if *status == wanted { Ok(rows) } else { Err(format!("status {status} with {} rows", rows.len())) }
}

fn applied(said: &Said) -> Result<Report, Why> {
    let Said { status, out, err } = said;
    let report: Report = serde_json::from_str(out).map_err(|error| format!("{error}: {status}\n{out}{err}"))?;
    if report.converged && (*status == 0 || *status == 2) {
        return Ok(report);
    }
    let bad = report.steps.iter().filter(|step| step.outcome != Outcome::Done);
    Err(format!("status {status}\n{}", bad.map(|step| format!("{step:?}\n")).collect::<String>()))
}

/// An apply that changes nothing.
fn nothing(said: &Said) -> Result<(), Why> {
    let report = applied(said)?;
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

fn same(case: &Case, before: &Snapshot, after: &str) -> Result<(), Why> {
    let found = snapshot::others(case, before, &snapshot::read(after));
    if found.is_empty() { Ok(()) } else { Err(format!("what belongs to others was changed:\n{}", found.join("\n"))) }
}

/// Asks all in one shell; each answer stands between two lines of its own.
fn asked(checks: &[&Check]) -> String {
    let asks = checks.iter().map(|check| format!("({}\n) 2>&1\necho; echo %%%%\n", check.asks));
    format!("set +e\n{}", asks.collect::<String>())
}

fn judge(checks: &[&Check], said: &Said) -> Result<(), Why> {
    let answers: Vec<&str> = said.out.split("%%%%\n").collect();
    if answers.len() != checks.len() + 1 {
        return Err(format!("the judges did not all answer: {}{}", said.out, said.err));
    }
    let wrong: Vec<String> = checks
        .iter()
        .zip(answers)
        .filter(|(check, answer)| answer.trim() != check.says)
        .map(|(check, answer)| format!("{}\n    wanted: {}\n    said:   {}", check.asks, check.says, answer.trim()))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
