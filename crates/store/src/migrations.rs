//! The schema's versions, and how a database comes to the newest.

use sqlx::{AssertSqlSafe, Row};

use crate::StoreError;
use crate::backend::{Backend, Engine};
use crate::batch::Statement;

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
    let first = match backend.engine {
        Engine::Sqlite => None,
        // Two daemons that start at once: the second waits here. The number means nothing but is ours.
        Engine::Postgres => Some(Statement::new("SELECT pg_advisory_xact_lock(5023870215530112)")),
    };
    let (mut transaction, _) = backend.begin(first.into_iter().collect()).await?;
    let tx = transaction.connection()?;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS lazaret_schema (version BIGINT NOT NULL)")
        .execute(&mut *tx)
        .await?;
    let row =
        sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM lazaret_schema").fetch_one(&mut *tx);
    let found: i64 = row.await?.try_get("version")?;
    if found > newest() {
        return Err(StoreError::Newer { found, known: newest() });
    }
    for (version, step) in (1..=wanted).zip(STEPS).filter(|(version, _)| *version > found) {
        let text = match backend.engine {
            Engine::Sqlite => (*step).to_owned(),
            Engine::Postgres => step.replace(" BLOB", " BYTEA"),
        };
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO lazaret_schema (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *tx)
            .await?;
    }
    transaction.commit(Vec::new()).await
}
