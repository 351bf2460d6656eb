//! SQLite: a thread that writes, and connections that read. Going to another thread and back costs more than most statements
//! do, so whoever writes much has its work done there as a whole.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use tokio::sync::{Mutex as Turns, OwnedMappedMutexGuard, OwnedMutexGuard, Semaphore, oneshot};

use crate::StoreError;
use crate::statement::{Answer, Answers, Argument, Row, Statement, Value};

/// How long a connection is waited for that reads, and a lock of another process.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that read; one more writes, since there is one writer at a time.
const READERS: usize = 4;
/// How often the log is tried to be emptied, and how long others may use it in between.
const TRIES: usize = 50;
const BETWEEN: Duration = Duration::from_millis(100);
/// Statements that stay prepared.
const PREPARED: usize = 64;
/// A power cut loses no committed transaction (`FULL`), and what is erased is overwritten. What is in the write-ahead log goes to
/// its place when that has 16 MB: one commit in some hundreds waits for it.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 4000; PRAGMA synchronous = FULL; \
                       PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";
const ONLY_READS: &str = "PRAGMA query_only = ON;";

/// The connections to one file.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    /// None: it was closed.
    writer: Arc<Turns<Option<Thread>>>,
    readers: Arc<Readers>,
}

/// What the thread does next.
type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread with a connection of its own, which does what it is sent, in that order, and ends when nothing more can come. What
/// panics ends alone, and is undone.
#[derive(Debug)]
struct Thread {
    work: mpsc::Sender<Work>,
    handle: JoinHandle<()>,
}

/// The right to write, which nobody else has meanwhile.
pub(crate) struct Turn(OwnedMappedMutexGuard<Option<Thread>, Thread>);

#[derive(Debug)]
struct Readers {
    path: Arc<Path>,
    /// Closed when the file is.
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Opens the file, which is there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = |source| StoreError::File { path: path.to_owned(), source };
        // A name such as `:memory:` would mean something else.
        let path: Arc<Path> = std::path::absolute(path).map_err(file)?.into();
        let mut connection = connect(&path)?;
        // What was to be forgotten, and could not be then.
        empty_log(&mut connection)?;
        let writer = Arc::new(Turns::new(Some(Thread::start(connection).map_err(file)?)));
        let turns = Arc::new(Semaphore::new(READERS));
        let readers = Arc::new(Readers { path: Arc::clone(&path), turns, idle: Mutex::default() });
        Ok(Self { writer, readers })
    }

    /// Waits for the right to write, however long others have it.
    pub(crate) async fn turn(&self) -> Result<Turn, StoreError> {
        Turn::taken(Arc::clone(&self.writer).lock_owned().await)
    }

    /// The right to write, if nobody has it.
    pub(crate) fn turn_now(&self) -> Option<Turn> {
        Turn::taken(Arc::clone(&self.writer).try_lock_owned().ok()?).ok()
    }

    /// What a statement that only reads finds.
    pub(crate) async fn find(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let readers = Arc::clone(&self.readers);
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&readers.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| StoreError::Busy(PATIENCE.as_secs()))?.map_err(|_| StoreError::Closed)?;
        let found = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            readers.find(&statement)
        });
        found.await.map_err(|_| StoreError::Closed)?
    }

    /// What a statement finds that reads a row or two by their key: read here and now, since another thread would cost more.
    /// Where that fails, since it would have to wait for instance, it is read as any other.
    pub(crate) async fn look(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self.readers.find_now(&statement) {
            Some(found) => Ok(found),
            None => self.find(statement).await,
        }
    }

    /// Puts all of the write-ahead log in its place, and overwrites it. Says whether that could be done: not while others read
    /// what is in it.
    pub(crate) async fn empty_log(&self) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            if self.turn().await?.ask(empty_log).await? {
                return Ok(true);
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Ok(false)
    }

    /// Lets go of the file.
    pub(crate) async fn close(&self) {
        // Whoever reads has let go by then, or takes too long.
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        drop(tokio::time::timeout(PATIENCE, self.readers.turns.acquire_many(all)).await);
        self.readers.close();
        if let Some(Thread { work, handle }) = self.writer.lock().await.take() {
            drop(work);
            // What it had begun is done when it has ended, however it ended.
            drop(tokio::task::spawn_blocking(move || handle.join()).await);
        }
    }
}

