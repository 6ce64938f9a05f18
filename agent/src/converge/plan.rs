//! What a converge would do, without doing it.
//!
//! Certain is what differs now. Known only after something else is what cannot be seen before that was done: a unit that a package
//! brings, a guard behind a change.

use std::{path::Path, sync::Arc};

use muster_catalog::{
    Catalog, Spec,
    kinds::{cluster_member::ClusterMemberSpec, service::Disrupts},
    unit,
};
use muster_plan::{
    Certainty, Row,
    kinds::{Change, Describe, Observed, on_notify, package},
    row::Action,
    schedule::Schedule,
};

use super::{
    ConvergeError,
    look::{Seen, look},
    packages::Forecast,
};
use crate::{Context, StepError, kinds, ledger::LedgerFile};

pub async fn plan(ctx: &Context, ledger: &LedgerFile, catalog: &Arc<Catalog>) -> Result<Vec<Row>, ConvergeError> {
    let count = catalog.resource.len();
    let mut schedule = Schedule::new(&catalog.resource)?;
    let mut seen = look(ctx, catalog, &(0..count).collect::<Vec<_>>(), true).await;
    let mut forecast = Forecast::of(ctx, catalog, &seen).await;
    // What a row of something before makes uncertain.
    let mut changes = vec![false; count];
    let mut told_by: Vec<Vec<String>> = vec![Vec::new(); count];
    for (step, told_by) in told_by.iter_mut().enumerate() {
        let id = schedule.id(step).clone();
        let pending = ledger.read(|ledger| ledger.pending.get(&id).cloned()).unwrap_or_default();
        told_by.extend(pending.iter().map(ToString::to_string));
    }
    let mut rows = Vec::new();
    while let Some(step) = schedule.take() {
        let spec = &catalog.resource[step].spec;
        let id = schedule.id(step).clone();
        let before = first_changed(&schedule, step, &changes);
        let settings = changed_settings(catalog, &schedule, step, &changes);
        let unit_file = changed_unit(catalog, &schedule, step, &changes);
        let reason = ledger.read(|ledger| why(ledger.right.get(&id), &super::step::digest(spec)));
        let mut row = |action, certainty, detail, disrupts, reason: &str| {
            changes[step] = true;
            rows.push(Row { resource: id.clone(), action, certainty, detail, reason: reason.to_owned(), disrupts });
        };
        let certainty = |unclear: bool| match (&before, unclear) {
            (Some(before), true) => Certainty::KnownAfter(before.clone()),
            (Some(_), false) | (None, _) => Certainty::Certain,
        };
        match std::mem::take(&mut seen[step]) {
            Seen::Differs(seen) => {
                let (observed, change) = *seen;
                let reason = if is_newer(spec, &change) { "a newer version is there" } else { reason };
                let unclear = hangs_on_others(spec, &observed) || forecast.unknown.contains(&step);
                let mut detail = change.detail();
                detail.extend(forecast.detail.remove(&step).unwrap_or_default());
                row(change.action(), certainty(unclear), detail, change.disrupts(), reason);
            }
            Seen::Error(error) => {
                if matches!(*error, StepError::Skip(_)) {
                    schedule.end(step, muster_plan::schedule::End::Right);
                    continue;
                }
                let unseen = format!("cannot be looked at: {error}");
                let after = before.clone().unwrap_or_else(|| id.clone());
                let (action, detail, disrupts) = match (spec, &before) {
                    // What its guard needs may come with what stands before it.
                    (Spec::Command(command), Some(_)) => {
                        (Action::Run, vec![command.run.join(" "), unseen], command.disrupts)
                    }
                    (_, _) => (Action::Change, vec![unseen], Disrupts::Nothing),
                };
                row(action, Certainty::KnownAfter(after), detail, disrupts, reason);
            }
            Seen::Right | Seen::Nothing => {
                if !told_by[step].is_empty()
                    && let Ok(observed) = kinds::observe(ctx, spec).await
                    && let Some(change) = on_notify(spec, &observed)
                {
                    let reason = format!("notified by {}", told_by[step].join(", "));
                    row(change.action(), Certainty::Certain, change.detail(), change.disrupts(), &reason);
                } else if let (Spec::Service(service), Some(package)) = (spec, forecast.restarts.remove(&step)) {
                    let detail = vec!["restart, where the new version of its package asks for it".to_owned()];
                    let after = Certainty::KnownAfter(package);
                    row(Action::Run, after, detail, service.disrupts, "its package is upgraded");
                } else if let Some(file) = settings {
                    let detail = vec!["kubelet's and kube-proxy's settings are compared with it again".to_owned()];
                    row(Action::Change, Certainty::KnownAfter(file), detail, Disrupts::Service, "its settings change");
                } else if let Some(file) = unit_file {
                    // Where systemd has the unit loaded, as one that failed, it reads it again.
                    let detail = vec!["its unit file changed".to_owned()];
                    row(
                        Action::Change,
                        Certainty::KnownAfter(file),
                        detail,
                        Disrupts::Nothing,
                        "its unit file changes",
                    );
                } else if let (Some(before), Spec::Command(command)) = (&before, spec)
                    && !command.on_notify
                {
                    // Its guard may say otherwise once that is done.
                    let detail = vec![command.run.join(" ")];
                    row(
                        Action::Run,
                        Certainty::KnownAfter(before.clone()),
                        detail,
                        command.disrupts,
                        "its guard is asked again",
                    );
                }
            }
        }
        if changes[step] {
            for &target in schedule.notifies(step) {
                told_by[target].push(id.to_string());
            }
        }
        schedule.end(
            step,
            if changes[step] { muster_plan::schedule::End::Changed } else { muster_plan::schedule::End::Right },
        );
    }
    Ok(rows)
}

