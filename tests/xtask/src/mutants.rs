//! `cargo xtask mutants`: what the tests cannot see. Lines that decide who may what, and what goes, are changed one at a time,
//! and tests have to fail for it. It takes hours, and so is a command of its own; its record stands in `docs/tests.md`.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::command::Cmd;
use crate::progress::Progress;
use crate::shell;

/// Another one makes other mutants, and the record would not be of them.
const VERSION: &str = "27.1.0";

/// Of so many one may survive, explained.
const ONE_OF: usize = 20;

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Authorization,
    Enrolment,
    Signatures,
    Turns,
    Planner,
    Prune,
    Burial,
    Backup,
    /// The kinds that take something away
    Destructive,
}

/// Files of one crate, whose own tests have to tell.
struct Where {
    package: &'static str,
    files: &'static [&'static str],
}

impl Part {
    fn places(self) -> &'static [Where] {
        const COORDINATOR: &str = "muster-coordinator";
        match self {
            Self::Authorization => &[Where { package: COORDINATOR, files: &["coordinator/src/authz/*.rs"] }],
            Self::Enrolment => &[Where { package: COORDINATOR, files: &["coordinator/src/enrol/*.rs"] }],
            Self::Signatures => &[
                Where { package: "muster-proto", files: &["proto/src/signed.rs"] },
                Where { package: "muster-agent", files: &["agent/src/link/cache.rs"] },
            ],
            Self::Turns => &[
                Where { package: "muster-planner", files: &["coordinator/planner/src/turns.rs"] },
                Where { package: COORDINATOR, files: &["coordinator/src/turns.rs"] },
                Where { package: "muster-agent", files: &["agent/src/converge/disruption.rs"] },
            ],
            Self::Planner => &[Where { package: "muster-planner", files: &["coordinator/planner/src/**/*.rs"] }],
            Self::Prune => &[Where { package: "muster-agent", files: &["agent/src/cluster/sets/prune.rs"] }],
            Self::Burial => &[Where { package: "muster-agent", files: &["agent/src/cluster/burial.rs"] }],
            Self::Backup => {
                &[Where { package: COORDINATOR, files: &["coordinator/src/backup.rs", "coordinator/src/backups.rs"] }]
            }
            Self::Destructive => &[
                Where { package: "muster-plan", files: &["agent/plan/src/kinds/directory.rs"] },
                Where { package: "muster-agent", files: &["agent/src/kinds/directory.rs", "agent/src/kinds/purge.rs"] },
            ],
        }
    }
}

/// How it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// By a test that failed, or that never came to its end.
    caught: usize,
    survivors: Vec<String>,
}

impl Tally {
    /// From the lists that cargo-mutants leaves, one mutant a line; those that do not compile count for nothing.
    fn read(folder: &Path) -> Result<Self> {
        let list = |name: &str| -> Result<Vec<String>> {
            let path = folder.join("mutants.out").join(name);
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let caught = list("caught.txt")?.len() + list("timeout.txt")?.len();
        Ok(Self { caught, survivors: list("missed.txt")? })
    }

    fn add(&mut self, other: Self) {
        self.caught += other.caught;
        self.survivors.extend(other.survivors);
    }

    fn is_good(&self) -> bool {
        let all = self.caught + self.survivors.len();
        all > 0 && self.survivors.len() * ONE_OF <= all
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (caught, survive) = (self.caught, self.survivors.len());
        write!(f, "{} mutants, {caught} caught, {survive} survive", caught + survive)?;
        self.survivors.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Changes these parts, or all, line by line in a copy of the checkout.
pub fn run(progress: &Progress, cache: &Path, root: &Path, parts: &[Part]) -> Result<()> {
    let program = install(progress, cache, root)?;
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    let mut bad = Vec::new();
    for part in parts {
        let name = part.to_possible_value().context("each part has a name")?.get_name().to_owned();
        let mut tally = Tally::default();
        for place in part.places() {
            let folder = tempfile::tempdir()?;
            progress.stage(&format!("mutants of {name} in {}", place.package), || {
                mutate(&program, cache, root, place, folder.path())
            })?;
            tally.add(Tally::read(folder.path())?);
        }
        progress.note(&format!("{name}: {tally}"));
        if !tally.is_good() {
            bad.push(name);
        }
    }
    ensure!(bad.is_empty(), "more than one mutant of {ONE_OF} survives, or there was none: {}", bad.join(", "));
    Ok(())
}

fn mutate(program: &Path, cache: &Path, root: &Path, place: &Where, folder: &Path) -> Result<()> {
    let files = place.files.iter().flat_map(|file| ["--file", file]);
    // As cargo calls it; the tests look at the same cases for each mutant.
    let command = shell::deaf(Cmd::new(program)).arg("mutants").args(files);
    let command = command.args(["--package", place.package, "--no-times", "--output"]).arg(folder).dir(root);
    let log = cache.join("logs").join(format!("mutants-{}.log", place.package));
    let mut command = command.env("PROPTEST_RNG_SEED", "1").into_inner();
    let out = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = command.stdout(out.try_clone()?).stderr(out).status().context("cannot start cargo-mutants")?;
    // 2: some survive; 3: some never end.
    let ran = matches!(status.code(), Some(0 | 2 | 3));
    ensure!(ran, "cargo-mutants failed ({status}); {} says why", log.display());
    Ok(())
}

/// cargo-mutants, built once.
fn install(progress: &Progress, cache: &Path, root: &Path) -> Result<std::path::PathBuf> {
    let folder = cache.join(format!("cargo-mutants-{VERSION}"));
    let program = folder.join("bin/cargo-mutants");
    if !program.is_file() {
        let version = ["--version", VERSION, "--locked", "--root"];
        let command =
            crate::cargo::cargo(root).args(["install", "--quiet", "cargo-mutants"]).args(version).arg(&folder);
        progress.stage("install cargo-mutants", || command.show())?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_files_that_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        for part in Part::value_variants() {
            for file in part.places().iter().flat_map(|place| place.files) {
                let path = root.join(file.split('*').next().unwrap());
                assert!(path.exists(), "{part:?}: {file}");
            }
        }
    }

    #[test]
    fn one_of_twenty_may_survive_and_none_at_all_proves_nothing() {
        let tally = |caught, survive| Tally { caught, survivors: vec![String::new(); survive] };
        assert!(tally(19, 1).is_good() && tally(1, 0).is_good());
        assert!(!tally(18, 1).is_good() && !tally(0, 0).is_good());
    }

    #[test]
    fn the_lists_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("mutants.out");
        std::fs::create_dir(&out).unwrap();
        for (name, text) in [("caught.txt", "a\nb\n"), ("timeout.txt", "c\n"), ("missed.txt", "d\n")] {
            std::fs::write(out.join(name), text).unwrap();
        }
        let tally = Tally::read(folder.path()).unwrap();
        assert_eq!(tally.to_string(), "4 mutants, 3 caught, 1 survive\n  d");
        std::fs::remove_file(out.join("missed.txt")).unwrap();
        assert!(Tally::read(folder.path()).is_err());
    }
}
