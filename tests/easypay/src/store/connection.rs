//! One connection to PostgreSQL, and the pool's way to make and check them.
//!
//! A database can go away without a word (its node is gone, its address now leads elsewhere), so nothing here waits for an
//! answer without a limit, and once one pooled connection proves dead all older ones are thrown away unchecked: checking
//! them one by one would cost a waiting payment a second each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, NoTls};

use super::statements::{Statements, takes_writes};
use crate::settings::{Database, Password};

/// For the name look-up, the TCP handshake, the log-in and the preparation of statements together.
const CONNECT: Duration = Duration::from_secs(2);
/// For a pooled connection to show that it still leads to the database.
const CHECK: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no connection to the database within {} s", CONNECT.as_secs())]
    Slow,
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
    config: Config,
    password: Password,
    /// Connections of an older epoch are under suspicion and not used again.
    epoch: AtomicU64,
}

impl Connector {
    pub fn new(database: Database) -> Self {
        let mut config = Config::new();
        config
            .host(&database.host)
            .port(database.port)
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
        Self { config, password: database.password, epoch: AtomicU64::new(0) }
    }

    /// A new connection without prepared statements: these need the schema.
    ///
    /// # Errors
    /// Whatever keeps the database from answering within two seconds.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let mut config = self.config.clone();
        if let Some(password) = self.password.read().map_err(ConnectError::Password)? {
            config.password(password);
        }
        // The limit in `config` covers the TCP handshake alone.
        let connecting = timeout(CONNECT, config.connect(NoTls)).await.map_err(|_| ConnectError::Slow)?;
        let (client, driver) = connecting.map_err(ConnectError::Database)?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = super::chain(&error), "connection to the database ended");
            }
        });
        Ok(client)
    }

    /// Puts all connections made so far under suspicion.
    pub fn suspect_all(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

impl Manager for Connector {
    type Type = Arc<Connection>;
    type Error = ConnectError;

    async fn create(&self) -> Result<Arc<Connection>, ConnectError> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let client = self.connect().await?;
        let statements = timeout(CONNECT, Statements::prepare(&client))
            .await
            .map_err(|_| ConnectError::Slow)?
            .map_err(ConnectError::Database)?;
        Ok(Arc::new(Connection { client, statements, epoch }))
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
