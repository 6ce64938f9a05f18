//! EasyPay: a wallet. Users add money and see their balance, with their payments tried and succeeded.
//!
//! It is the application of the shipped site: small, and real where it matters. An acknowledged payment survives any
//! crash, a repeated one counts once, and a front end leaves without failing a request. `pay` and `verify` are the
//! client that proves this from outside.

mod client;
mod payment;
mod probe;
mod server;
mod settings;
mod store;
#[cfg(test)]
mod testing;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// A wallet whose payments count exactly once.
#[derive(Parser)]
#[command(name = "easypay", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the wallet on port 8080. Settings come from the environment.
    ///
    /// DATABASE_HOST is required: a name, an address, or the folder of a unix socket. A name that cannot be looked up within
    /// a second leads to where it last led. DATABASE_PORT (5432), DATABASE_NAME, DATABASE_USER (easypay),
    /// DATABASE_PASSWORD_FILE or DATABASE_PASSWORD, DATABASE_CONNECTIONS (8), CURRENCY (EUR), LISTEN (0.0.0.0:8080),
    /// PATIENCE (5s: how long a request waits for the database, and how long /ready goes on saying yes while none is
    /// answered, or while requests fail for want of a connection), GRACE (8s: how long to go on serving after SIGTERM),
    /// LOG (info).
    Serve,
    /// Send payments at a fixed rate, each on a new connection, never retried, and write down what became of each.
    ///
    /// Example: easypay pay --url http://10.89.0.11 --rate 20 --for 60s --ledger payments.jsonl
    Pay {
        /// Where EasyPay answers, as `http://HOST` or `http://HOST:PORT`.
        #[arg(long)]
        url: client::http::Target,
        /// Payments a second.
        #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// How long to send: 500ms, 60s, 5m, 1h.
        #[arg(long = "for", value_name = "DURATION", value_parser = settings::duration)]
        length: Duration,
        /// File that receives one JSON line for each payment; an existing one is continued.
        #[arg(long)]
        ledger: PathBuf,
        /// A payment without an answer after this long has failed.
        #[arg(long, default_value = "10s", value_parser = settings::duration)]
        timeout: Duration,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask for a name at a fixed rate until interrupted, and write a JSON line for each second: when it began, how many were
    /// asked, how many had no answer.
    ///
    /// Example: easypay resolve --name database.easypay.svc.cluster.local
    Resolve {
        /// The name, as a program would ask for it.
        #[arg(long)]
        name: String,
        /// Questions a second.
        #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
    },
    /// Read back every payment of a ledger: each acknowledged one must be there exactly once. Exits 0 when all is right,
    /// 1 when something is missing or doubled, 2 when it could not be checked.
    ///
    /// Example: easypay verify --url http://10.89.0.11 --ledger payments.jsonl
    Verify {
        /// Where EasyPay answers, as `http://HOST` or `http://HOST:PORT`.
        #[arg(long)]
        url: client::http::Target,
        /// What `easypay pay` wrote.
        #[arg(long)]
        ledger: PathBuf,
        /// How long to try to read one payment before giving up.
        #[arg(long, default_value = "30s", value_parser = settings::duration)]
        patience: Duration,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(command: Command) -> anyhow::Result<ExitCode> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        match command {
            Command::Serve => {
                let settings = settings::Settings::from_lookup(|name| std::env::var(name).ok())?;
                log_as_json(&settings.log)?;
                server::run(settings).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Pay { url, rate, length, ledger, timeout, json } => {
                let plan = client::pay::Plan { rate, length, timeout };
                let summary = client::pay::run(&url, plan, &ledger).await?;
                if json {
                    println!("{}", serde_json::to_string(&summary)?);
                } else {
                    print!("{summary}");
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::Resolve { name, rate } => {
                client::resolve::run(&name, rate).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Verify { url, ledger, patience, json } => {
                let findings = client::verify::run(&url, &ledger, patience).await?;
                if json {
                    println!("{}", serde_json::to_string(&findings)?);
                } else {
                    print!("{findings}");
                }
                Ok(if findings.right() { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
        }
    });
    // A look-up of a name that nobody waits for any more may hold its thread for half a minute yet.
    runtime.shutdown_background();
    ended
}

fn log_as_json(filter: &str) -> anyhow::Result<()> {
    let filter: Targets = filter.parse().context("LOG is not a log filter such as info")?;
    tracing_subscriber::registry().with(fmt::layer().json().flatten_event(true)).with(filter).init();
    Ok(())
}

/// One connection a payment at high rates needs more than the usual soft limit of 1024. Without the right to raise it the
/// program still works, with errors that say "too many open files".
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
