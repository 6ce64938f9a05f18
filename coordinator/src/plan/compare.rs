//! Whether a plan that was shown is still what would happen.
//!
//! Held to: everything that would be done now was shown. A row that was shown and is no longer needed does not make a
//! plan stale: an agent that repaired drift meanwhile did part of the work. Anything new, anything changed, and a node
//! that fell silent, does.

use muster_plan::Row;
use muster_planner::{CloudAction, CloudRow};

use super::saved::{NodePart, NodeSection, SavedPlan};
use crate::state::Publication;

/// Lines for people: what would be done now and was not shown so. Empty: the plan stands.
pub fn differences(shown: &SavedPlan, now: &SavedPlan) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(overtaken(shown.parent.as_ref(), now.parent.as_ref()));
    let fresh = now.cloud.iter().filter(|row| !shown.cloud.iter().any(|other| same(other, row)));
    lines.extend(fresh.map(|row| format!("cloud: {row}")));
    for (name, section) in &now.nodes {
        let before = shown.nodes.get(name).map(|section| &section.part);
        lines.extend(node_differences(before, section).into_iter().map(|line| format!("{name}: {line}")));
    }
    let fresh = now.cluster_rows.iter().filter(|row| !contains(&shown.cluster_rows, row));
    lines.extend(fresh.map(|row| format!("cluster: {}", line(row))));
    lines
}

/// What came between: nodes follow something else now than what a plan started from.
pub fn overtaken(shown: Option<&Publication>, now: Option<&Publication>) -> Option<String> {
    match (shown, now) {
        (None, None) => None,
        (Some(_), None) => Some("the state was replaced by an empty one".to_owned()),
        (Some(shown), Some(now)) if (shown.site, shown.blueprint) == (now.site, now.blueprint) => None,
        (Some(shown), Some(now)) if shown.site == now.site => Some(format!(
            "what exists has changed: nodes follow generation {} of the same catalog {} now",
            now.generation,
            now.site.short()
        )),
        (_, Some(now)) => Some(format!(
            "another apply came between{}: nodes follow generation {} of catalog {} now",
            now.by.as_ref().map_or(String::new(), |by| format!(", by {by}")),
            now.generation,
            now.site.short()
        )),
    }
}

fn node_differences(shown: Option<&NodePart>, now: &NodeSection) -> Vec<String> {
    match (&now.part, shown) {
        (NodePart::Rows { rows }, Some(NodePart::Rows { rows: before })) => {
            rows.iter().filter(|row| !contains(before, row)).map(line).collect()
        }
        // A new node came to life between: its catalog was shown as a whole.
        (NodePart::Rows { .. }, Some(NodePart::Unborn { .. })) => vec![],
        (NodePart::Rows { rows }, Some(NodePart::NotAnswering { .. } | NodePart::Failed { .. }) | None) => {
            if rows.is_empty() { vec![] } else { vec!["answers now, with changes that were not shown".to_owned()] }
        }
        (NodePart::Unborn { resources }, Some(NodePart::Unborn { resources: before })) => {
            if resources == before {
                vec![]
            } else {
                vec!["its catalog has other resources now".to_owned()]
            }
        }
        (NodePart::Unborn { .. }, _) => vec!["is to be made anew".to_owned()],
        (NodePart::NotAnswering { .. }, Some(NodePart::NotAnswering { .. })) => vec![],
        (NodePart::NotAnswering { .. }, _) => vec!["no longer answers".to_owned()],
        (NodePart::Failed { error }, Some(NodePart::Failed { error: before })) if error == before => vec![],
        (NodePart::Failed { error }, _) => vec![format!("cannot plan: {error}")],
    }
}

/// A machine that comes or goes is the same one at whatever address, and whether it goes now or when its turn comes.
fn same(shown: &CloudRow, now: &CloudRow) -> bool {
    let machine = now.what.starts_with("instance ") && matches!(now.action, CloudAction::Create | CloudAction::Destroy);
    (&shown.what, shown.action) == (&now.what, now.action) && (machine || shown.detail == now.detail)
}

/// The reason is left out: the same change for another reason is the same change.
fn contains(rows: &[Row], row: &Row) -> bool {
    rows.iter().any(|other| {
        (&other.resource, other.action, &other.detail, other.disrupts)
            == (&row.resource, row.action, &row.detail, row.disrupts)
    })
}

fn line(row: &Row) -> String {
    let detail = if row.detail.is_empty() { String::new() } else { format!(": {}", row.detail.join("; ")) };
    format!("{} {}{detail}", super::render::verb(row.action), row.resource)
}
