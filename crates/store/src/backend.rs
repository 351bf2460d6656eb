//! The two engines, SQLite and PostgreSQL, behind one kind of connection and one SQL text.

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use crate::StoreError;
use crate::batch::{self, Answers, Statement};

/// Where the database is.
#[derive(Debug, Clone)]
pub enum Place {
    /// An SQLite file. Its folder is made if it is missing; both must be closed to others.
    File(PathBuf),
    /// A PostgreSQL database, by its URL (`postgres://user:password@host/database`).
    Server(SecretString),
}

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// How long a connection is waited for, and a lock of another process.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that read; SQLite has one more that writes, since it has one writer at a time.
const READERS: u32 = 4;
/// A power cut loses no committed transaction (`FULL`), and what is erased is overwritten.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; \
                       PRAGMA busy_timeout = 20000; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";

/// Connections to one database.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) engine: Engine,
    readers: AnyPool,
    writer: Writer,
}

/// Where transactions are made.
#[derive(Debug, Clone)]
enum Writer {
    /// On one connection that is always there, by one at a time. None: it was let go.
    One(Arc<Mutex<Option<AnyConnection>>>),
    /// On one of many.
    Any(AnyPool),
}

/// A transaction. Dropped before it is committed, it is undone.
pub(crate) struct Transaction {
    engine: Engine,
    /// Until it is committed.
    held: Option<Held>,
}

/// A connection that nobody else uses meanwhile.
enum Held {
    One(OwnedMappedMutexGuard<Option<AnyConnection>, AnyConnection>),
    Any(PoolConnection<Any>),
}

impl Backend {
    pub(crate) async fn open(place: &Place) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let pool = AnyPoolOptions::new().acquire_timeout(PATIENCE).min_connections(0);
        match place {
            Place::File(path) => {
                make_private(path)?;
                let options = options(&sqlite_url(path))?;
                // The first connection turns the write-ahead log on, so the writer comes first.
                let mut writer = AnyConnection::connect_with(&options).await?;
                writer.execute(sqlx::raw_sql(PRAGMAS)).await?;
                let readers = pool
                    .max_connections(READERS)
                    // It is in this process: nothing can have happened to it.
                    .test_before_acquire(false)
                    .after_connect(|connection, _| {
                        Box::pin(async move { connection.execute(sqlx::raw_sql(PRAGMAS)).await.map(drop) })
                    })
                    .connect_lazy_with(options);
                let writer = Writer::One(Arc::new(Mutex::new(Some(writer))));
                Ok(Self { engine: Engine::Sqlite, readers, writer })
            }
            Place::Server(url) => {
                let pool = pool.max_connections(2 * READERS);
                let readers = pool.connect_with(options(url.expose_secret())?).await?;
                Ok(Self { engine: Engine::Postgres, writer: Writer::Any(readers.clone()), readers })
            }
        }
    }

    /// Where single statements that read are sent.
    pub(crate) fn reader(&self) -> &AnyPool {
        &self.readers
    }

    /// A transaction that may change things, and what these statements find at its beginning.
    pub(crate) async fn begin(&self, first: Vec<Statement>) -> Result<(Transaction, Answers), StoreError> {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        let mut transaction = Transaction { engine: self.engine, held: Some(self.writer.hold().await?) };
        let batch = std::iter::once(Statement::new(begin)).chain(first).collect();
        let mut answers = transaction.run(batch).await?;
        answers.next();
        Ok((transaction, answers))
    }

    /// Takes what was deleted out of the write-ahead log too. PostgreSQL does so when it vacuums.
    pub(crate) async fn forget_deleted(&self) -> Result<(), StoreError> {
        if self.engine == Engine::Sqlite {
            let mut held = self.writer.hold().await?;
            sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(held.connection()).await?;
        }
        Ok(())
    }

    /// Lets go of all connections.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        match &self.writer {
            Writer::One(one) => {
                if let Some(writer) = one.lock().await.take() {
                    // Nothing is left to do if it fails.
                    drop(writer.close().await);
                }
            }
            Writer::Any(pool) => pool.close().await,
        }
    }
}

impl Writer {
    async fn hold(&self) -> Result<Held, sqlx::Error> {
        match self {
            Self::One(one) => {
                let turn = Arc::clone(one).lock_owned();
                let turn =
                    tokio::time::timeout(PATIENCE, turn).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
                let held =
                    OwnedMutexGuard::try_map(turn, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)?;
                Ok(Held::One(held))
            }
            Self::Any(pool) => Ok(Held::Any(pool.acquire().await?)),
        }
    }
}

impl Held {
    fn connection(&mut self) -> &mut AnyConnection {
        match self {
            Self::One(connection) => connection,
            Self::Any(connection) => connection,
        }
    }
}

impl Transaction {
    /// Runs statements, and says what each one found.
    pub(crate) async fn run(&mut self, batch: Vec<Statement>) -> Result<Answers, sqlx::Error> {
        let engine = self.engine;
        batch::run(engine, self.connection()?, batch).await
    }

    /// The connection that it is made on.
    pub(crate) fn connection(&mut self) -> Result<&mut AnyConnection, sqlx::Error> {
        self.held.as_mut().map(Held::connection).ok_or(sqlx::Error::PoolClosed)
    }

    /// Makes all of it true, after these, or none.
    pub(crate) async fn commit(mut self, last: Vec<Statement>) -> Result<(), StoreError> {
        self.run(last.into_iter().chain([Statement::new("COMMIT")]).collect()).await?;
        self.held = None;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        // Where nothing runs any more, the database undoes it when the connection is gone.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let undone = sqlx::raw_sql("ROLLBACK").execute(held.connection()).await;
            if let (Err(_), Held::Any(connection)) = (undone, &mut held) {
                connection.close_on_drop();
            }
        });
    }
}

fn options(url: &str) -> Result<AnyConnectOptions, StoreError> {
    let options: AnyConnectOptions = url.parse()?;
    Ok(options.disable_statement_logging())
}

/// The path as a URL; whatever a URL might read otherwise is escaped.
fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a `String` can't fail.
            write!(url, "%{byte:02X}").unwrap_or_default();
        }
    }
    url
}

fn make_private(path: &Path) -> Result<(), StoreError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::File { path, source }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        if !folder.exists() {
            DirBuilder::new().mode(0o700).create(folder).map_err(file(folder))?;
        }
        check_private(folder, 0o700)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(file(path))?;
    check_private(path, 0o600)
}

/// Refuses a file or folder that others may use.
pub(crate) fn check_private(path: &Path, wanted: u32) -> Result<(), StoreError> {
    let found = path.metadata().map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Exposed { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_url() {
        assert_eq!(
            sqlite_url(Path::new("/a b/c?mode=memory#%.db")),
            "sqlite:///a%20b/c%3Fmode%3Dmemory%23%25.db"
        );
    }
}
