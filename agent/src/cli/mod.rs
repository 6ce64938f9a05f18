//! The agent's command line.

mod show;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};
use muster_catalog::Catalog;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    Scope, app,
    converge::{Engine, Options},
    dry, facts, install,
    ports::Files,
    standalone::{
        self, Loaded, StandaloneError,
        remembered::{self, Inputs},
    },
};

/// Keeps a node as its catalog says.
#[derive(Parser)]
#[command(name = "muster-agent", version, about, max_term_width = 110)]
#[command(
    after_help = "Examples:\n  muster-agent plan web.toml       what would change, from one file\n  muster-agent apply web.toml      make it so\n  muster-agent run                 the daemon, as systemd starts it\n\nA wrong command line ends with 1."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Converges the resources of one file, without a coordinator.
    ///
    /// Ends with 0 where nothing had to change, 2 where something was changed, 4 where something failed, 6 for both, 1 for an error before it began.
    #[command(
        after_help = "Example:\n  muster-agent apply web.toml\n\n  # web.toml\n  [[package]]\n  name = \"nginx-light\"\n\n  [[file]]\n  path = \"/etc/motd\"\n  content = \"Kept by muster.\\n\""
    )]
    Apply {
        /// A file of resources as in a role, or a compiled catalog.
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Shows what `apply` would change, without a way to write.
    ///
    /// Ends with 0 where nothing would change, 2 where something would, 1 for an error.
    #[command(after_help = "Example:\n  muster-agent plan web.toml --json")]
    Plan {
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// The daemon: converges what the coordinator says, and what was changed by hand.
    #[command(after_help = "Example:\n  systemctl start muster-agent")]
    Run(RunArguments),
    /// Installs this binary as a service, and starts it.
    #[command(after_help = "Example:\n  ./muster-agent install")]
    Install {
        /// Enables it without starting it.
        #[arg(long)]
        no_start: bool,
    },
    /// Prints what this node reports of itself, as JSON.
    #[command(after_help = "Example:\n  muster-agent facts | jq .memory")]
    Facts,
    /// Prints a completion script for a shell.
    #[command(after_help = "Example:\n  muster-agent completion bash > /etc/bash_completion.d/muster-agent")]
    Completion { shell: clap_complete::Shell },
}

#[derive(clap::Args)]
struct Common {
    /// Prints one JSON document.
    #[arg(long)]
    json: bool,
    /// What is remembered between runs: pending restarts, what was right.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/muster-agent/apply.json")]
    state: String,
}

#[derive(clap::Args)]
struct RunArguments {}

/// Logs to standard error what `MUSTER_LOG` asks for, such as `warn,muster_agent=debug`.
fn log() {
    // kube's client logs a refused connection as an error by itself; who called it knows better.
    let usual = Targets::new().with_default(Level::WARN).with_target("kube_client", LevelFilter::OFF);
    let (targets, wrong) = match std::env::var("MUSTER_LOG").map(|asked| asked.parse()) {
        Ok(Ok(asked)) => (asked, None),
        Ok(Err(error)) => (usual, Some(error)),
        Err(_) => (usual, None),
    };
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(layer).with(targets).init();
    if let Some(error) = wrong {
        tracing::warn!(%error, "MUSTER_LOG is not used: it is written like warn,muster_agent=debug");
    }
}

/// Everything but the exit status of a process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody reads it: then there is nobody to tell so.
            let _ = error.print();
            return ExitCode::from(refused(&error));
        }
    };
    log();
    // Folders on the way to a file are for all to enter, whoever's shell this was started from.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref() {
                // Diagnostics come with heads of their own.
                Some(StandaloneError::Wrong(diagnostics)) => eprintln!("{diagnostics}"),
                Some(StandaloneError::Read { .. } | StandaloneError::Catalog { .. }) | None => {
                    eprintln!("error: {error:#}")
                }
            }
            ExitCode::from(1)
        }
    }
}

