//! Why the guest can't do something: what it tried, and what the system said.

use std::error::Error;
use std::fmt::Display;

/// A failure with its circumstances, written for the logs of the host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(String);

impl Fault {
    /// A failure that this program found by itself.
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Adds to an error what was tried.
pub(crate) trait During<T> {
    /// Turns the error into a [`Fault`] that begins with `what`.
    fn during(self, what: impl Display) -> Result<T, Fault>;
}

impl<T, E: Error> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Result<T, Fault> {
        self.map_err(|error| Fault(format!("{what}: {}", chain(&error))))
    }
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
