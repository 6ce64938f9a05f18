//! Swap on a machine in memory: its programs are closures that hold to what the real ones do.

use std::sync::Arc;

use muster_plan::kinds::swap::diff;

use super::*;
use crate::{
    adapters::fake::FakeMachine,
    ports::{Files, Output},
};

const SWAPS: &str = "Filename Type Size Used Priority\n";

fn spec() -> SwapSpec {
    SwapSpec { path: "/swapfile".into(), size: Some("1Mi".into()), priority: Some(5), absent: false }
}

fn machine() -> FakeMachine {
    let machine = FakeMachine::new();
    machine.files.put("/proc/swaps", SWAPS);
    machine.files.put(fstab::PATH, "# mine\n");
    let ok = Output::default;
    let last = |run: &Invocation| run.argv.last().cloned().unwrap_or_default();
    let of = |run: &Invocation, key: &str| run.argv.iter().find_map(|word| Some(word.strip_prefix(key)?.to_owned()));
    let files = Arc::clone(&machine.files);
    machine.commands.install("dd", move |run| {
        let bytes = of(run, "count=").unwrap().parse().unwrap();
        files.write_in_place(&of(run, "of=").unwrap(), &vec![0; bytes]).unwrap();
        ok()
    });
    let files = Arc::clone(&machine.files);
    machine.commands.install("mkswap", move |run| {
        let mut content = files.read(&last(run)).unwrap().unwrap();
        content[4086..4096].copy_from_slice(b"SWAPSPACE2");
        files.write_in_place(&last(run), &content).unwrap();
        ok()
    });
    let files = Arc::clone(&machine.files);
    machine.commands.install("mv", move |run| {
        let [.., from, to] = &run.argv[..] else { panic!("{run:?}") };
        let content = files.read(from).unwrap().unwrap();
        let mode = files.stat(from).unwrap().unwrap().mode;
        files.write(to, &content, mode, 0, 0).unwrap();
        files.remove(from, false).unwrap();
        ok()
    });
    let files = Arc::clone(&machine.files);
    machine.commands.install("swapon", move |run| {
        let at = run.argv.iter().position(|word| word == "--priority");
        let priority = at.map_or("-2", |at| run.argv[at + 1].as_str());
        files.put("/proc/swaps", &format!("{SWAPS}{} file 1020 0 {priority}\n", last(run)));
        ok()
    });
    let files = Arc::clone(&machine.files);
    machine.commands.install("swapoff", move |_| {
        files.put("/proc/swaps", SWAPS);
        ok()
    });
    machine
}

/// One step as the engine takes it, and the look after it. False where nothing differs.
async fn step(machine: &FakeMachine, spec: &SwapSpec) -> Result<bool, StepError> {
    let ctx = machine.node("n-1");
    let Some(change) = diff(spec, &observe(&ctx, spec).await?) else { return Ok(false) };
    apply(&ctx, spec, &change).await?;
    assert_eq!(diff(spec, &observe(&ctx, spec).await?), None, "after {change:?}");
    Ok(true)
}

fn programs(machine: &FakeMachine) -> Vec<String> {
    machine.commands.ran().into_iter().map(|argv| argv.first().cloned().unwrap_or_default()).collect()
}

#[tokio::test]
async fn it_comes_is_put_back_and_goes() {
    let machine = machine();
    assert!(step(&machine, &spec()).await.unwrap());
    assert_eq!(programs(&machine), ["dd", "mkswap", "mv", "swapon"]);
    assert_eq!(machine.files.text(fstab::PATH).unwrap(), "# mine\n/swapfile none swap sw,pri=5 0 0\n");
    assert_eq!(machine.files.stat("/swapfile").unwrap().unwrap().mode, 0o600);
    assert!(!step(&machine, &spec()).await.unwrap());

    machine.files.put("/proc/swaps", SWAPS);
    machine.files.set("/swapfile", 0o644, 0, 0).unwrap();
    assert!(step(&machine, &spec()).await.unwrap(), "switched off by hand");
    assert!(step(&machine, &SwapSpec { size: Some("2Mi".into()), ..spec() }).await.unwrap());
    assert!(step(&machine, &SwapSpec { size: Some("2Mi".into()), priority: Some(7), ..spec() }).await.unwrap());
    let gone = SwapSpec { absent: true, ..spec() };
    assert!(step(&machine, &gone).await.unwrap());
    assert!(!step(&machine, &gone).await.unwrap());
    assert_eq!(machine.files.text(fstab::PATH).unwrap(), "# mine\n");
    assert!(machine.files.stat("/swapfile").unwrap().is_none());
}

#[tokio::test]
async fn where_swap_cannot_be_nothing_is_written() {
    let machine = machine();
    let before = machine.files.changes();
    let in_memory = crate::ports::NewMount { source: "tmpfs", path: "/run", fstype: "tmpfs", options: "rw" };
    machine.node("n-1").mounts.mount(&in_memory).await.unwrap();
    let error = step(&machine, &SwapSpec { path: "/run/swap".into(), ..spec() }).await.unwrap_err();
    assert_eq!(error.to_string(), "/run/swap would be on tmpfs, which cannot hold a swap file");
    machine.files.put("/swapfile", "somebody's data");
    let error = step(&machine, &spec()).await.unwrap_err();
    assert_eq!(error.to_string(), "/swapfile is there and is no swap");
    assert_eq!((machine.files.changes(), programs(&machine).len()), (before, 0));
    assert_eq!(machine.files.text("/swapfile").unwrap(), "somebody's data");
}

#[tokio::test]
async fn a_kill_or_a_full_disk_leaves_nothing_by_halves() {
    let machine = machine();
    machine.commands.install("dd", |_| Output {
        status: 1,
        stderr: b"No space left on device".to_vec(),
        ..Output::default()
    });
    let error = step(&machine, &spec()).await.unwrap_err().to_string();
    assert!(error.contains("No space left"), "{error}");
    for path in ["/swapfile", "/.swapfile.muster-swap"] {
        assert!(machine.files.stat(path).unwrap().is_none(), "{path}");
    }
    // A file that was being written when the agent was killed.
    let machine = self::machine();
    machine.files.put("/.swapfile.muster-swap", "half");
    assert!(step(&machine, &spec()).await.unwrap());
    assert!(machine.files.stat("/.swapfile.muster-swap").unwrap().is_none());
}

#[tokio::test]
async fn a_device_that_holds_something_is_left() {
    let machine = machine();
    machine.mounts.put("/dev/vdb", Found::Device { path: "/dev/vdb".into(), number: "254:16".into() });
    let device = SwapSpec { path: "/dev/vdb".into(), size: None, priority: None, absent: false };
    machine
        .commands
        .install("blkid", |_| Output { stdout: b"DEVNAME=/dev/vdb\nTYPE=ext4\n".to_vec(), ..Output::default() });
    let error = step(&machine, &device).await.unwrap_err();
    assert_eq!(error.to_string(), "/dev/vdb holds ext4");
    assert_eq!(programs(&machine), [] as [&str; 0]);
    machine.commands.install("blkid", |_| Output { status: 2, ..Output::default() });
    machine.commands.install("mkswap", |_| Output::default());
    assert!(step(&machine, &device).await.unwrap());
    assert_eq!(programs(&machine), ["mkswap", "swapon"]);
    assert_eq!(machine.files.text(fstab::PATH).unwrap(), "# mine\n/dev/vdb none swap sw 0 0\n");
}
