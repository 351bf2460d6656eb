//! The schema's versions, and how a database comes to the newest.

use crate::StoreError;
use crate::backend::Backend;
use crate::statement::Statement;

/// Every step from the empty database on. A step that has landed is never changed.
const STEPS: &[&str] = &[include_str!("../migrations/0001-start.sql")];

/// The newest schema that this program knows.
pub(crate) fn newest() -> i64 {
    STEPS.len() as i64
}

/// Brings the database to the newest schema, all or nothing.
pub(crate) async fn migrate(backend: &Backend) -> Result<(), StoreError> {
    migrate_to(backend, newest()).await
}

async fn migrate_to(backend: &Backend, wanted: i64) -> Result<(), StoreError> {
    let first = match backend {
        Backend::Sqlite(_) => None,
        // Two daemons that start at once: the second waits here. The number means nothing but is ours.
        Backend::Postgres(_) => Some(Statement::new("SELECT pg_advisory_xact_lock(5023870215530112)")),
    };
    let (mut transaction, _) = backend.begin(first.into_iter().collect()).await?;
    let versions = vec![
        Statement::new("CREATE TABLE IF NOT EXISTS lazaret_schema (version BIGINT NOT NULL)"),
        Statement::new("SELECT version FROM lazaret_schema ORDER BY version DESC LIMIT 1"),
    ];
    let newest_there = transaction.run(versions).await?.nth(1).unwrap_or_default();
    let found = newest_there.first().map_or(Ok(0), |row| row.number("version"))?;
    if found > newest() {
        return Err(StoreError::Newer { found, known: newest() });
    }
    for (version, step) in (1..=wanted).zip(STEPS).filter(|(version, _)| *version > found) {
        transaction.script(step).await?;
        let done = Statement::new("INSERT INTO lazaret_schema (version) VALUES ($1)").number(version);
        transaction.run(vec![done]).await?;
    }
    transaction.commit(Vec::new()).await
}
