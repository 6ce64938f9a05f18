//! A converge with nothing to do, as a whole process: program start, reading what should be, looking at every file, ending.
//!
//! The raw calls (`tests/bench/raw.rs`) are the floor: the same files opened, looked at and read. All take turns, round by
//! round. Before it is timed, muster proves that it reads: a byte is changed with size and time of change kept, and must be
//! put back. muster remembers a text that nobody edits (`docs/converge.md`); what it takes where it must read the text is a row of its own.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Bench,
    peers::{PEERS, Setting, content},
    table::{self, Figures},
};
use crate::command::Cmd;

const COUNTS: [usize; 2] = [1_000, 10_000];
/// A text that was as it is for so long is remembered.
const SETTLED: Duration = Duration::from_secs(12);
/// Bytes of a file, mode and owner written; the peers are asked once, for [`content`] alone.
const SIZES: [usize; 3] = [100, 1024, 16 * 1024];

/// What the files hold.
#[derive(Clone, Copy)]
enum Subject {
    /// What the peers are asked for, too: content alone.
    Plain,
    /// So many bytes, and mode and owner.
    Whole(usize),
}

impl Subject {
    fn content(self, number: usize) -> String {
        let Self::Whole(size) = self else { return content(number) };
        let mut text: String = (0..)
            .map(|line| format!("setting_{line} = value {number} of a line\n"))
            .scan(0, |length, line| {
                let goes_on = *length < size;
                *length += line.len();
                goes_on.then_some(line)
            })
            .collect();
        text.truncate(size - 1);
        text + "\n"
    }

    fn keys(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Whole(_) => "mode = \"0644\"\nowner = \"root\"\n",
        }
    }

    fn said(self) -> String {
        match self {
            Self::Plain => "255 bytes".to_owned(),
            Self::Whole(size) => format!("{size} bytes, mode and owner written"),
        }
    }
}

/// One who takes part, with its command.
struct Runner {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    /// Times this is what the full number of files would take.
    scale: f64,
    /// Fewer where one run takes long.
    rounds: usize,
    /// Is as if edited before each run.
    edited: Option<PathBuf>,
    figures: Figures,
}

