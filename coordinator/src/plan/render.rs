//! A plan in words: the diff of three planes that `muster plan` prints. Pure; colours are the terminal's affair.

use std::{collections::BTreeMap, fmt::Write as _};

use muster_catalog::kinds::service::Disrupts;
use muster_ids::{NodeName, PoolName};
use muster_plan::{Certainty, Row, row::Action};

use super::{
    leaves::way_out,
    saved::{NodePart, NodeSection, SavedPlan},
};

/// Where the resource column ends and the reason begins.
const REASON_COLUMN: usize = 64;

/// The whole plan, ending with a new line.
pub fn render(plan: &SavedPlan) -> String {
    let mut out = String::new();
    let after = plan.site.short();
    let catalogs = match &plan.parent {
        Some(parent) if parent.site == plan.site => format!("catalog {after}"),
        Some(parent) => format!("catalog {} → {after}", parent.site.short()),
        None => format!("catalog {after} (the first)"),
    };
    _ = writeln!(out, "{}/{} · {catalogs} · state {}", plan.cluster, plan.environment, plan.state);
    cloud(plan, &mut out);
    nodes(plan, &mut out);
    cluster(plan, &mut out);
    if let Some(node) = &plan.stopped {
        _ = writeln!(out, "\n  ends: the try on {node}, which failed there and went no further");
    }
    for wait in &plan.waits {
        _ = writeln!(out, "\n  waits: {wait}");
    }
    for warning in &plan.warnings {
        _ = writeln!(out, "\n  warning: {warning}");
    }
    _ = writeln!(out, "\n{}", summary(plan));
    out
}

fn cloud(plan: &SavedPlan, out: &mut String) {
    if plan.cloud.is_empty() {
        return;
    }
    out.push_str("\ncloud\n");
    for row in &plan.cloud {
        let text = format!("  {} {:<28} {}", row.action.sign(), row.what, row.detail.join(", "));
        reason(&text, &row.reason, out);
    }
}

fn reason(text: &str, reason: &str, out: &mut String) {
    let width = text.chars().count();
    if reason.is_empty() {
        _ = writeln!(out, "{}", text.trim_end());
    } else if width < REASON_COLUMN {
        _ = writeln!(out, "{text}{}{reason}", " ".repeat(REASON_COLUMN - width));
    } else {
        _ = writeln!(out, "{}   {reason}", text.trim_end());
    }
}

/// Nodes whose part is equal, under one heading.
struct Group<'a> {
    nodes: Vec<&'a NodeName>,
    section: &'a NodeSection,
}

fn nodes(plan: &SavedPlan, out: &mut String) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut sizes: BTreeMap<&PoolName, usize> = BTreeMap::new();
    for (name, section) in &plan.nodes {
        *sizes.entry(&section.pool).or_default() += 1;
        if matches!(&section.part, NodePart::Rows { rows } if rows.is_empty()) && section.leaves.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|group| group.section == section) {
            Some(group) => group.nodes.push(name),
            None => groups.push(Group { nodes: vec![name], section }),
        }
    }
    if groups.is_empty() {
        return;
    }
    out.push_str("\nnode\n");
    for group in groups {
        let heading = heading(&group, sizes.get(&group.section.pool).copied().unwrap_or(0));
        match &group.section.part {
            NodePart::Rows { rows: list } => rows(&heading, list, out),
            NodePart::Unborn { resources } => {
                let kinds: Vec<_> = resources.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
                _ = writeln!(out, "  + {heading:<28} {}", kinds.join(", "));
            }
            NodePart::NotAnswering { last_seen: 0 } => {
                _ = writeln!(out, "  ? {heading:<28} not answering, never seen");
            }
            NodePart::NotAnswering { last_seen } => {
                let ago = ago(plan.made - last_seen);
                _ = writeln!(out, "  ? {heading:<28} not answering, last seen {ago} ago");
            }
            NodePart::Failed { error } => {
                _ = writeln!(out, "  ! {heading:<28} could not plan: {error}");
            }
        }
        for left in &group.section.leaves {
            let text = format!("  = {heading:<28} {} {}", left.kind(), left.name());
            reason(&text, &format!("no longer managed, stays; {}", way_out(left)), out);
        }
    }
}