/// Help and version are what was asked for. Else 1: clap's own 2 says here that something was changed, or would be.
fn refused(error: &clap::Error) -> u8 {
    u8::from(error.use_stderr())
}

/// Two workers: a node's cores belong to what runs on it.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Apply { file, common } => apply(&file, &common),
        Command::Plan { file, common } => plan(&file, &common),
        Command::Run(_arguments) => {
            runtime()?.block_on(crate::service::run())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Install { no_start } => {
            let ctx = app::context(app::Coordinator::none(), no_scope()?);
            let did = runtime()?.block_on(install::install(&ctx, !no_start))?;
            for line in did {
                println!("{line}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Facts => {
            println!("{}", serde_json::to_string_pretty(&facts::collect())?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "muster-agent", &mut script);
            // Nobody reads it: then there is nobody to tell so.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn no_scope() -> anyhow::Result<Scope> {
    Ok(Scope {
        cluster: "local".parse()?,
        environment: "local".parse()?,
        node: "this-node".parse()?,
        generation: muster_ids::Generation::default(),
        owned: Default::default(),
        keys: Default::default(),
        groups: Default::default(),
        objects: Vec::new(),
    })
}

/// One file and who makes it so.
struct Alone {
    catalog: Arc<Catalog>,
    engine: Arc<Engine>,
    files: Arc<dyn Files>,
    /// As in [`Loaded`].
    read: Option<Inputs>,
    remembered: bool,
}

fn alone(file: &Path, common: &Common) -> anyhow::Result<Alone> {
    let loaded = standalone::load(file, &facts::collect(), &remembered::beside(common.state.as_ref()))?;
    let Loaded { catalog, read, remembered } = loaded;
    let catalog = Arc::new(catalog);
    let ctx = app::context(app::Coordinator::none(), Scope::of(&catalog));
    let files = Arc::clone(&ctx.files);
    let engine = app::engine(ctx, &common.state).context("what is remembered between runs cannot be read")?;
    Ok(Alone { catalog, engine, files, read, remembered })
}

fn apply(file: &Path, common: &Common) -> anyhow::Result<ExitCode> {
    let memory = remembered::beside(common.state.as_ref());
    let Alone { catalog, engine, files, read, remembered } =
        alone(file, common).inspect_err(|_| remembered::forget(&memory))?;
    let began = std::time::Instant::now();
    let runtime = runtime()?;
    let options = Options { woken_by: "apply".to_owned(), ..Options::default() };
    let report = runtime.block_on(engine.converge(&catalog, &options))?;
    let mut out = std::io::stdout().lock();
    if common.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", show::report(&report, began.elapsed()))?;
    }
    out.flush()?;
    match read {
        Some(read) => remembered::remember(&*files, &memory, &read, &catalog),
        None if remembered => {}
        None => remembered::forget(&memory),
    }
    // The process ends: giving ten thousand resources back one by one would be a tenth of a converge that changes nothing.
    runtime.shutdown_background();
    std::mem::forget((catalog, engine));
    Ok(ExitCode::from(show::exit_status(&report)))
}

fn plan(file: &Path, common: &Common) -> anyhow::Result<ExitCode> {
    let Alone { catalog, engine, .. } = alone(file, common)?;
    let rows = runtime()?.block_on(dry::plan(engine, catalog))?;
    let mut out = std::io::stdout().lock();
    if common.json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", show::rows(&rows))?;
    }
    Ok(ExitCode::from(if rows.is_empty() { 0 } else { 2 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_no_change() {
        let ends = |line: &[&str]| Cli::try_parse_from(line).map(|_| ()).map_err(|error| refused(&error));
        assert_eq!(ends(&["muster-agent", "plan", "--nosuch", "web.toml"]), Err(1));
        assert_eq!(ends(&["muster-agent"]), Err(1));
        assert_eq!(ends(&["muster-agent", "--help"]), Err(0));
        assert_eq!(ends(&["muster-agent", "--version"]), Err(0));
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example:"), "{}: {help}", command.get_name());
        }
    }
}
