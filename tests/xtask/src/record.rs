//! `cargo xtask record`: more of a test than each change is judged by, for the records in `docs/tests.md`. What is asked for
//! is said in the command: a judging run hears no variable of the shell's.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;

use crate::progress::Progress;
use crate::test::{Lab, ignored, live};

/// What is looked at, and how much of it.
#[derive(Subcommand)]
pub enum Record {
    /// The live tests, in which each node is lost in each way
    ///
    /// Example: cargo xtask record losses workers-1 workers-2
    Losses {
        /// Only these nodes
        nodes: Vec<String>,
    },
    /// Kill the agent after each of its calls that change something
    ///
    /// Example: cargo xtask record kills mount user
    Kills {
        /// Only these cases, whose names stand in agent/tests/machine/kills/
        cases: Vec<String>,
    },
    /// Catalogs made by seed, on a node in a container
    ///
    /// Example: cargo xtask record catalogs 1..1000 --to catalogs.txt
    Catalogs {
        /// The first one and the one behind the last
        #[arg(value_name = "FROM..TO", value_parser = seeds)]
        seeds: String,
        /// Write each end down, and go on from there
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Two numbers, the second one greater.
fn seeds(text: &str) -> Result<String, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match range {
        Some::<(u64, u64)>((from, to)) if from < to => Ok(text.to_owned()),
        Some(_) | None => Err(format!("{text} names no seed: write 1..1000")),
    }
}

/// Those that are named, or all.
fn named(names: &[String]) -> String {
    if names.is_empty() { "all".to_owned() } else { names.join(",") }
}

/// Runs it.
pub fn record(progress: &Progress, root: &Path, lab: &Lab, what: &Record) -> Result<()> {
    match what {
        Record::Losses { nodes } => live(progress, root, lab, Some(&named(nodes))),
        Record::Kills { cases } => progress.stage("kills at each step", || {
            let test = ["a_killed_agent_is_as_if_it_had_not_been", "--nocapture"];
            ignored(root, &["--test", "machine"], &test, lab, &[("MUSTER_KILLS", named(cases))])
        }),
        Record::Catalogs { seeds, to } => progress.stage("catalogs by seed", || {
            let to = to.as_deref().map(std::path::absolute).transpose()?;
            let mut asked = vec![("MUSTER_GENERATED_SEEDS", seeds.clone())];
            asked.extend(to.map(|to| ("MUSTER_GENERATED_RECORD", to.display().to_string())));
            let test = ["generated::generated_catalogs_are_what_the_tools_say", "--exact", "--nocapture"];
            ignored(root, &["--test", "machine"], &test, lab, &asked)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_two_numbers_and_some_are_between() {
        assert_eq!(seeds("1..1000"), Ok("1..1000".to_owned()));
        for wrong in ["", "7", "7..7", "9..1", "a..b", "1..", "-1..3"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_names_none_means_all() {
        assert_eq!(named(&[]), "all");
        assert_eq!(named(&["mount".to_owned(), "user".to_owned()]), "mount,user");
    }
}
