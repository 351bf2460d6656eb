//! What can go wrong with the store itself. What is refused by a rule has an error of its own, where the rule is.

use std::path::PathBuf;

/// The store can't do its work. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database: {0}")]
    Database(#[source] DatabaseError),
    /// The database was made by a newer program.
    #[error(
        "the database has schema {found}, this program knows schemas up to {known}: \
         use the newer program that made it"
    )]
    Newer {
        /// The database's.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A file or folder of the store is open to others.
    #[error("`{path}` can be used by others (mode {mode:o}): close it with `chmod {wanted:o} {path}`")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// A file or folder of the store can't be used.
    #[error("`{path}`: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file holds no keys.
    #[error(
        "`{0}` is not a key file of Lazaret: put it back from a copy, or the ledger can't be read or continued"
    )]
    Keys(PathBuf),
    /// A database that has entries was opened with other keys than it was written with.
    #[error(
        "the key file is not the one that this ledger was written with: its newest entry has another's signature"
    )]
    OtherKeys,
    /// The system gave no random bytes.
    #[error("there are no random bytes: {0}")]
    Random(#[source] std::io::Error),
    /// What is stored can't be read.
    #[error(
        "{what} is stored in a form that this program can't read ({why}): `lazaret ledger verify` says more"
    )]
    Damaged {
        /// What of.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// More than a record may hold.
    #[error("{what} has {found} bytes, {max} are the most")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is, in bytes.
        found: usize,
        /// The most, in bytes.
        max: usize,
    },
    /// Entries that were to be written together were not.
    #[error("{0}")]
    Group(String),
    /// Others used the database for too long.
    #[error("the database was busy for {0} s: something else uses it, or its disk is very slow")]
    Busy(u64),
    /// The store was closed, or the program ends.
    #[error("the database is closed")]
    Closed,
    /// What was erased is gone from the database, but not yet from the log that goes before it.
    #[error(
        "entry {0} is erased, but SQLite's log still holds what it was sealed with, since another program reads \
         the database: end that one, and erase the entry again"
    )]
    StillInLog(u64),
    /// There is no such thing.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
}

/// A failure of the database, with the engine hidden.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(Box<dyn std::error::Error + Send + Sync>);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DatabaseError(Box::new(error)))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(DatabaseError(Box::new(error)))
    }
}

/// A stored text that doesn't parse.
pub(crate) fn damaged<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> StoreError {
    move |why| StoreError::Damaged { what, why: why.to_string() }
}
