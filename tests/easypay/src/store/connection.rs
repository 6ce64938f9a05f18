//! One connection to PostgreSQL, and the pool's way to make and check them.
//!
//! A database can go away without a word (its node is gone, its address now leads elsewhere), so nothing here waits for an
//! answer without a limit, and once one pooled connection proves dead all older ones are thrown away unchecked: checking
//! them one by one would cost a waiting payment a second each. The database's name is looked up here and not by the driver,
//! which would wait as long as the system's resolver does, and has nowhere to go when that finds nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, NoTls};

use super::health::Health;
use super::name::{Name, NameError, Resolver};
use super::statements::{Statements, takes_writes};
use crate::settings::{Database, Password};

/// For the name look-up, the TCP handshake and the log-in together, and as long again for the preparation of statements.
const CONNECT: Duration = Duration::from_secs(2);
/// For a pooled connection to show that it still leads to the database.
const CHECK: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the database does not answer in time")]
    Slow,
    #[error("the database's name leads nowhere")]
    Name(#[source] NameError),
    #[error("the password file cannot be read")]
    Password(#[source] std::io::Error),
    #[error("the database refuses")]
    Database(#[source] tokio_postgres::Error),
}

/// A connection with its statements prepared.
pub struct Connection {
    pub client: Client,
    pub statements: Statements,
    epoch: u64,
}

/// Makes and checks connections.
pub struct Connector {
    /// All but where to.
    config: Config,
    host: Host,
    password: Password,
    pub(super) health: Health,
    /// Connections of an older epoch are under suspicion and not used again.
    epoch: AtomicU64,
}

/// Where the database is.
enum Host {
    /// The folder of a unix socket, and the port that is part of its name.
    Folder(String, u16),
    Name(Name),
}

impl Connector {
    /// `resolver` says where the host is; a folder needs none.
    pub fn new(database: Database, resolver: Resolver) -> Self {
        let host = if database.host.starts_with('/') {
            Host::Folder(database.host, database.port)
        } else {
            Host::Name(Name::new(resolver))
        };
        let mut config = Config::new();
        config
            .dbname(&database.name)
            .user(&database.user)
            .application_name("easypay")
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(3))
            // After a failover the old primary may still answer: it takes no payment, and what it shows is out of date.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            // An acknowledged payment is on disk whatever the server's default; and the server forgets a front end that is gone.
            .options(
                "-c statement_timeout=5s -c synchronous_commit=on -c client_connection_check_interval=1s \
                 -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3",
            );
        let (password, epoch) = (database.password, AtomicU64::new(0));
        Self { config, host, password, health: Health::default(), epoch }
    }

    /// A new connection without prepared statements: these need the schema.
    ///
    /// # Errors
    /// Whatever keeps the database from answering within two seconds.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let end = Instant::now() + CONNECT;
        let mut config = self.config.clone();
        if let Some(password) = self.password.read().map_err(ConnectError::Password)? {
            config.password(password);
        }
        match &self.host {
            Host::Folder(folder, port) => log_in(config.host_path(folder).port(*port), CONNECT).await,
            Host::Name(name) => {
                let addresses = name.addresses().await.map_err(ConnectError::Name)?;
                let (client, address) = log_in_at_one(&config, &addresses, end).await?;
                name.led_to(address, addresses);
                Ok(client)
            }
        }
    }

    async fn make(&self) -> Result<Connection, ConnectError> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let client = self.connect().await?;
        let statements = timeout(CONNECT, Statements::prepare(&client))
            .await
            .map_err(|_| ConnectError::Slow)?
            .map_err(ConnectError::Database)?;
        Ok(Connection { client, statements, epoch })
    }

    /// Puts all connections made so far under suspicion.
    pub fn suspect_all(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

/// Logs in at the first address where that can be done. A dead one leaves their share of the time to those after it.
async fn log_in_at_one(
    config: &Config,
    addresses: &[SocketAddr],
    end: Instant,
) -> Result<(Client, SocketAddr), ConnectError> {
    let mut last = ConnectError::Slow;
    for (shares, address) in (1..=addresses.len() as u32).rev().zip(addresses) {
        let mut config = config.clone();
        config.hostaddr(address.ip()).port(address.port());
        match log_in(&config, end.saturating_duration_since(Instant::now()) / shares).await {
            Ok(client) => return Ok((client, *address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn log_in(config: &Config, limit: Duration) -> Result<Client, ConnectError> {
    // The limit in `config` covers the TCP handshake alone.
    let connecting = timeout(limit, config.connect(NoTls)).await.map_err(|_| ConnectError::Slow)?;
    let (client, driver) = connecting.map_err(ConnectError::Database)?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(error = super::chain(&error), "connection to the database ended");
        }
    });
    Ok(client)
}

impl Manager for Connector {
    type Type = Arc<Connection>;
    type Error = ConnectError;

    async fn create(&self) -> Result<Arc<Connection>, ConnectError> {
        let start = Instant::now();
        let made = self.make().await;
        match &made {
            Ok(_) => self.health.connected(),
            Err(_) => self.health.not_connected(start),
        }
        made.map(Arc::new)
    }

    async fn recycle(&self, connection: &mut Arc<Connection>, _: &Metrics) -> RecycleResult<ConnectError> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        if connection.epoch != self.epoch.load(Ordering::Relaxed) {
            return Err(RecycleError::message("under suspicion"));
        }
        match timeout(CHECK, connection.client.simple_query("SHOW transaction_read_only")).await {
            Ok(Ok(messages)) if takes_writes(&messages) => Ok(()),
            Ok(Ok(_)) => {
                self.suspect_all();
                Err(RecycleError::message("read-only"))
            }
            Ok(Err(error)) => Err(RecycleError::Backend(ConnectError::Database(error))),
            Err(_) => {
                self.suspect_all();
                Err(RecycleError::Backend(ConnectError::Slow))
            }
        }
    }
}
