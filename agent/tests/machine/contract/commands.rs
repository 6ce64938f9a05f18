//! Programs.

use std::time::{Duration, Instant};

use muster_agent::{
    adapters::{commands::SystemCommands, fake::FakeCommands},
    ports::{CommandError, Commands, Invocation, Once, Output},
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
    assert_eq!(commands.under_way("once").await.unwrap(), None);
    let once = commands.once("once", Invocation::new(["false"])).await.unwrap();
    assert!(matches!(once, Once::Ended(output) if output.status == 1));
    assert_eq!(commands.under_way("once").await.unwrap(), None, "what has ended is not under way");
    let missing = commands.once("once", Invocation::new(["muster-no-such-program"])).await;
    assert!(matches!(missing, Err(CommandError::NotFound { .. })));
    assert_eq!(commands.under_way("once").await.unwrap(), None);
}

/// The real one, for programs without a name: nothing is written down.
fn system() -> SystemCommands {
    SystemCommands::below("/nonexistent")
}

#[tokio::test]
async fn the_real_one_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    keeps(&SystemCommands::below(folder.path())).await;
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
    let Err(CommandError::TimedOut { tail, .. }) = system().run(run).await else { panic!("it ended") };
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
    let guarded = system().run(Invocation::new(["sh", "-c", &script]).read_only()).await.unwrap();
    assert!(!guarded.success() && !path.exists());
    let looking = system().run(Invocation::new(["sh", "-c", "cat /etc/passwd > /dev/null"]).read_only()).await.unwrap();
    assert!(looking.success(), "{looking:?}");
    assert!(system().run(Invocation::new(["sh", "-c", &script])).await.unwrap().success() && path.exists());
}

#[tokio::test]
async fn a_signal_is_told_as_shells_do_and_the_environment_is_small() {
    let killed = system().run(Invocation::new(["sh", "-c", "kill -9 $$"])).await.unwrap();
    assert_eq!(killed.status, 137);
    let env = system().run(Invocation::new(["env"]).env("MINE", "1")).await.unwrap().stdout();
    let names: Vec<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // By MUSTER_RUN a later agent knows what this one began.
    assert_eq!(names, ["HOME", "LANG", "LC_ALL", "MINE", "MUSTER_RUN", "PATH"]);
}

fn ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn end(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn a_program_has_ended_when_it_itself_ended_and_its_children_live_on() {
    let script = "echo begun; sh -c 'while sleep 0.05; do echo more; done' & echo $! >&2";
    // It would be late by days if the child that holds the output were waited for.
    let run = Invocation::new(["sh", "-c", script]).timeout(Duration::from_secs(86_400));
    let output = system().run(run).await.unwrap();
    let child: u32 = String::from_utf8_lossy(&output.stderr).trim().parse().unwrap();
    assert!(output.success() && output.stdout.starts_with(b"begun\n"), "{output:?}");
    // It writes to nobody, many times, and lives.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let lives = !ended(child);
    end(child);
    assert!(lives, "a child was ended with a program that succeeded");
}

#[tokio::test]
async fn more_output_than_memory_has_is_no_danger() {
    let output =
        system().run(Invocation::new(["sh", "-c", "echo first; yes | head -c 300000000; echo last"])).await.unwrap();
    assert!(output.stdout.starts_with(b"first\n") && output.stdout.ends_with(b"last\n"));
    assert!(output.stdout.len() < 40 * 1024 * 1024, "{}", output.stdout.len());
}

#[tokio::test]
async fn a_named_program_runs_once_at_a_time_and_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    let first = SystemCommands::below(folder.path().join("runs"));
    let second = SystemCommands::below(folder.path().join("runs"));
    let running = tokio::spawn({
        let script = script.clone();
        async move { first.once("x", Invocation::new(["sh", "-c", &script])).await.unwrap() }
    });
    let run = loop {
        if let Some(run) = second.under_way("x").await.unwrap() {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let again = second.once("x", Invocation::new(["sh", "-c", &script])).await.unwrap();
    assert_eq!(again, Once::UnderWay(run.clone()));
    assert!(matches!(second.once("y", Invocation::new(["true"])).await.unwrap(), Once::Ended(_)), "others are free");
    let (ended, ()) =
        tokio::join!(second.ended(&run, Duration::from_secs(600)), async { std::fs::write(&go, "").unwrap() });
    assert!(ended.unwrap());
    assert!(matches!(running.await.unwrap(), Once::Ended(output) if output.success()));
    assert_eq!(second.under_way("x").await.unwrap(), None);
}

#[tokio::test]
async fn a_named_program_that_does_not_end_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (SystemCommands::below(folder.path()), SystemCommands::below(folder.path()));
    let pids = folder.path().join("pids");
    let script =
        format!("setsid sh -c 'echo $$ >> {0}; exec sleep 300' & sleep 300 & echo $! >> {0}; wait", pids.display());
    let running = tokio::spawn(async move { first.once("x", Invocation::new(["sh", "-c", &script])).await.unwrap() });
    let run = loop {
        if let Some(run) = second.under_way("x").await.unwrap() {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let started = loop {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        if text.lines().count() == 2 {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(!second.ended(&run, Duration::from_millis(1)).await.unwrap());
    assert!(matches!(running.await.unwrap(), Once::Ended(output) if output.status == 137));
    for pid in started.lines() {
        while !ended(pid.parse().unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(second.under_way("x").await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.to_string_lossy().into_owned()
    };
    for (name, text, mode, why) in [
        ("plain", "#!/bin/sh\n", 0o644, "Permission denied"),
        ("lost", "#!/no/such/shell\n", 0o755, "interpreter"),
        ("text", "echo x\n", 0o755, "Exec format error"),
    ] {
        for run in [Invocation::new([put(name, text, mode)]), Invocation::new([put(name, text, mode)]).read_only()] {
            let Err(CommandError::Start { source, .. }) = system().run(run).await else { panic!("{name}") };
            assert!(source.to_string().contains(why), "{name}: {source}");
        }
    }
}
