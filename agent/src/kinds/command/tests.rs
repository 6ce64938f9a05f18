//! Guards that give no answer, and what an agent before this one began.

use muster_catalog::kinds::service::Disrupts;

use super::*;
use crate::{adapters::fake::FakeMachine, ports::Output};

fn spec(unless: &str) -> CommandSpec {
    CommandSpec {
        name: "x".into(),
        run: vec!["work".into()],
        unless: Some(vec![unless.into()]),
        only_if: None,
        creates: None,
        on_notify: false,
        environment: Default::default(),
        timeout: 300,
        disrupts: Disrupts::Nothing,
    }
}

fn failure(error: StepError) -> (String, String, bool) {
    match error {
        StepError::Failed(failure) => (failure.message, failure.help.unwrap_or_default(), failure.retry),
        StepError::Skip(why) => panic!("{why:?}"),
    }
}

#[tokio::test]
async fn a_guard_that_gives_no_answer_is_an_error_and_no_no() {
    let machine = FakeMachine::new();
    let ctx = machine.node("node-1");
    for (program, status) in
        [("yes", 0), ("no", 1), ("git", 128), ("typo-in-shell", 127), ("killed", 137), ("other", 255)]
    {
        machine.commands.install(program, move |_| Output { status, ..Output::default() });
    }
    for (program, says) in [("yes", true), ("no", false), ("git", false), ("other", false)] {
        assert_eq!(observe(&ctx, &spec(program)).await.unwrap().unless, Some(says), "{program}");
    }
    let (error, help, retry) = failure(observe(&ctx, &spec("is-don")).await.unwrap_err());
    assert_eq!(error, "the guard `unless` gives no answer: `is-don` is not installed");
    assert!(help.contains("after") && help.contains("creates") && retry, "{help}");
    let (error, _, _) = failure(observe(&ctx, &spec("typo-in-shell")).await.unwrap_err());
    assert!(error.contains("status 127"), "{error}");
    let (error, _, _) = failure(observe(&ctx, &spec("killed")).await.unwrap_err());
    assert!(error.contains("signal 9"), "{error}");
}

/// What was begun by an agent that was killed; the guard says whether it came to its end.
#[tokio::test]
async fn what_runs_already_is_waited_for_and_runs_again_only_where_it_is_still_due() {
    for (done, runs) in [(true, 0), (false, 1)] {
        let machine = FakeMachine::new();
        let ctx = machine.node("node-1");
        machine.commands.install("done", move |_| Output { status: i32::from(!done), ..Output::default() });
        machine.commands.install("work", |_| Output::default());
        machine.commands.left_running("x", 7);
        let observed = observe(&ctx, &spec("done")).await.unwrap();
        let change = diff(&spec("done"), &observed).unwrap();
        let ended = apply(&ctx, &spec("done"), &change).await.unwrap();
        assert_eq!(ended.notes, ["process 7 ran it already and was waited for"]);
        assert_eq!(machine.commands.ran().len(), runs);
    }
}

#[tokio::test]
async fn who_comes_second_waits_too() {
    let machine = FakeMachine::new();
    let ctx = machine.node("node-1");
    machine.commands.install("done", |_| Output { status: 1, ..Output::default() });
    machine.commands.install("work", |_| Output::default());
    let change = diff(&spec("done"), &observe(&ctx, &spec("done")).await.unwrap()).unwrap();
    machine.commands.left_running("x", 8);
    apply(&ctx, &spec("done"), &change).await.unwrap();
    assert_eq!(machine.commands.ran().len(), 1);
}
