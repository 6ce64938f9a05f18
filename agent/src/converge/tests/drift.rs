//! What somebody changed by hand, and what only follows from the site.

use super::*;

#[tokio::test]
async fn a_fight_is_slowed_down_and_said() {
    let machine = FakeMachine::new();
    let all = catalog([file("/x", "ours")]);
    converge(&machine, &all).await;
    for _ in 0..5 {
        machine.files.put("/x", "theirs");
        machine.clock.forward(60);
        let report = converge(&machine, &all).await;
        assert_eq!(report.drift, [id("file./x")]);
    }
    machine.files.put("/x", "theirs");
    let report = converge(&machine, &all).await;
    let Outcome::Skipped { why: Skip::Contested { .. } } = outcome(&report, "file./x") else { panic!("{report:?}") };
    assert_eq!(machine.files.text("/x").as_deref(), Some("theirs"));
    machine.clock.forward(700);
    converge(&machine, &all).await;
    assert_eq!(machine.files.text("/x").as_deref(), Some("ours"));
}

#[tokio::test]
async fn a_new_content_is_no_drift() {
    let machine = FakeMachine::new();
    converge(&machine, &catalog([file("/x", "1")])).await;
    let report = converge(&machine, &catalog([file("/x", "2")])).await;
    assert_eq!((report.drift.len(), report.steps.len()), (0, 1));
}

#[tokio::test]
async fn what_follows_a_change_before_it_is_no_drift() {
    let machine = FakeMachine::new();
    let both = |first: &str| catalog([file("/x", first), file("/y", "b").after(&["file./x"])]);
    converge(&machine, &both("1")).await;
    machine.files.put("/y", "else");
    let report = converge(&machine, &both("2")).await;
    assert_eq!((report.drift.len(), report.steps.len()), (0, 2));
    machine.files.put("/y", "else");
    assert_eq!(converge(&machine, &both("2")).await.drift, [id("file./y")]);
    // Both by hand: the one that comes after the other is drift too.
    machine.files.put("/x", "else");
    machine.files.put("/y", "else");
    assert_eq!(converge(&machine, &both("2")).await.drift, [id("file./x"), id("file./y")]);
}

#[tokio::test]
async fn the_quick_path_leaves_the_rest_alone() {
    let machine = FakeMachine::new();
    let all = shared([file("/x", "x"), file("/y", "y")]);
    converge(&machine, &all).await;
    machine.files.put("/x", "by hand");
    machine.files.put("/y", "by hand");
    let options = Options { only: Some([id("file./x")].into()), woken_by: "drift".into(), ..Options::default() };
    let report = engine(&machine).converge(&all, &options).await.unwrap();
    assert_eq!((report.drift, report.already_right), (vec![id("file./x")], 0));
    assert_eq!(machine.files.text("/y").as_deref(), Some("by hand"));
    let report = converge(&machine, &all).await;
    assert_eq!(report.drift, [id("file./y")]);
}
