//! What a report says that people should hear: the difference to the one before. Pure.

use muster_plan::{Outcome, Report};

use crate::events::{Level, says_the_same};

/// An event in the making: level, phrase, text.
pub(super) type News = (Level, &'static str, String);

/// Events of a new report. A failure that was told already is not told again. `speaks`: whether the node serves is its own
/// to say, because nobody who leads does.
pub(super) fn news(before: Option<&Report>, now: &Report, speaks: bool) -> Vec<News> {
    let mut news = Vec::new();
    if before == Some(now) {
        // Its answer was lost on the way, and it was sent again.
        return news;
    }
    if !now.drift.is_empty() {
        let resources = now.drift.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        news.push((Level::Warn, "drift", format!("{resources} was changed on the node and put back")));
    }
    let failed = |report: &Report, resource: &muster_ids::ResourceId, text: &str| {
        report.steps.iter().any(|step| {
            // A failure names processes and times, which are others each time.
            let same = |error: &str| says_the_same(&format!("{resource}: {error}"), &format!("{resource}: {text}"));
            step.resource == *resource && matches!(&step.outcome, Outcome::Failed { error, .. } if same(error))
        })
    };
    for step in &now.steps {
        let notes = step.notes.iter().map(|note| (Level::Info, "note", format!("{}: {note}", step.resource)));
        news.extend(notes);
        if let Outcome::Failed { error, help, .. } = &step.outcome
            && !before.is_some_and(|before| failed(before, &step.resource, error))
        {
            let help = help.as_ref().map_or(String::new(), |help| format!("; {help}"));
            news.push((Level::Warn, "step failed", format!("{}: {error}{help}", step.resource)));
        }
    }
    let was = before.is_some_and(|before| before.converged);
    if now.converged && (!was || changed(now) > 0) && now.drift.is_empty() {
        let seconds = now.took as f64 / 1000.0;
        let text = format!("{} changed, {} already right, in {seconds:.1} s", changed(now), now.already_right);
        news.push((Level::Info, "converged", text));
    }
    let ready = |report: Option<&Report>| report.and_then(|report| report.node_ready);
    match (ready(before), ready(Some(now))) {
        (Some(_) | None, Some(_)) if !speaks => {}
        (Some(false) | None, Some(true)) => news.push((Level::Info, "ready", "serves in the cluster".to_owned())),
        (Some(true), Some(false)) => news.push((Level::Warn, "not ready", "no longer serves".to_owned())),
        (Some(true), None) => news.push((Level::Info, "left", "is no longer a member of the cluster".to_owned())),
        (None | Some(false), None | Some(false)) | (Some(true), Some(true)) => {}
    }
    news
}

fn changed(report: &Report) -> usize {
    report.steps.iter().filter(|step| matches!(step.outcome, Outcome::Done)).count()
}

/// Whether the report proves that its node is a member of the cluster.
pub(super) fn is_member(report: &Report) -> bool {
    let member = |step: &muster_plan::StepReport| {
        step.resource.kind() == "cluster_member" && matches!(step.outcome, Outcome::Done | Outcome::AlreadyRight)
    };
    report.node_ready.is_some() || report.steps.iter().any(member)
}

/// The first failure that will not pass by itself.
pub(super) fn hopeless(report: &Report) -> Option<String> {
    let own = report.steps.iter().filter(|step| step.resource.kind() != "manifest");
    own.into_iter().find_map(|step| match &step.outcome {
        Outcome::Failed { error, retry: false, .. } => Some(format!("{}: {error}", step.resource)),
        Outcome::Failed { retry: true, .. }
        | Outcome::AlreadyRight
        | Outcome::Done
        | Outcome::Skipped { .. }
        | Outcome::Blocked { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use muster_ids::ResourceId;
    use muster_plan::StepReport;

    use super::*;

    fn step(outcome: Outcome) -> StepReport {
        StepReport { resource: ResourceId::new("file", "/etc/x"), outcome, detail: vec![], notes: vec![], took: 1 }
    }

    fn failure(error: &str, retry: bool) -> Report {
        let outcome = Outcome::Failed { error: error.into(), help: None, retry };
        Report { steps: vec![step(outcome)], ..Report::default() }
    }

    #[test]
    fn a_failure_is_told_once() {
        let first = failure("disk full", true);
        assert_eq!(news(None, &first, true).len(), 1);
        assert_eq!(news(Some(&first), &first, true).len(), 0);
        assert_eq!(news(Some(&first), &failure("no such user", true), true).len(), 1);
        let ended = |pid: u32| failure(&format!("it ended; its log ends: x[{pid}]: no database"), true);
        assert_eq!(news(Some(&ended(412)), &ended(97), true).len(), 0);
    }

    #[test]
    fn a_report_that_comes_twice_is_told_once() {
        let put_back = Report { drift: vec![ResourceId::new("file", "/etc/x")], started: 7, ..Report::default() };
        assert_eq!(news(None, &put_back, true).len(), 1);
        assert!(news(Some(&put_back), &put_back, true).is_empty());
        assert_eq!(news(Some(&put_back), &Report { started: 8, ..put_back.clone() }, true).len(), 1);
    }

    #[test]
    fn converging_again_without_a_change_is_no_news() {
        let right = Report { converged: true, already_right: 9, ..Report::default() };
        let told: Vec<_> = news(Some(&failure("x", true)), &right, true).into_iter().map(|(_, what, _)| what).collect();
        assert_eq!(told, ["converged"]);
        assert!(news(Some(&right), &right, true).is_empty());
    }

    #[test]
    fn only_what_will_not_pass_is_hopeless() {
        assert!(hopeless(&failure("registry away", true)).is_none());
        assert_eq!(hopeless(&failure("no such package", false)).unwrap(), "file./etc/x: no such package");
    }

    #[test]
    fn what_was_left_alone_is_told() {
        let note = "configmap shop/mine left the set and is not deleted".to_owned();
        let done = Report { steps: vec![StepReport { notes: vec![note], ..step(Outcome::Done) }], ..Report::default() };
        let told = news(None, &done, true);
        assert_eq!(told[0].2, "file./etc/x: configmap shop/mine left the set and is not deleted");
    }

    #[test]
    fn whether_a_node_serves_is_told_by_one_alone() {
        let ready = |ready| Report { node_ready: ready, ..Report::default() };
        let told = |speaks| {
            let told = news(Some(&ready(Some(true))), &Report { started: 1, ..ready(Some(false)) }, speaks);
            told.into_iter().map(|(_, what, _)| what).collect::<Vec<_>>()
        };
        assert_eq!(told(true), ["not ready"]);
        assert!(told(false).is_empty(), "the control plane that leads says it, with the cause");
        // That it has left only the node itself knows.
        assert_eq!(news(Some(&ready(Some(true))), &Report { started: 1, ..ready(None) }, false).len(), 1);
    }

    #[test]
    fn membership_needs_proof() {
        assert!(!is_member(&Report { converged: true, ..Report::default() }));
        assert!(is_member(&Report { node_ready: Some(false), ..Report::default() }));
    }
}
