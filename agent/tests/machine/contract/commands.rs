//! Programs.

use std::time::{Duration, Instant};

use muster_agent::{
    adapters::{commands::SystemCommands, fake::FakeCommands},
    ports::{CommandError, Commands, Invocation, Output},
};

async fn keeps(commands: &dyn Commands) {
    let cat = commands.run(Invocation::new(["cat"]).stdin("hello")).await.unwrap();
    assert_eq!((cat.status, cat.stdout.as_slice()), (0, &b"hello"[..]));
    let bad = commands.run(Invocation::new(["false"])).await.unwrap();
    assert!(!bad.success() && bad.status == 1);
    let missing = commands.run(Invocation::new(["muster-no-such-program"])).await;
    assert!(matches!(missing, Err(CommandError::NotFound { program }) if program == "muster-no-such-program"));
    let guard = commands.run(Invocation::new(["false"]).read_only()).await.unwrap();
    assert_eq!(guard.status, 1);
}

#[tokio::test]
async fn the_real_one_keeps_it() {
    keeps(&SystemCommands).await;
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let commands = FakeCommands::default();
    commands.install("cat", |run| Output { stdout: run.stdin.clone(), ..Output::default() });
    commands.install("false", |_| Output { status: 1, ..Output::default() });
    keeps(&commands).await;
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let began = Instant::now();
    // The grandchild holds the pipe: killing the shell alone would leave the reader waiting.
    let run =
        Invocation::new(["sh", "-c", "echo begun; sleep 300 & echo $! >&2; wait"]).timeout(Duration::from_millis(300));
    let Err(CommandError::TimedOut { tail, .. }) = SystemCommands.run(run).await else { panic!("it ended") };
    assert!(began.elapsed() < Duration::from_secs(60), "it waited for the grandchild");
    let grandchild = tail.trim();
    for _ in 0..50 {
        let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        // Gone, or waiting for its new parent to notice.
        if state.is_empty() || state.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {grandchild} lives on");
}

#[tokio::test]
async fn a_guard_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let script = format!("echo x > {}", path.display());
    let guarded = SystemCommands.run(Invocation::new(["sh", "-c", &script]).read_only()).await.unwrap();
    assert!(!guarded.success() && !path.exists());
    let looking =
        SystemCommands.run(Invocation::new(["sh", "-c", "cat /etc/passwd > /dev/null"]).read_only()).await.unwrap();
    assert!(looking.success(), "{looking:?}");
    assert!(SystemCommands.run(Invocation::new(["sh", "-c", &script])).await.unwrap().success() && path.exists());
}

#[tokio::test]
async fn a_signal_is_told_as_shells_do_and_the_environment_is_small() {
    let killed = SystemCommands.run(Invocation::new(["sh", "-c", "kill -9 $$"])).await.unwrap();
    assert_eq!(killed.status, 137);
    let env = SystemCommands.run(Invocation::new(["env"]).env("MINE", "1")).await.unwrap().stdout();
    let names: Vec<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names, ["HOME", "LANG", "LC_ALL", "MINE", "PATH"]);
}
