//! A private PostgreSQL in a temporary folder, on a loopback port.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

pub const PASSWORD: &str = "correct-horse-7391";
const BINARIES: &str = "/usr/lib/postgresql/15/bin";

/// A server. Ends with the value, and with the test process however that ends.
pub struct Postgres {
    folder: TempDir,
    pub port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// A running server with an empty database `easypay`.
    pub async fn start() -> Self {
        let mut postgres = Self::prepare();
        postgres.up().await;
        postgres
    }

    /// A server that is not running yet.
    pub fn prepare() -> Self {
        let initdb = Path::new(BINARIES).join("initdb");
        assert!(
            initdb.exists(),
            "{} is missing; install it: apt-get install --no-install-recommends postgresql-15",
            initdb.display()
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        std::fs::set_permissions(folder.path().join("password"), Permissions::from_mode(0o644)).unwrap();
        if geteuid().is_root() {
            let (user, group) = (id("-u"), id("-g"));
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let data = folder.path().join("data");
        let made = as_postgres("initdb")
            .arg("--pgdata")
            .arg(&data)
            .args(["--username=easypay", "--auth=scram-sha-256", "--no-sync", "--no-locale", "--encoding=UTF8"])
            .arg("--pwfile")
            .arg(folder.path().join("password"))
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port, server: None }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the server, and makes the database where it is not there.
    pub async fn up(&mut self) {
        assert!(self.server.is_none());
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let server = as_postgres("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "unix_socket_directories="])
            // Only processes end here, never the kernel: what was written is there, and no disk's speed counts.
            .args(["-c", "fsync=off"])
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.server = Some(server);
        let admin = self.connect("postgres").await;
        let there = admin.query("SELECT 1 FROM pg_database WHERE datname = 'easypay'", &[]).await.unwrap();
        if there.is_empty() {
            admin.batch_execute("CREATE DATABASE easypay").await.unwrap();
        }
    }

    /// Ends the server by a signal: INT is a fast shutdown, QUIT an immediate one that needs recovery, as a crash does.
    pub fn down(&mut self, signal: Signal) {
        let mut server = self.server.take().unwrap();
        kill_process(Pid::from_child(&server), signal).unwrap();
        server.wait().unwrap();
    }

    /// Sends a signal to the server and all its processes.
    pub fn signal_all(&self, signal: Signal) {
        let server = self.server.as_ref().unwrap().id();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap());
        for pid in children.chain([server as i32]) {
            // A child may have ended in the meantime.
            let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }

    /// A session on the database easypay, around the front end.
    pub async fn sql(&self) -> Client {
        self.connect("easypay").await
    }

    /// One number from the database.
    pub async fn number(&self, question: &str) -> i64 {
        self.sql().await.query_one(question, &[]).await.unwrap().get(0)
    }

    async fn connect(&self, database: &str) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("easypay").password(PASSWORD).dbname(database);
        for _ in 0..400 {
            if let Ok((client, connection)) = config.connect(NoTls).await {
                tokio::spawn(connection);
                return client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("PostgreSQL does not answer on port {}:\n{log}", self.port);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill_process(Pid::from_child(&server), Signal::CONT);
            let _ = kill_process(Pid::from_child(&server), Signal::QUIT);
            let _ = server.wait();
        }
    }
}

/// Debian's PostgreSQL refuses to run as root.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig=QUIT", "--"]).arg(Path::new(BINARIES).join(program)).current_dir("/");
    command
}

fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, "postgres"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("user postgres, which the package makes")
}
