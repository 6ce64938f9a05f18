//! A real coordinator and real agents over a simulated network, by seed: the history is random, the rules of the design
//! hold at every step, and once the trouble ends everything is as written.
//!
//! Real are the coordinator whole, SQLite included; of the agent the keeper, the link, the loop and the engine with its
//! ledger; TLS, gRPC and every byte between them. Simulated are the network (turmoil: latency, loss, partitions, held
//! messages), the time, the provider (the product's own fake, which lags and loses answers), each machine's files and
//! units, and what kubeadm does. A crash drops a host's tasks between two of their awaits; what is on disk stays.
//!
//! A seed decides everything: two runs of it write the same trace, which is checked each time. Each run has a process of
//! its own, because tokio and the standard library draw from sequences that a process shares (`random`). TLS keys and
//! signatures do differ between runs; only their bytes do.
//!
//! `MUSTER_SIM_SEEDS` says how many seeds are run (200). `MUSTER_SIM_SEED=7 cargo test --workspace --test simulation`
//! replays one with its whole trace, `MUSTER_SIM_LOG=1` shows the product's log lines as well, and `MUSTER_SIM_PLANT`
//! plants a fault (`plants`): each of those must be found within few seeds by the invariant that is there for it, or the simulation could not fail.

mod absence;
mod clock;
mod cloud;
mod cluster;
mod coordinator;
mod history;
mod hosts;
mod invariants;
mod log;
mod machine;
mod network;
mod node;
mod operator;
mod plants;
mod random;
mod run;
mod site;
mod stage;
mod told;

use std::{
    collections::BTreeMap,
    io::Read,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use plants::Plant;

/// As many seeds are run.
const SEEDS: u64 = 200;
/// As many are run twice, to see that they take one path.
const AGAIN: u64 = 10;
/// A planted fault is found within so many.
const FOUND_WITHIN: u64 = 20;
/// In real time; a run takes about a second.
const LONGEST: Duration = Duration::from_secs(120);
/// As many lines of a failed run's trace are shown.
const SHOWN: usize = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn plant() -> Plant {
    std::env::var("MUSTER_SIM_PLANT").map_or(Plant::Nothing, |text| text.parse().expect("a plant"))
}

fn main() -> ExitCode {
    if let Some(seed) = number("MUSTER_SIM_CHILD") {
        return child(seed);
    }
    if let Some(seed) = number("MUSTER_SIM_SEED") {
        return replay(seed);
    }
    all()
}

/// One seed, told to the parent in one line and, where it broke, the end of its trace.
fn child(seed: u64) -> ExitCode {
    let ended = run::run(seed, plant());
    println!("{} {} {}", ended.digest, ended.took.as_millis(), ended.disruptions);
    let Some(broken) = ended.broken else { return ExitCode::SUCCESS };
    println!("{broken}");
    for line in ended.trace.iter().rev().take(SHOWN).rev() {
        println!("{}", line.chars().take(400).collect::<String>());
    }
    ExitCode::FAILURE
}

fn replay(seed: u64) -> ExitCode {
    let ended = run::run(seed, plant());
    for line in &ended.trace {
        println!("{line}");
    }
    println!("trace {}", ended.digest);
    match ended.broken {
        None => ExitCode::SUCCESS,
        Some(broken) => {
            println!("seed {seed}: {broken}");
            ExitCode::FAILURE
        }
    }
}

/// What a child told.
struct Told {
    digest: String,
    simulated: Duration,
    disruptions: u64,
    /// What broke, and the end of the trace.
    broken: Option<String>,
}

fn told(seed: u64, plant: Plant) -> Told {
    let program = std::env::current_exe().expect("a program knows where it is");
    let output = Command::new(program)
        .env("MUSTER_SIM_CHILD", seed.to_string())
        .env("MUSTER_SIM_PLANT", plant.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(within);
    let (ok, text, errors) = match output {
        Ok(output) => output,
        Err(error) => (false, String::new(), error.to_string()),
    };
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let digest = words.next().unwrap_or_default().to_owned();
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
    let simulated = Duration::from_millis(number());
    let disruptions = number();
    let rest: Vec<&str> = text.lines().skip(1).collect();
    let broken = (!ok).then(|| format!("{}\n{errors}", rest.join("\n")));
    Told { digest, simulated, disruptions, broken }
}

/// What a pipe brings until its end.
fn whole(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is told all the same.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a child, and ends one that takes too long.
fn within(mut child: std::process::Child) -> std::io::Result<(bool, String, String)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| whole(out));
        let err = scope.spawn(|| whole(err));
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > LONGEST {
                child.kill()?;
            }
            thread::sleep(Duration::from_millis(10));
        };
        Ok((status.success(), out.join().unwrap_or_default(), err.join().unwrap_or_default()))
    })
}

