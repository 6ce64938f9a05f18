//! The embedded store: one SQLite file on the coordinator's state volume.
//!
//! WAL with full synchronisation: a write that returned survives the loss of power. Several connections, of one process
//! or more, may share the file; compare-and-set is one immediate transaction.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use muster_ids::{Digest, EnvName};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::port::{Store, StoreError, Version};

/// Format of the file, in SQLite's `user_version`.
const FORMAT: u32 = 1;
/// How long a call waits for another connection's transaction.
const BUSY: Duration = Duration::from_secs(10);

/// An open store file.
#[derive(Debug)]
pub struct Sqlite(Mutex<Connection>);

fn backend(error: rusqlite::Error) -> StoreError {
    StoreError::Backend(Box::new(error))
}

impl Sqlite {
    /// Opens the file and makes it where there is none. Its folder must exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::prepare(Connection::open(path).map_err(backend)?)
    }

    /// Opens the file that another process made; nothing where it has not, or not to the end.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(backend)?;
        connection.busy_timeout(BUSY).map_err(backend)?;
        let format: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(backend)?;
        // The tables and their format are made in one transaction: preparing it again makes nothing.
        if format == 0 { Ok(None) } else { Self::prepare(connection).map(Some) }
    }

    fn prepare(mut connection: Connection) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY).map_err(backend)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(backend)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(backend)?;
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(backend)?;
        let found: u32 = change.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(backend)?;
        if found > FORMAT {
            return Err(StoreError::Newer { found, known: FORMAT });
        }
        change
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS root (
                     environment TEXT PRIMARY KEY, version INTEGER NOT NULL, root TEXT NOT NULL
                 ) STRICT;
                 CREATE TABLE IF NOT EXISTS object (
                     digest BLOB PRIMARY KEY, bytes BLOB NOT NULL
                 ) STRICT, WITHOUT ROWID;",
            )
            .map_err(backend)?;
        change.pragma_update(None, "user_version", FORMAT).map_err(backend)?;
        change.commit().map_err(backend)?;
        Ok(Self(Mutex::new(connection)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic interrupted was rolled back when it was dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Sqlite {
    fn root(&self, environment: &EnvName) -> Result<Option<(String, Version)>, StoreError> {
        self.lock()
            .query_row("SELECT root, version FROM root WHERE environment = ?1", [environment.as_str()], |row| {
                Ok((row.get(0)?, Version(row.get::<_, i64>(1)?.to_string())))
            })
            .optional()
            .map_err(backend)
    }

    fn put_root(&self, environment: &EnvName, root: &str, expected: Option<&Version>) -> Result<Version, StoreError> {
        let mut connection = self.lock();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(backend)?;
        let current: Option<i64> = change
            .query_row("SELECT version FROM root WHERE environment = ?1", [environment.as_str()], |row| row.get(0))
            .optional()
            .map_err(backend)?;
        if current.map(|version| version.to_string()).as_ref() != expected.map(|version| &version.0) {
            return Err(StoreError::Conflict);
        }
        let next = current.unwrap_or(0) + 1;
        change
            .execute(
                "INSERT INTO root (environment, version, root) VALUES (?1, ?2, ?3)
                 ON CONFLICT (environment) DO UPDATE SET version = excluded.version, root = excluded.root",
                params![environment.as_str(), next, root],
            )
            .map_err(backend)?;
        change.commit().map_err(backend)?;
        Ok(Version(next.to_string()))
    }

    fn put_object(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.lock()
            .execute(
                "INSERT INTO object (digest, bytes) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING",
                params![digest.as_bytes(), bytes],
            )
            .map_err(backend)?;
        Ok(digest)
    }

    fn object(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let bytes: Vec<u8> = self
            .lock()
            .query_row("SELECT bytes FROM object WHERE digest = ?1", params![digest.as_bytes()], |row| row.get(0))
            .optional()
            .map_err(backend)?
            .ok_or(StoreError::Missing(*digest))?;
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::Damaged(*digest));
        }
        Ok(bytes)
    }
}
