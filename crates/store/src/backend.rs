//! The two engines, SQLite and PostgreSQL, behind one kind of transaction and one SQL text.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use secrecy::{ExposeSecret, SecretString};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgPool, Postgres};
use tokio::runtime::Handle;

use crate::sqlite::{self, Sqlite, Turn, undo};
use crate::statement::{Answers, Row, Statement};
use crate::{StoreError, postgres};

/// Where the database is.
#[derive(Debug, Clone)]
pub enum Place {
    /// An SQLite file. Its folder is made if it is missing; both must be closed to others.
    File(PathBuf),
    /// A PostgreSQL database, by its URL (`postgres://user:password@host/database`).
    Server(SecretString),
}

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most connections to a server.
const CONNECTIONS: u32 = 8;

/// Connections to one database.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(PgPool),
}

/// A transaction. Dropped before it is committed, it is undone.
pub(crate) struct Transaction<'c> {
    /// Until it is committed.
    held: Option<Held<'c>>,
}

/// A connection that nobody else uses meanwhile.
enum Held<'c> {
    /// SQLite's, on the thread that has it.
    Here(&'c mut Connection),
    /// SQLite's, from elsewhere.
    There(Turn),
    Server(PoolConnection<Postgres>),
}

impl Backend {
    pub(crate) async fn open(place: &Place) -> Result<Self, StoreError> {
        match place {
            Place::File(path) => {
                make_private(path)?;
                Ok(Self::Sqlite(Sqlite::open(path)?))
            }
            Place::Server(url) => {
                let options: PgConnectOptions = url.expose_secret().parse()?;
                let pool = PgPoolOptions::new().acquire_timeout(PATIENCE).max_connections(CONNECTIONS);
                Ok(Self::Postgres(pool.connect_with(options.disable_statement_logging()).await?))
            }
        }
    }

    /// What a statement that only reads finds.
    pub(crate) async fn find(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(file) => file.find(statement).await,
            Self::Postgres(pool) => {
                let found = postgres::query(statement).fetch_all(pool).await?;
                found.iter().map(postgres::row).collect()
            }
        }
    }

    /// The row of a key, if there is one.
    pub(crate) async fn look(&self, statement: Statement) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(file) => Ok(file.look(statement).await?.into_iter().next()),
            Self::Postgres(_) => self.find_one(statement).await,
        }
    }

    /// The first row that it finds.
    pub(crate) async fn find_one(&self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.find(statement).await?.into_iter().next())
    }

    /// A transaction that may change things, and what these statements find at its beginning.
    pub(crate) async fn begin(
        &self,
        first: Vec<Statement>,
    ) -> Result<(Transaction<'static>, Answers), StoreError> {
        let (held, begin) = match self {
            Self::Sqlite(file) => {
                let turn = tokio::time::timeout(PATIENCE, file.turn()).await;
                (Held::There(turn.map_err(|_| StoreError::Busy(PATIENCE.as_secs()))??), BEGIN)
            }
            Self::Postgres(pool) => {
                (Held::Server(pool.acquire().await?), "BEGIN ISOLATION LEVEL READ COMMITTED")
            }
        };
        Transaction { held: Some(held) }.begun(begin, first).await
    }

    /// Takes what was deleted out of the write-ahead log too, and says whether that could be done. PostgreSQL does so when it
    /// vacuums.
    pub(crate) async fn forget_deleted(&self) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(file) => file.empty_log().await,
            Self::Postgres(_) => Ok(true),
        }
    }

    /// Lets go of all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// SQLite's: from its beginning, nobody else writes.
const BEGIN: &str = "BEGIN IMMEDIATE";

impl<'c> Transaction<'c> {
    /// The same as [`Backend::begin`] on the thread that has SQLite's connection: nothing is waited for.
    pub(crate) async fn begin_here(
        connection: &'c mut Connection,
        first: Vec<Statement>,
    ) -> Result<(Self, Answers), StoreError> {
        Self { held: Some(Held::Here(connection)) }.begun(BEGIN, first).await
    }

    async fn begun(
        mut self,
        begin: &'static str,
        first: Vec<Statement>,
    ) -> Result<(Self, Answers), StoreError> {
        let mut answers = self.run(std::iter::once(Statement::new(begin)).chain(first).collect()).await?;
        answers.next();
        Ok((self, answers))
    }

    /// Runs statements, and says what each one found.
    pub(crate) async fn run(&mut self, batch: Vec<Statement>) -> Result<Answers, StoreError> {
        match self.held()? {
            Held::Here(connection) => sqlite::run(connection, &batch),
            Held::There(turn) => turn.run(batch).await,
            Held::Server(connection) => postgres::run(connection, batch).await,
        }
    }

    /// Runs the statements of a text, in SQLite's words.
    pub(crate) async fn script(&mut self, text: &str) -> Result<(), StoreError> {
        match self.held()? {
            Held::Here(connection) => Ok(connection.execute_batch(text)?),
            Held::There(turn) => turn.script(text.to_owned()).await,
            Held::Server(connection) => {
                let text = text.replace(" BLOB", " BYTEA");
                connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
                Ok(())
            }
        }
    }

    fn held(&mut self) -> Result<&mut Held<'c>, StoreError> {
        self.held.as_mut().ok_or(StoreError::Closed)
    }

    /// Makes all of it true, after these, or none.
    pub(crate) async fn commit(mut self, last: Vec<Statement>) -> Result<(), StoreError> {
        self.run(last.into_iter().chain([Statement::new("COMMIT")]).collect()).await?;
        self.held = None;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Where it can't be undone, it is over already, or is undone when the connection is gone.
        match self.held.take() {
            None => {}
            Some(Held::Here(connection)) => undo(connection),
            Some(Held::There(turn)) => turn.give(undo),
            Some(Held::Server(mut connection)) => {
                let Ok(runtime) = Handle::try_current() else { return };
                runtime.spawn(async move {
                    if sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.is_err() {
                        connection.close_on_drop();
                    }
                });
            }
        }
    }
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
