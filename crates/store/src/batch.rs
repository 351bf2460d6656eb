//! Statements that go to the database together. SQLite works in a thread of its own, and the way there and back costs more
//! than most statements do: so they go there together, and what they find comes back together.

use std::fmt::Write as _;

use futures::TryStreamExt;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AnyConnection, Arguments, AssertSqlSafe, Either, Executor};

use crate::backend::Engine;

/// Most of them that go together: what is prepared again for each group is better short.
const TOGETHER: usize = 32;
/// Up to so many, the same ones are likely to come again, and stay prepared.
const KEPT: usize = 12;

/// A statement, with its arguments.
pub(crate) struct Statement {
    text: &'static str,
    arguments: Vec<Argument>,
}

enum Argument {
    Number(i64),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// What each statement of a batch finds, in their order.
pub(crate) type Answers = std::vec::IntoIter<Vec<AnyRow>>;

impl Statement {
    /// A statement whose arguments are `$1`, `$2` and so on.
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, arguments: Vec::new() }
    }

    pub(crate) fn number(self, number: i64) -> Self {
        self.with(Argument::Number(number))
    }

    pub(crate) fn text(self, text: impl Into<Option<String>>) -> Self {
        self.with(Argument::Text(text.into()))
    }

    pub(crate) fn bytes(self, bytes: impl Into<Option<Vec<u8>>>) -> Self {
        self.with(Argument::Bytes(bytes.into()))
    }

    fn with(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }
}

/// Runs them one after the other; the first that fails ends it.
pub(crate) async fn run(
    engine: Engine,
    connection: &mut AnyConnection,
    batch: Vec<Statement>,
) -> Result<Answers, sqlx::Error> {
    let together = match engine {
        Engine::Sqlite => TOGETHER,
        // The server prepares one statement at a time.
        Engine::Postgres => 1,
    };
    let mut answers = Vec::with_capacity(batch.len());
    let mut batch = batch.into_iter().peekable();
    while batch.peek().is_some() {
        some(connection, batch.by_ref().take(together).collect(), &mut answers).await?;
    }
    Ok(answers.into_iter())
}

async fn some(
    connection: &mut AnyConnection,
    batch: Vec<Statement>,
    answers: &mut Vec<Vec<AnyRow>>,
) -> Result<(), sqlx::Error> {
    let keep = batch.len() <= KEPT;
    let (text, arguments) = joined(batch).map_err(sqlx::Error::Encode)?;
    // Without arguments it is sent as it is, since not every statement can be prepared.
    let mut steps = if arguments.len() == 0 {
        connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(text)))
    } else {
        connection.fetch_many(sqlx::query_with::<Any, _>(AssertSqlSafe(text), arguments).persistent(keep))
    };
    let mut rows = Vec::new();
    while let Some(step) = steps.try_next().await? {
        match step {
            Either::Right(row) => rows.push(row),
            Either::Left(_ended) => answers.push(std::mem::take(&mut rows)),
        }
    }
    Ok(())
}

/// One text of them all, and all arguments, numbered through.
fn joined(batch: Vec<Statement>) -> Result<(String, AnyArguments), sqlx::error::BoxDynError> {
    let mut text = String::new();
    let mut arguments = AnyArguments::default();
    for statement in batch {
        append(&mut text, statement.text, arguments.len());
        for argument in statement.arguments {
            match argument {
                Argument::Number(number) => arguments.add(number),
                Argument::Text(text) => arguments.add(text),
                Argument::Bytes(bytes) => arguments.add(bytes),
            }?;
        }
    }
    Ok((text, arguments))
}

/// Appends a statement whose arguments come after so many others.
fn append(text: &mut String, statement: &str, before: usize) {
    if !text.is_empty() {
        text.push(';');
    }
    let mut pieces = statement.split('$');
    text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = piece.len() - piece.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = piece.split_at(digits);
        let number: usize = number.parse().unwrap_or_default();
        // Writing to a `String` can't fail.
        write!(text, "${}{rest}", number.saturating_add(before)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbered_through() {
        let batch = vec![
            Statement::new("BEGIN IMMEDIATE"),
            Statement::new("SELECT $2, $1").number(1).text("a".to_owned()),
            Statement::new("UPDATE x SET y = $1 WHERE z < $1").bytes(None),
        ];
        let (text, arguments) = joined(batch).unwrap();
        assert_eq!(text, "BEGIN IMMEDIATE;SELECT $2, $1;UPDATE x SET y = $3 WHERE z < $3");
        assert_eq!(arguments.len(), 3);
    }
}