impl Thread {
    fn start(mut connection: Connection) -> Result<Self, std::io::Error> {
        let (work, todo) = mpsc::channel::<Work>();
        let write = move || {
            for work in todo {
                // Whoever waits for it hears that it ended: what it would have told them with is gone.
                if catch_unwind(AssertUnwindSafe(|| work(&mut connection))).is_err() {
                    undo(&mut connection);
                }
            }
        };
        let handle = std::thread::Builder::new().name("ledger".to_owned()).spawn(write)?;
        Ok(Self { work, handle })
    }
}

impl Turn {
    fn taken(turn: OwnedMutexGuard<Option<Thread>>) -> Result<Self, StoreError> {
        OwnedMutexGuard::try_map(turn, Option::as_mut).map(Turn).map_err(|_| StoreError::Closed)
    }

    /// Has this done by the thread, which has the turn until it is.
    pub(crate) fn give(self, work: impl FnOnce(&mut Connection) + Send + 'static) {
        let sender = self.0.work.clone();
        let work: Work = Box::new(move |connection| {
            work(connection);
            drop(self);
        });
        // It is there as long as anybody can have a turn.
        drop(sender.send(work));
    }

    /// Has these run by the thread.
    pub(crate) async fn run(&self, batch: Vec<Statement>) -> Result<Answers, StoreError> {
        self.ask(move |connection| run(connection, &batch)).await
    }

    /// Has the statements of this text run by the thread.
    pub(crate) async fn script(&self, text: String) -> Result<(), StoreError> {
        self.ask(move |connection| Ok(connection.execute_batch(&text)?)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| drop(done.send(work(connection))));
        self.0.work.send(work).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Readers {
    /// None: it can't be done, or not without waiting.
    fn find_now(&self, statement: &Statement) -> Option<Vec<Row>> {
        let _turn = self.turns.try_acquire().ok()?;
        let connection = self.idle().pop()?;
        connection.busy_timeout(Duration::ZERO).ok()?;
        let answer = answer(&connection, statement).ok()?;
        connection.busy_timeout(PATIENCE).ok()?;
        self.put_back(connection);
        Some(answer.rows)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle();
        if !self.turns.is_closed() {
            idle.push(connection);
        }
    }

    fn close(&self) {
        let mut idle = self.idle();
        self.turns.close();
        idle.clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, statement: &Statement) -> Result<Vec<Row>, StoreError> {
        let idle = self.idle().pop();
        let connection = idle.map_or_else(|| reading(&self.path), Ok)?;
        let answer = answer(&connection, statement)?;
        self.put_back(connection);
        Ok(answer.rows)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch(PRAGMAS)?;
    Ok(connection)
}

fn reading(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    connection.execute_batch(ONLY_READS)?;
    Ok(connection)
}

/// Undoes what was begun, if anything was.
pub(crate) fn undo(connection: &mut Connection) {
    if !connection.is_autocommit() {
        drop(connection.execute_batch("ROLLBACK"));
    }
}

/// Tries to once, without waiting for whoever reads.
fn empty_log(connection: &mut Connection) -> Result<bool, StoreError> {
    connection.busy_timeout(Duration::ZERO)?;
    let tried = answer(connection, &Statement::new("PRAGMA wal_checkpoint(TRUNCATE)"));
    connection.busy_timeout(PATIENCE)?;
    Ok(tried?.first().is_some_and(|row| matches!(row.number("busy"), Ok(0))))
}

/// Runs them one after the other; the first that fails ends it.
pub(crate) fn run(connection: &Connection, batch: &[Statement]) -> Result<Answers, StoreError> {
    let answers: Result<Vec<Answer>, rusqlite::Error> =
        batch.iter().map(|statement| answer(connection, statement)).collect();
    Ok(answers?.into_iter())
}

fn answer(connection: &Connection, statement: &Statement) -> Result<Answer, rusqlite::Error> {
    let mut prepared = connection.prepare_cached(statement.text)?;
    for index in 1..=prepared.parameter_count() {
        // It numbers them by their first place in the text.
        let number = prepared.parameter_name(index).and_then(|name| name.strip_prefix('$')?.parse().ok());
        let argument = number.and_then(|number: usize| statement.arguments.get(number.checked_sub(1)?));
        let argument = argument.ok_or(rusqlite::Error::InvalidParameterCount(index, 0))?;
        prepared.raw_bind_parameter(index, argument)?;
    }
    let mut found = prepared.raw_query();
    let mut columns: Option<Arc<[String]>> = None;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        // Known from its first step on: a table may have another column since it was prepared.
        let names = || row.as_ref().column_names().into_iter().map(str::to_owned).collect();
        let columns = columns.get_or_insert_with(names);
        let values = (0..columns.len()).map(|at| row.get_ref(at).map(Value::from));
        rows.push(Row { columns: Arc::clone(columns), values: values.collect::<Result<_, _>>()? });
    }
    Ok(Answer { rows, changed: connection.changes() })
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Text(text) => {
                std::str::from_utf8(text).map_or(Self::Other, |text| Self::Text(text.to_owned()))
            }
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
            ValueRef::Real(_) => Self::Other,
        }
    }
}

