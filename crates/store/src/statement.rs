//! Statements and what they find, the same for both engines.

use std::sync::Arc;

use crate::StoreError;

/// A statement, with its arguments.
pub(crate) struct Statement {
    pub(crate) text: &'static str,
    pub(crate) arguments: Vec<Argument>,
}

pub(crate) enum Argument {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// What a statement did.
#[derive(Default)]
pub(crate) struct Answer {
    /// What it found.
    pub(crate) rows: Vec<Row>,
    /// How many rows it changed, where that is what it does.
    pub(crate) changed: u64,
}

/// What each of several statements did, in their order.
pub(crate) type Answers = std::vec::IntoIter<Answer>;

/// A row, as it was found. Like all here, it is not to be printed: it may hold the key of something sealed.
pub(crate) struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) values: Vec<Value>,
}

pub(crate) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// Nothing that this program writes.
    Other,
}

impl Statement {
    /// A statement whose arguments are `$1`, `$2` and so on.
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, arguments: Vec::new() }
    }

    pub(crate) fn number(self, number: impl Into<Option<i64>>) -> Self {
        self.with(Argument::Number(number.into()))
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

impl Answer {
    /// The first row, if it found any.
    pub(crate) fn first(&self) -> Option<&Row> {
        self.rows.first()
    }
}

impl Row {
    /// # Errors
    /// As for all of these: the column holds something else, or isn't there.
    pub(crate) fn text(&self, column: &'static str) -> Result<&str, StoreError> {
        self.optional_text(column)?.ok_or_else(|| unlike(column))
    }

    pub(crate) fn optional_text(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
        match self.value(column) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(unlike(column)),
        }
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.optional_number(column)?.ok_or_else(|| unlike(column))
    }

    pub(crate) fn optional_number(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        match self.value(column) {
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            _ => Err(unlike(column)),
        }
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError> {
        self.optional_bytes(column)?.ok_or_else(|| unlike(column))
    }

    pub(crate) fn optional_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError> {
        match self.value(column) {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) => Ok(None),
            _ => Err(unlike(column)),
        }
    }

    fn value(&self, column: &str) -> Option<&Value> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.values.get(at)
    }
}

fn unlike(column: &'static str) -> StoreError {
    StoreError::Damaged { what: column, why: "the column holds something else".to_owned() }
}
