//! Why the guest can't do something: what it tried, and what the system said.

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

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Result<T, Fault> {
        self.map_err(|error| Fault(format!("{what}: {error}")))
    }
}