pub fn run(bench: &Bench) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let raw = folder.path().join("raw");
    let source = bench.checkout.join("tests/bench/raw.rs");
    Cmd::new("rustc").args(["--edition", "2024", "-C", "opt-level=3", "-o"]).arg(&raw).arg(source).output()?;
    let subjects = [Subject::Plain].into_iter().chain(SIZES.map(Subject::Whole));
    for (subject, count) in subjects.flat_map(|subject| COUNTS.map(|count| (subject, count))) {
        let folder = folder.path().join(count.to_string());
        // The agent remembers nothing where everybody may put names.
        let kept = tempfile::tempdir_in(bench.cache.root())?;
        let mut runners = prepare(bench, &raw, &folder, kept.path(), subject, count)?;
        bench.progress.stage(&format!("no-op converge of {count} files of {}", subject.said()), || {
            let most = runners.iter().map(|runner| runner.rounds).max().unwrap_or_default();
            for round in 0..most {
                for runner in runners.iter_mut().filter(|runner| round < runner.rounds) {
                    let seconds = time(runner)?;
                    runner.figures.add(seconds * runner.scale * 1000.0);
                }
            }
            Ok(())
        })?;
        print(bench, subject, count, &runners);
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn prepare(
    bench: &Bench,
    raw: &Path,
    folder: &Path,
    kept: &Path,
    subject: Subject,
    count: usize,
) -> Result<Vec<Runner>> {
    let files = folder.join("files");
    fs::create_dir_all(&files)?;
    for number in 0..count {
        fs::write(files.join(number.to_string()), subject.content(number))?;
    }
    let fast = bench.rounds.max(3) * 4;
    let mut runners = vec![Runner {
        name: "raw system calls".to_owned(),
        program: raw.to_owned(),
        arguments: vec![files.display().to_string(), count.to_string()],
        scale: 1.0,
        rounds: fast,
        edited: None,
        figures: Figures::default(),
    }];
    let mine = |name: &str, text: &str| -> Result<Runner> {
        let (written, state) = (kept.join(format!("{text}.toml")), kept.join(format!("{text}.json")));
        fs::write(&written, muster(&files, subject, count))?;
        let arguments = [OsStr::new("apply"), written.as_os_str(), OsStr::new("--state"), state.as_os_str()];
        Ok(Runner {
            name: name.to_owned(),
            program: bench.built.programs.agent.clone(),
            arguments: arguments.map(|argument| argument.to_string_lossy().into_owned()).into(),
            scale: 1.0,
            rounds: fast,
            edited: None,
            figures: Figures::default(),
        })
    };
    let muster = mine("muster", "files")?;
    // By the second run from now on it remembers a text that nobody edits.
    std::thread::sleep(SETTLED);
    proves_that_it_reads(&muster, &files)?;
    runners.push(muster);
    let edited = mine("muster, its text just edited", "edited")?;
    proves_that_it_reads(&edited, &files)?;
    runners.push(Runner { edited: Some(kept.join("edited.toml")), ..edited });
    let peers = if matches!(subject, Subject::Plain) { PEERS } else { &[] };
    for peer in peers {
        let Some(program) = peer.program(bench.cache.root()) else { continue };
        let asked = peer.most.unwrap_or(count).min(count);
        let scratch = folder.join(peer.name);
        fs::create_dir_all(&scratch)?;
        let arguments = peer.prepare(&Setting { files: &files, count: asked, scratch: &scratch })?;
        let name = if asked < count { format!("{} ({asked} files, scaled)", peer.name) } else { peer.name.to_owned() };
        let mut runner = Runner {
            name,
            program,
            arguments,
            scale: count as f64 / asked as f64,
            rounds: 1,
            edited: None,
            figures: Figures::default(),
        };
        // Once untimed, for what it makes at its first run; a slow one has fewer rounds.
        let seconds = bench.progress.stage(&format!("{} for the first time", peer.name), || time(&runner))?;
        runner.rounds = if seconds > 20.0 { 1 } else { bench.rounds.max(3) };
        runners.push(runner);
    }
    Ok(runners)
}

fn muster(files: &Path, subject: Subject, count: usize) -> String {
    let one = |number| {
        let (content, keys) = (subject.content(number), subject.keys());
        format!("[[file]]\npath = \"{}/{number}\"\ncontent = {content:?}\n{keys}\n", files.display())
    };
    (0..count).map(one).collect()
}

/// A byte is changed, and neither the size nor the time tells: the next converge puts it back, and the one after has nothing to do.
fn proves_that_it_reads(muster: &Runner, files: &Path) -> Result<()> {
    let run = || -> Result<Option<i32>> { Ok(command(muster).status()?.code()) };
    ensure!(run()? == Some(0), "the first converge had something to do");
    let path = files.join("7");
    let modified = fs::metadata(&path)?.modified()?;
    let right = fs::read(&path)?;
    let mut wrong = right.clone();
    wrong[3] ^= 1;
    fs::write(&path, wrong)?;
    File::options().write(true).open(&path)?.set_times(FileTimes::new().set_modified(modified))?;
    ensure!(run()? == Some(2), "a changed byte was not seen");
    ensure!(fs::read(&path)? == right, "a changed byte was not put back");
    ensure!(run()? == Some(0), "a converge after the repair had something to do");
    Ok(())
}

fn command(runner: &Runner) -> Command {
    let mut command = Command::new(&runner.program);
    command.args(&runner.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Seconds of one whole process.
fn time(runner: &Runner) -> Result<f64> {
    if let Some(edited) = &runner.edited {
        File::options().write(true).open(edited)?.set_modified(SystemTime::now())?;
    }
    let began = Instant::now();
    let output = command(runner).output().with_context(|| format!("cannot start {}", runner.program.display()))?;
    let seconds = began.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{} ended with {}: {}", runner.name, output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(seconds)
}

fn print(bench: &Bench, subject: Subject, count: usize, runners: &[Runner]) {
    let raw = &runners[0].figures;
    let muster = &runners[1].figures;
    let mut rows: Vec<_> = runners
        .iter()
        .map(|runner| {
            let figures = &runner.figures;
            vec![runner.name.clone(), figures.shown(1), table::ratio(figures, raw), table::ratio(figures, muster)]
        })
        .collect();
    let asked = PEERS.iter().filter(|_| matches!(subject, Subject::Plain));
    let absent = asked.filter(|peer| peer.program(bench.cache.root()).is_none());
    rows.extend(absent.map(|peer| vec![peer.name.to_owned(), "absent".to_owned(), "-".to_owned(), "-".to_owned()]));
    let said = subject.said();
    println!("\nno-op converge of {count} files of {said}, whole process: ms, median (least to most)\n");
    println!("{}", table::table(&["", "ms", "of the raw calls", "of muster"], &rows));
}
