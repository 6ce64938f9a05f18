//! `muster validate` of the shipped site with many more files in a role: for one environment, and for all of them.
//!
//! With `--before` another `muster`, of an earlier commit for one, takes turns with it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{
    Bench,
    peers::content,
    table::{self, Figures},
};
use crate::command::Cmd;

/// Ten times as many tell whether it grows with the number.
const COUNTS: [usize; 2] = [5_000, 50_000];
/// The environments that are asked for, and what that is called.
const ASKED: [(&[&str], &str); 2] = [(&["-e", "local"], "one environment"), (&[], "all four")];

/// Who takes part, what it is asked for, and the figures for each number of files.
struct Runner<'a> {
    name: String,
    program: &'a Path,
    environments: &'static [&'static str],
    figures: [Figures; COUNTS.len()],
}

pub fn run(bench: &Bench) -> Result<()> {
    let muster = &bench.built.programs.muster;
    let programs = [("muster", Some(muster.as_path())), ("before", bench.before)];
    let mut runners: Vec<Runner> = Vec::new();
    for (who, program) in programs {
        let Some(program) = program else { continue };
        let asked = ASKED.map(|(environments, said)| Runner {
            name: format!("{who}, {said}"),
            program,
            environments,
            figures: Default::default(),
        });
        runners.extend(asked);
    }
    let folder = tempfile::tempdir()?;
    for (number, count) in COUNTS.into_iter().enumerate() {
        let site = folder.path().join(count.to_string());
        Cmd::new(muster).arg("init").arg(&site).output()?;
        add(&site, count)?;
        bench.progress.stage(&format!("validate a site of {count} files"), || {
            for _round in 0..bench.rounds.max(3) {
                for runner in &mut runners {
                    let seconds = time(runner, &site)?;
                    runner.figures[number].add(seconds * 1000.0);
                }
            }
            Ok(())
        })?;
    }
    let rows: Vec<_> = runners
        .iter()
        .map(|runner| {
            let [few, many] = &runner.figures;
            // The same question, asked of the present one.
            let asked = |other: &&Runner| other.environments == runner.environments;
            let now = runners.iter().find(asked).map_or("-".to_owned(), |now| table::ratio(many, &now.figures[1]));
            vec![runner.name.clone(), few.shown(0), many.shown(0), table::ratio(many, few), now]
        })
        .collect();
    println!("\nvalidate, whole process: ms, median (least to most)\n");
    let head = ["", "5,000 files", "50,000 files", "of 5,000", "of muster, 50,000"];
    println!("{}", table::table(&head, &rows));
    Ok(())
}

/// Of one role's file, which has at most a mebibyte.
const IN_ONE: usize = 2_000;

/// More files for every node, in roles that the first one of all includes.
fn add(site: &Path, count: usize) -> Result<()> {
    let roles = site.join("roles");
    let mut names = Vec::new();
    for first in (0..count).step_by(IN_ONE) {
        let name = format!("bench-{first}");
        let one = |number| {
            let content = content(number);
            let path = format!("/srv/bench/{number}");
            format!("\n[[file]]\npath = \"{path}\"\ncontent = {content:?}\nmode = \"0644\"\nowner = \"root\"\n")
        };
        let text: String = (first..count.min(first + IN_ONE)).map(one).collect();
        fs::write(roles.join(format!("{name}.toml")), text)?;
        names.push(name);
    }
    let base = roles.join("base.toml");
    let text = fs::read_to_string(&base)?;
    let included = names.iter().map(|name| format!("{name:?}, ")).collect::<String>();
    ensure!(text.contains("\ninclude = ["), "the shipped base role includes no other by now");
    let text = text.replacen("\ninclude = [", &format!("\ninclude = [{included}"), 1);
    let text = format!("{text}\n[[directory]]\npath = \"/srv/bench\"\n");
    Ok(fs::write(base, text)?)
}

fn time(runner: &Runner, site: &Path) -> Result<f64> {
    let mut command = std::process::Command::new(runner.program);
    command.arg("validate").arg("--site").arg(site).args(runner.environments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output().with_context(|| format!("cannot start {}", runner.program.display()))?;
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {said}", runner.name, output.status);
    Ok(seconds)
}
