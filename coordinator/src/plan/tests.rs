//! Plans in words, and when they are stale.

use muster_ids::Digest;
use muster_planner::{CloudAction, CloudRow};

use super::{
    Counts, NodePart, SavedPlan, differences,
    fixture::{row, saved, section},
    render,
};

#[test]
fn one_diff_of_three_planes() {
    insta::assert_snapshot!(render(&saved()));
}

#[test]
fn nothing_to_do_is_said() {
    let plan = unchanged(&["control-plane-1"]);
    assert!(!plan.changes());
    insta::assert_snapshot!(render(&plan));
}

/// The plan of a site that nodes follow already, of these nodes alone.
fn unchanged(names: &[&str]) -> SavedPlan {
    let mut plan = saved();
    plan.site = plan.parent.as_ref().unwrap().site;
    (plan.cloud, plan.cluster_rows, plan.waits) = (vec![], vec![], vec![]);
    plan.nodes.retain(|name, _| names.contains(&name.as_str()));
    plan.counts = Counts::of(&plan.cloud, &plan.nodes, &plan.cluster_rows);
    plan
}

#[test]
fn what_is_not_known_is_never_as_written() {
    for names in [&["control-plane-1", "control-plane-2"], &["control-plane-1", "control-plane-3"]] {
        let text = render(&unchanged(names));
        assert!(!text.contains("as written"), "{text}");
    }
    insta::assert_snapshot!(render(&unchanged(&["control-plane-1", "control-plane-2", "control-plane-3"])));
}

#[test]
fn the_end_of_a_failed_try_is_something_to_do() {
    let mut plan = unchanged(&["control-plane-1"]);
    plan.stopped = Some("control-plane-1".parse().unwrap());
    assert!(plan.changes());
    assert!(render(&plan).contains("ends: the try on control-plane-1"), "{}", render(&plan));
}

#[test]
fn a_plan_survives_its_json() {
    let plan = saved();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<SavedPlan>(&json).unwrap(), plan);
}

#[test]
fn the_same_plan_is_not_stale() {
    assert_eq!(differences(&saved(), &saved()), Vec::<String>::new());
}

#[test]
fn what_was_done_meanwhile_is_no_difference_and_what_is_new_is() {
    let (shown, mut now) = (saved(), saved());
    now.nodes.insert("workers-1".parse().unwrap(), section("workers", NodePart::Rows { rows: vec![] }));
    now.cloud.clear();
    now.cluster_rows.clear();
    assert_eq!(differences(&shown, &now), Vec::<String>::new(), "less than was shown");

    let rows = vec![row("file./etc/hosts", &["+ 10.0.0.1 x"])];
    now.nodes.insert("workers-1".parse().unwrap(), section("workers", NodePart::Rows { rows }));
    now.nodes.insert("workers-2".parse().unwrap(), section("workers", NodePart::NotAnswering { last_seen: 1 }));
    now.cluster_rows = vec![row("manifest.easypay", &["another change"])];
    now.parent = None;
    insta::assert_snapshot!(differences(&shown, &now).join("\n"));
}

#[test]
fn what_the_cloud_would_do_and_was_not_shown_is_a_difference() {
    let (mut shown, now) = (saved(), saved());
    shown.cloud.clear();
    assert_eq!(differences(&shown, &now), [format!("cloud: {}", now.cloud[0])]);
}

#[test]
fn a_machine_whose_turn_has_come_meanwhile_is_no_difference_and_another_one_is() {
    let (mut shown, mut now) = (saved(), saved());
    let goes = |what: &str, detail: &str| CloudRow {
        action: CloudAction::Destroy,
        what: what.to_owned(),
        detail: vec![detail.to_owned()],
        reason: "pool workers: 3 → 2".to_owned(),
    };
    shown.cloud.push(goes("instance workers-3", "no member yet"));
    now.cloud.push(goes("instance workers-3", "drained first"));
    assert!(differences(&shown, &now).is_empty());
    now.cloud.push(goes("instance workers-2", "drained first"));
    assert_eq!(differences(&shown, &now).len(), 1);
}

#[test]
fn the_reason_of_a_row_is_not_the_row() {
    let (shown, mut now) = (saved(), saved());
    now.cluster_rows[0].reason = "someone changed it".to_owned();
    assert!(differences(&shown, &now).is_empty());
}

#[test]
fn an_id_names_what_was_shown() {
    let id = |plan: &SavedPlan| SavedPlan::id_of(41, &plan.site, &plan.cloud, &plan.nodes, &plan.cluster_rows);
    let shown = saved();
    assert_eq!(id(&shown), id(&saved()));
    assert!(id(&shown).starts_with("41-") && id(&shown).len() == 9, "short enough to type: {}", id(&shown));

    let changed = |change: fn(&mut SavedPlan)| {
        let mut plan = saved();
        change(&mut plan);
        plan
    };
    let others = [
        changed(|plan| {
            let rows = vec![row("file./etc/hosts", &[])];
            plan.nodes.insert("workers-1".parse().unwrap(), section("workers", NodePart::Rows { rows }));
        }),
        changed(|plan| plan.site = Digest::of("other")),
        changed(|plan| plan.cloud.clear()),
        changed(|plan| plan.cluster_rows[0].detail.clear()),
    ];
    for other in others {
        assert_ne!(id(&shown), id(&other));
    }
    let mut later = saved();
    let silent = section("control-plane", NodePart::NotAnswering { last_seen: 9_101 });
    later.nodes.insert("control-plane-2".parse().unwrap(), silent);
    assert_eq!(id(&shown), id(&later), "still silent");
}