/// Why something differs, from what was right when it was looked at last.
fn why(was_right: Option<&String>, now: &str) -> &'static str {
    match was_right {
        Some(before) if before == now => "changed on the node",
        Some(_) => "the catalog changed",
        // New in the site, or it failed until now: the ledger does not tell the two apart.
        None => "not done yet",
    }
}

/// A package that is to be the newest, and has a newer version now.
fn is_newer(spec: &Spec, change: &Change) -> bool {
    match (spec, change) {
        (Spec::Package(spec), Change::Package(change)) => package::is_newer(spec, change),
        _other => false,
    }
}

fn first_changed(schedule: &Schedule, step: usize, changes: &[bool]) -> Option<muster_ids::ResourceId> {
    if !schedule.touched(step) {
        return None;
    }
    schedule.all_before(step).into_iter().find(|&before| changes[before]).map(|before| schedule.id(before).clone())
}

/// A file of a member's settings that changes before it.
fn changed_settings(
    catalog: &Catalog,
    schedule: &Schedule,
    step: usize,
    changes: &[bool],
) -> Option<muster_ids::ResourceId> {
    let Spec::ClusterMember(ClusterMemberSpec { settings: Some(folder), .. }) = &catalog.resource[step].spec else {
        return None;
    };
    if !schedule.touched(step) {
        return None;
    }
    let of_settings = |before: &usize| {
        let Spec::File(file) = &catalog.resource[*before].spec else { return false };
        Path::new(&file.path).parent() == Some(Path::new(folder))
    };
    let mut before = schedule.all_before(step).into_iter().filter(|&before| changes[before]);
    before.find(of_settings).map(|before| schedule.id(before).clone())
}

/// A file or link that is a part of its unit and changes before it.
fn changed_unit(
    catalog: &Catalog,
    schedule: &Schedule,
    step: usize,
    changes: &[bool],
) -> Option<muster_ids::ResourceId> {
    let Spec::Service(service) = &catalog.resource[step].spec else { return None };
    if !schedule.touched(step) {
        return None;
    }
    let files = unit::files(&service.whole_name());
    let of_unit = |before: &usize| {
        let path = match &catalog.resource[*before].spec {
            Spec::File(file) => &file.path,
            Spec::Link(link) => &link.path,
            _other => return false,
        };
        files.iter().any(|file| path.strip_prefix(file).is_some_and(|rest| rest.is_empty() || rest.starts_with(".d/")))
    };
    let mut before = schedule.all_before(step).into_iter().filter(|&before| changes[before]);
    before.find(of_unit).map(|before| schedule.id(before).clone())
}

/// Whether what was seen may look different once what stands before it is done.
fn hangs_on_others(spec: &Spec, observed: &Observed) -> bool {
    match (spec, observed) {
        (Spec::Service(_), Observed::Service(service)) => !service.loaded,
        // A package may bring its file.
        (Spec::Block(_), Observed::Block(block)) => block.file == muster_plan::kinds::block::Seen::Missing,
        // What left a set is known by its name, whatever the other sets still change.
        (Spec::Manifest(set), _) => set.prunes().is_none(),
        (Spec::Command(_) | Spec::ClusterMember(_) | Spec::Image(_) | Spec::Container(_), _) => true,
        (_, _) => false,
    }
}
