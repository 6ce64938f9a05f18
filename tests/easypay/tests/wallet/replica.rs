//! A front end as its own process, and the command line around it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http;
use crate::postgres::{PASSWORD, Postgres};

pub const BINARY: &str = env!("CARGO_BIN_EXE_easypay");

/// A running `easypay serve`. Killed with the value, and with the test process.
pub struct Replica {
    process: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Replica {
    /// Starts one and waits until it listens, not until it is ready.
    pub fn start(postgres: &Postgres) -> Self {
        Self::with(postgres, &[("DATABASE_PASSWORD", PASSWORD)])
    }

    /// As `start`, and waits until it is ready.
    pub async fn ready(postgres: &Postgres) -> Self {
        let replica = Self::start(postgres);
        replica.wait_until(200).await;
        replica
    }

    pub fn with(postgres: &Postgres, settings: &[(&str, &str)]) -> Self {
        let port = postgres.port.to_string();
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "--", BINARY, "serve"])
            .env_clear()
            .env("LISTEN", "127.0.0.1:0")
            .env("DATABASE_HOST", "127.0.0.1")
            .env("DATABASE_PORT", port)
            .env("GRACE", "1s")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().expect("a log line").unwrap();
        let parsed: Value = serde_json::from_str(&first).unwrap_or_else(|_| panic!("no JSON: {first}"));
        let address = parsed["address"].as_str().expect(&first).parse().unwrap();
        let log = Arc::new(Mutex::new(vec![first]));
        let copy = Arc::clone(&log);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| copy.lock().unwrap().push(line)));
        Self { process, address, log }
    }

    /// Waits until `/ready` answers with a status.
    pub async fn wait_until(&self, status: u16) {
        self.answers("/ready", status).await;
    }

    /// Waits until a path answers with a status.
    pub async fn answers(&self, path: &str, status: u16) {
        for _ in 0..400 {
            if http::get(self.address, path).await.status == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{path} is not {status} after 10 s:\n{}", self.log());
    }

    /// Waits until its log holds a text.
    pub async fn says(&self, text: &str) {
        for _ in 0..400 {
            if self.log().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no `{text}` after 10 s:\n{}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for its end: the exit code (none after a signal) and how long it took.
    pub async fn ended(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), start.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still running after 20 s:\n{}", self.log());
    }

    /// The most memory that it ever held.
    pub fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        most.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        // While another assertion fails the log is the best help there is.
        if std::thread::panicking() {
            eprintln!("log of {}:\n{log}", self.address);
            return;
        }
        assert!(!log.contains(PASSWORD), "the password is in the log:\n{log}");
        assert!(!log.contains("\"level\":\"ERROR\""), "an unexpected error:\n{log}");
    }
}

/// Starts `easypay pay`; its summary comes by [`summary`].
pub fn pay(to: SocketAddr, rate: u32, length: &str, ledger: &Path) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig=KILL", "--", BINARY, "pay", "--json"])
        .args(["--url", &format!("http://{to}"), "--rate", &rate.to_string(), "--for", length])
        .arg("--ledger")
        .arg(ledger)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for `easypay pay` without stopping the test's own tasks.
pub async fn summary(pay: Child) -> Value {
    let output = tokio::task::spawn_blocking(move || pay.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `easypay verify`, with little patience.
pub async fn verify(to: SocketAddr, ledger: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["verify", "--patience", "3s", "--url", &format!("http://{to}")]).arg("--ledger").arg(ledger);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Verifies, and expects that all is right.
pub async fn verified(to: SocketAddr, ledger: &Path) {
    let output = verify(to, ledger).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