impl ToSql for Argument {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        let value = match self {
            Self::Number(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Number(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str) -> Sqlite {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap();
        Sqlite::open(&path).unwrap()
    }

    async fn write(file: &Sqlite, text: &'static str) {
        file.turn().await.unwrap().run(vec![Statement::new(text)]).await.unwrap();
    }

    async fn number(file: &Sqlite) -> i64 {
        file.look(Statement::new("SELECT x FROM t")).await.unwrap()[0].number("x").unwrap()
    }

    #[tokio::test]
    async fn a_path_means_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a b?mode=memory#%.db", ":memory:", "file:x"] {
            let file = file(&folder, name);
            write(&file, "CREATE TABLE t (x BIGINT)").await;
            file.close().await;
            assert!(folder.path().join(name).metadata().unwrap().len() > 0, "{name}");
        }
    }

    #[tokio::test]
    async fn what_panics_is_undone_and_ends_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "db");
        write(&file, "CREATE TABLE t (x BIGINT)").await;
        write(&file, "INSERT INTO t VALUES (7)").await;
        file.turn().await.unwrap().give(|connection| {
            connection.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = 8").unwrap();
            panic!("as a bug would");
        });
        let told = file.turn().await.unwrap().ask::<()>(|_| panic!("as a bug would")).await;
        assert!(matches!(told, Err(StoreError::Closed)));
        write(&file, "UPDATE t SET x = x + 2").await;
        assert_eq!(number(&file).await, 9);
    }

    #[tokio::test]
    async fn what_can_not_be_read_at_once_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "db");
        write(&file, "CREATE TABLE t (x BIGINT)").await;
        write(&file, "INSERT INTO t VALUES (7)").await;
        // Now there is a connection that nobody uses.
        file.find(Statement::new("SELECT x FROM t")).await.unwrap();
        let statement = Statement::new("SELECT x FROM t");
        assert!(file.readers.find_now(&statement).is_some());
        let all = Arc::clone(&file.readers.turns).acquire_many_owned(READERS as u32).await.unwrap();
        assert!(file.readers.find_now(&statement).is_none());
        let (read, ()) = tokio::join!(number(&file), async { drop(all) });
        assert_eq!(read, 7);
    }

    #[tokio::test]
    async fn columns_are_those_that_there_are_now() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "db");
        write(&file, "CREATE TABLE t (x BIGINT)").await;
        write(&file, "INSERT INTO t VALUES (7)").await;
        let both = || Statement::new("SELECT t.*, 9 AS y FROM t");
        assert_eq!(file.find(both()).await.unwrap()[0].number("y").unwrap(), 9);
        // As a newer program would, while this one has its statements prepared.
        write(&file, "ALTER TABLE t ADD COLUMN z BIGINT DEFAULT 8").await;
        let found = file.find(both()).await.unwrap();
        assert_eq!((found[0].number("z").unwrap(), found[0].number("y").unwrap()), (8, 9));
    }

    #[tokio::test]
    async fn it_closes_when_who_reads_has_done_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "db");
        write(&file, "CREATE TABLE t (x BIGINT)").await;
        let reads = Arc::clone(&file.readers.turns).acquire_owned().await.unwrap();
        let mut closing = std::pin::pin!(file.close());
        assert!(futures::poll!(&mut closing).is_pending());
        assert!(!file.readers.turns.is_closed(), "who reads may go on");
        drop(reads);
        closing.await;
        assert!(matches!(file.find(Statement::new("SELECT x FROM t")).await, Err(StoreError::Closed)));
        // What SQLite keeps beside it is gone: nobody has it open.
        assert!(!folder.path().join("db-wal").exists());
    }

    #[tokio::test]
    async fn who_reads_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "db");
        write(&file, "CREATE TABLE t (x BIGINT)").await;
        assert!(file.find(Statement::new("INSERT INTO t VALUES (1)")).await.is_err());
    }
}