/// `workers-*  (3 nodes)` where all of a pool agree, else the names.
fn heading(group: &Group<'_>, of_pool: usize) -> String {
    match group.nodes.as_slice() {
        [one] => one.to_string(),
        many if many.len() == of_pool => format!("{}-*  ({} nodes)", group.section.pool, many.len()),
        many => many.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn rows(heading: &str, rows: &[Row], out: &mut String) {
    let mut named = false;
    for row in rows {
        let left = if named { "" } else { heading };
        named = true;
        let text = format!("  {} {left:<28} {} {}", sign(row.action), row.resource.kind(), row.resource.name());
        reason(&text, &why(row), out);
        details(row, out);
    }
}

fn details(row: &Row, out: &mut String) {
    for line in &row.detail {
        _ = writeln!(out, "        {line}");
    }
    let note = match row.disrupts {
        Disrupts::Nothing => None,
        Disrupts::Service => Some("disrupts the service: one turn at a time"),
        Disrupts::Node => Some("disrupts the node and its pods: one turn at a time"),
    };
    if let Some(note) = note {
        _ = writeln!(out, "        {note}");
    }
}

fn why(row: &Row) -> String {
    match &row.certainty {
        Certainty::Certain => row.reason.clone(),
        Certainty::KnownAfter(after) if row.reason.is_empty() => format!("known after {after}"),
        Certainty::KnownAfter(after) => format!("{}, known after {after}", row.reason),
    }
}

fn cluster(plan: &SavedPlan, out: &mut String) {
    if plan.cluster_rows.is_empty() {
        return;
    }
    out.push_str("\ncluster\n");
    for row in &plan.cluster_rows {
        let text = format!("  {} {} {}", sign(row.action), row.resource.kind(), row.resource.name());
        reason(&text, &why(row), out);
        details(row, out);
    }
}

/// What it comes to, without a new line at the end. That all is as written is said only where every node said so.
pub fn summary(plan: &SavedPlan) -> String {
    let counts = &plan.counts;
    let changes = plan.changes();
    let mut text = if changes {
        format!("{} to create, {} to change, {} to destroy.", counts.create, counts.change, counts.destroy)
    } else if counts.silent + counts.failed == 0 {
        return "Nothing to do: everything is as written.".to_owned();
    } else {
        "Nothing to do as far as is known.".to_owned()
    };
    match counts.replace {
        0 if changes => text.push_str(" Nothing is replaced."),
        0 => {}
        one_or_more => _ = write!(text, " {one_or_more} to replace."),
    }
    if counts.unknown > 0 {
        _ = write!(text, " {} of these can only be seen once others are done.", counts.unknown);
    }
    if counts.silent > 0 {
        let follows = if changes { "will follow when back" } else { "may differ" };
        _ = write!(text, " {} did not answer and {follows}.", nodes_text(counts.silent));
    }
    if counts.failed > 0 {
        _ = write!(text, " {} could not plan: what would change there is not known.", nodes_text(counts.failed));
    }
    if changes {
        _ = write!(text, "\nSaved as plan {id}. Apply it with: muster apply {id}", id = plan.id);
    }
    text
}

fn nodes_text(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

fn sign(action: Action) -> char {
    match action {
        Action::Create => '+',
        Action::Change => '~',
        Action::Remove => '-',
        Action::Run => '>',
    }
}

pub(super) fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Change => "change",
        Action::Remove => "remove",
        Action::Run => "run",
    }
}

/// `42 s`, `11 m`, `3 h`, `2 d`.
pub(crate) fn ago(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} m", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}
