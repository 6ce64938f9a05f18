//! Catalogs made by seed, and the tools beneath as their judges.
//!
//! A seed makes a catalog of odd values, what somebody had done on the node before, and, written without a look at the agent's
//! adapters, what `stat`, `getent`, `systemctl`, `findmnt`, `dpkg-query` and the like must say afterwards. Each catalog is planned,
//! applied, applied again, applied after a reboot, and taken away; every third one is also killed in its first apply. A plan's
//! rows are the changes, the second apply and the one after the boot change nothing, and what belongs to others is the same to the byte.
//!
//! `MUSTER_GENERATED_SEED=7` runs one seed; `MUSTER_GENERATED_SEEDS=1..1000` many, and with `MUSTER_GENERATED_RECORD=FILE` each end is
//! a line of that file and what stands there as passed is not run again. A failure is cut down to the fewest resources that show it.

mod case;
mod killer;
mod run;
mod session;
mod shrink;
mod snapshot;
mod things;

use std::{fmt::Write as _, io::Write as _, ops::Range, time::Instant};

use crate::lab::Lab;
use case::Case;

/// What CI runs, in two parts that share the time of two nodes.
const FIRST: Range<u64> = 1..27;
/// With those that need Docker.
const SECOND: Range<u64> = 27..43;

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn generated_catalogs_are_what_the_tools_say() {
    run_all(asked().unwrap_or(FIRST));
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn more_generated_catalogs_are_what_the_tools_say() {
    // The first part runs those that are asked for.
    if asked().is_none() {
        run_all(SECOND);
    }
}

/// After so many failures the rest is not run.
const MOST_FAILURES: usize = 3;
/// So many seeds are run to find all that fail, and each of these is cut down by a run of its own.
const MANY: u64 = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The seeds that somebody asks for.
fn asked() -> Option<Range<u64>> {
    if let Some(seed) = number("MUSTER_GENERATED_SEED") {
        return Some(seed..seed + 1);
    }
    let text = std::env::var("MUSTER_GENERATED_SEEDS").ok()?;
    let (from, to) = text.split_once("..").unwrap_or_else(|| panic!("MUSTER_GENERATED_SEEDS={text}: write 1..1000"));
    Some(from.parse().expect("a number")..to.parse().expect("a number"))
}

/// Seeds that passed, by the record.
fn passed() -> Vec<u64> {
    let Ok(path) = std::env::var("MUSTER_GENERATED_RECORD") else { return Vec::new() };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let seed = |line: &str| line.split_once(" passed")?.0.parse().ok();
    text.lines().filter_map(seed).collect()
}

fn record(line: &str) {
    let Ok(path) = std::env::var("MUSTER_GENERATED_RECORD") else { return };
    let file = std::fs::File::options().append(true).create(true).open(&path);
    file.and_then(|mut file| writeln!(file, "{line}")).unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn run_all(seeds: Range<u64>) {
    let passed = passed();
    let many = seeds.end - seeds.start >= MANY;
    let mut lab = run::prepared();
    let mut failed = String::new();
    let (mut count, mut resources, mut failures) = (0, 0, 0);
    for seed in seeds.filter(|seed| !passed.contains(seed)) {
        let case = Case::of(seed);
        let began = Instant::now();
        let outcome = run::run(&lab, &case);
        let took = began.elapsed().as_millis();
        (count, resources) = (count + 1, resources + case.things.len());
        match outcome {
            Ok(killed) => {
                let killed = if killed.is_empty() { killed } else { format!(", {killed}") };
                record(&format!("{seed} passed {took} ms, {} resources{killed}", case.things.len()));
            }
            Err(why) => {
                record(&format!("{seed} failed {took} ms: {why}"));
                // The first is cut down; the others likely fail for the same reason, and their seeds are said.
                let (least, why) =
                    if failures == 0 && !many { shrink::shrink(&case, why) } else { (case.clone(), why) };
                failures += 1;
                let _ = writeln!(
                    failed,
                    "seed {seed}, cut down to {} of {}: {why}\n--- what was there before\n{}--- the catalog\n{}\n",
                    least.things.len(),
                    case.things.len(),
                    least.prep(),
                    least.present(),
                );
                if failures == MOST_FAILURES && !many {
                    break;
                }
                // What a failure left behind is no place for the next.
                lab = run::prepared();
            }
        }
    }
    assert!(failed.is_empty(), "{failed}");
    println!("{count} catalogs of {resources} resources");
    drop::<Lab>(lab);
}
