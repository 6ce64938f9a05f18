//! Whether a plan that was shown is still what would happen.
//!
//! Held to: everything that would be done now was shown. A row that was shown and is no longer needed does not make a
//! plan stale: an agent that repaired drift meanwhile did part of the work. Anything new, anything changed, and a node
//! that fell silent, does.

use muster_plan::Row;

use super::saved::{NodePart, NodeSection, SavedPlan};

/// Lines for people: what would be done now and was not shown so. Empty: the plan stands.
pub fn differences(shown: &SavedPlan, now: &SavedPlan) -> Vec<String> {
    let mut lines = Vec::new();
    match (&shown.parent, &now.parent) {
        (None, None) => {}
        (Some(shown), Some(now)) if (shown.site, shown.blueprint) == (now.site, now.blueprint) => {}
        (_, Some(now)) => lines.push(format!(
            "another apply came between: nodes follow generation {} of catalog {} now",
            now.generation,
            now.site.short()
        )),
        (Some(_), None) => lines.push("the state was replaced by an empty one".to_owned()),
    }
    for row in &now.cloud {
        if !shown.cloud.contains(row) {
            lines.push(format!("cloud: {row}"));
        }
    }
    for (name, section) in &now.nodes {
        let before = shown.nodes.get(name).map(|section| &section.part);
        lines.extend(node_differences(before, section).into_iter().map(|line| format!("{name}: {line}")));
    }
    let fresh = now.cluster_rows.iter().filter(|row| !contains(&shown.cluster_rows, row));
    lines.extend(fresh.map(|row| format!("cluster: {}", line(row))));
    lines
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