/// Runs these seeds on all processors; `each` is told of each, and ends it all by `false`.
fn run_all(seeds: std::ops::RangeInclusive<u64>, plant: Plant, each: impl Fn(u64, Told) -> bool + Sync) {
    let next = AtomicU64::new(*seeds.start());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > *seeds.end() {
                        return;
                    }
                    if !each(seed, told(seed, plant)) {
                        next.store(*seeds.end() + 1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
}

fn all() -> ExitCode {
    let seeds = number("MUSTER_SIM_SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let failed = Mutex::new(Vec::new());
    let totals = Mutex::new((Duration::ZERO, 0));
    let paths = Mutex::new(BTreeMap::new());
    run_all(1..=seeds, Plant::Nothing, |seed, told| {
        let mut totals = totals.lock().unwrap();
        totals.0 += told.simulated;
        totals.1 += told.disruptions;
        paths.lock().unwrap().insert(seed, told.digest);
        if let Some(broken) = told.broken {
            println!("\nseed {seed} broke: {broken}");
            println!("replay: MUSTER_SIM_SEED={seed} cargo test --workspace --test simulation\n");
            failed.lock().unwrap().push(seed);
        }
        true
    });
    let (simulated, disruptions) = totals.into_inner().unwrap();
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    println!(
        "simulation: {seeds} seeds, {} h simulated, {disruptions} disruptions, in {} s; broken: {failed:?}",
        simulated.as_secs() / 3600,
        began.elapsed().as_secs()
    );
    let mut good = failed.is_empty();
    let paths = paths.into_inner().unwrap();
    let strayed = Mutex::new(Vec::new());
    run_all(1..=seeds.min(AGAIN), Plant::Nothing, |seed, told| {
        if paths.get(&seed) != Some(&told.digest) {
            strayed.lock().unwrap().push(seed);
        }
        true
    });
    let strayed = strayed.into_inner().unwrap();
    if !strayed.is_empty() {
        println!("simulation: these took another path when they were run again: {strayed:?}");
        good = false;
    }
    for plant in Plant::FAULTS {
        let found = Mutex::new(None);
        let others = Mutex::new(BTreeMap::new());
        run_all(1..=FOUND_WITHIN, plant, |seed, told| {
            let Some(broken) = told.broken else { return true };
            let line = broken.lines().next().unwrap_or_default().to_owned();
            if line.split_once(": ").is_none_or(|(invariant, _)| invariant != plant.invariant()) {
                others.lock().unwrap().insert(seed, line);
                return true;
            }
            let mut found = found.lock().unwrap();
            if found.as_ref().is_none_or(|(before, _)| seed < *before) {
                *found = Some((seed, line));
            }
            false
        });
        match found.into_inner().unwrap() {
            Some((seed, line)) => println!("simulation: {plant}, planted, is found by seed {seed}: {line}"),
            None => {
                let (invariant, others) = (plant.invariant(), others.into_inner().unwrap());
                println!("simulation: {plant}, planted, broke `{invariant}` in none of {FOUND_WITHIN} seeds");
                others.iter().for_each(|(seed, line)| println!("  seed {seed}, another one: {line}"));
                good = false;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
