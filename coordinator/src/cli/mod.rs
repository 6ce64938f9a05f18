//! The command `muster`: arguments in, one call to the coordinator or to this machine's Docker, text or JSON out.

mod advice;
mod args;
mod change;
mod complete;
mod connect;
mod coordinator;
mod follow;
mod left;
mod look;
mod operator;
mod program;
mod progress;
mod remembered;
mod render;
mod revoke;
mod site;
mod up;
mod validate;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use args::{Cli, Command, Global};

/// How a command ended: its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Good,
    Error,
    /// A plan found changes.
    Changes,
    /// The plan to apply was overtaken.
    Stale,
    /// Somebody interrupted a wait; what it was for goes on.
    Interrupted,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> ExitCode {
        match ended {
            Ended::Good => ExitCode::SUCCESS,
            Ended::Error => ExitCode::from(1),
            Ended::Changes => ExitCode::from(2),
            Ended::Stale => ExitCode::from(3),
            // As shells have it of what SIGINT ended.
            Ended::Interrupted => ExitCode::from(130),
        }
    }
}

/// The whole command.
pub fn main() -> ExitCode {
    complete::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return asked(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let global = cli.global.clone();
    let json = global.json;
    match runtime.block_on(run(cli)) {
        Ok(ended) => ended.into(),
        Err(error) => {
            let ended = if error.is::<Interrupted>() { Ended::Interrupted } else { Ended::Error };
            render::Wrong::of(&advised(&global, error)).print(json);
            ended.into()
        }
    }
}

/// Help and version are what was asked for; a wrong command line is an error like others, not clap's 2, which here says
/// that a plan found changes.
fn asked(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody reads it: then there is nobody to tell so.
        let _ = error.print();
        return Ended::Good.into();
    }
    // The line was not understood, so that what it asks for is looked up word by word.
    if std::env::args_os().any(|word| word == "--json") {
        render::Wrong::usage(error).print(true);
    } else {
        let _ = error.print();
    }
    Ended::Error.into()
}

async fn run(cli: Cli) -> anyhow::Result<Ended> {
    let global = &cli.global;
    match cli.command {
        Command::Init { dir } => {
            let files = site::init(&dir)?;
            let text = format!("{files} files in {0}. Next: {1} validate --site {0}", dir.display(), program::typed());
            render::tell(global.json, &json!({ "site": dir, "files": files }), text)?;
            Ok(Ended::Good)
        }
        Command::Validate => validate::validate(global),
        Command::Up(args) => up::up(global, &args).await,
        Command::Plan { wait } => change::plan(global, wait).await,
        Command::Apply(args) => change::apply(global, &args).await,
        Command::Status { watch } => look::status(global, watch).await,
        Command::Nodes => look::nodes(global).await,
        Command::Node { command } => look::node(global, command).await,
        Command::Operator { command } => operator::run(global, command).await,
        Command::Events { follow, after } => look::events(global, follow, after).await,
        Command::Kubeconfig { output, viewer } => look::kubeconfig(global, output.as_deref(), viewer).await,
        Command::Down { unprotect } => up::down(global, unprotect).await,
        Command::Coordinator { command } => coordinator::run(global, command).await,
        Command::Completion { shell } => {
            render::put(complete::script(shell)?);
            Ok(Ended::Good)
        }
    }
}

/// A wait was interrupted.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: nothing is waited for any more, and the coordinator and the nodes go on with what was applied")]
struct Interrupted;

/// The connection to the coordinator could not be made, or broke.
#[derive(Debug, thiserror::Error)]
#[error("the connection failed")]
struct Away;

/// The error with the way out, where that needs the site's names: only a coordinator that went away, and a wait that was
/// interrupted, say none by themselves.
fn advised(global: &Global, error: anyhow::Error) -> anyhow::Error {
    let (away, interrupted) = (error.is::<Away>(), error.is::<Interrupted>());
    match site::scope(global).filter(|_| away || interrupted) {
        Some(scope) if away => advice::Advice::new(global, &scope).away(error),
        Some(scope) => {
            let (muster, flags) = (program::typed(), advice::Advice::new(global, &scope).flags);
            anyhow::anyhow!("{Interrupted}\n  help: look at it again: {muster} status --watch {flags}")
        }
        None => error,
    }
}

/// What the coordinator answered, in words.
fn failure(status: tonic::Status) -> anyhow::Error {
    // What came over the wire has no source: that was the connection's.
    match std::error::Error::source(&status) {
        Some(source) => {
            tracing::debug!(error = source, "the connection to the coordinator failed");
            Away.into()
        }
        None => anyhow::anyhow!("{}", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_told_from_a_refusal() {
        let mut broken = tonic::Status::unknown("h2 protocol error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("reset by peer")));
        assert!(failure(broken).is::<Away>());
        let refused = failure(tonic::Status::unavailable("the store is busy; try again"));
        assert!(!refused.is::<Away>() && refused.to_string().contains("busy"));
    }
}
