//! PostgreSQL: the statements as it takes them, one by one, and its rows.

use std::sync::Arc;

use futures::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{Column, Either, Executor, Row as _, TypeInfo, ValueRef};

use crate::StoreError;
use crate::statement::{Answer, Answers, Argument, Row, Statement, Value};

/// Runs them one after the other; the first that fails ends it.
pub(crate) async fn run(connection: &mut PgConnection, batch: Vec<Statement>) -> Result<Answers, StoreError> {
    let mut answers = Vec::with_capacity(batch.len());
    for statement in batch {
        answers.push(answer(connection, statement).await?);
    }
    Ok(answers.into_iter())
}

async fn answer(connection: &mut PgConnection, statement: Statement) -> Result<Answer, StoreError> {
    let mut steps = if statement.arguments.is_empty() {
        // Not every statement can be prepared.
        connection.fetch_many(sqlx::raw_sql(statement.text))
    } else {
        connection.fetch_many(query(statement))
    };
    let mut answer = Answer::default();
    while let Some(step) = steps.try_next().await? {
        match step {
            Either::Right(row) => answer.rows.push(self::row(&row)?),
            Either::Left(done) => answer.changed = done.rows_affected(),
        }
    }
    Ok(answer)
}

/// A statement with its arguments.
pub(crate) fn query(statement: Statement) -> Query<'static, Postgres, PgArguments> {
    statement.arguments.into_iter().fold(sqlx::query(statement.text), |query, argument| match argument {
        Argument::Number(number) => query.bind(number),
        Argument::Text(text) => query.bind(text),
        Argument::Bytes(bytes) => query.bind(bytes),
    })
}

/// A row of it.
pub(crate) fn row(found: &PgRow) -> Result<Row, StoreError> {
    let columns: Arc<[String]> = found.columns().iter().map(|column| column.name().to_owned()).collect();
    let values = (0..columns.len()).map(|at| value(found, at)).collect::<Result<_, sqlx::Error>>()?;
    Ok(Row { columns, values })
}

fn value(found: &PgRow, at: usize) -> Result<Value, sqlx::Error> {
    let raw = found.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "INT8" => Value::Number(found.try_get(at)?),
        "INT4" => Value::Number(found.try_get::<i32, _>(at)?.into()),
        "TEXT" | "VARCHAR" => Value::Text(found.try_get(at)?),
        "BYTEA" => Value::Bytes(found.try_get(at)?),
        _ => Value::Other,
    })
}
