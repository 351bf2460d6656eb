//! Why a call came to nothing, and what may have happened all the same.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most characters of a server's words that are passed on.
const MAX_WORDS: usize = 300;

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub reason: Reason,
    /// What happened and why.
    pub message: String,
    /// What may have happened all the same.
    pub acted: Acted,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The arguments are not what the tool takes.
    Invalid,
    /// There is no such tool, folder or mail.
    NotFound,
    /// Something is larger than a limit.
    TooLarge,
    /// The mail server failed, hung, refused, or did not keep to the protocol.
    Server,
    /// The mail server refuses who signs in.
    SignIn,
}

/// What may have happened of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// Nothing.
    No,
    /// The server answered that it did nothing.
    Failed,
    /// Nobody knows: all of it or a part may have happened.
    Unknown,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), acted: Acted::No }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, message)
    }

    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self::new(Reason::Server, message)
    }

    /// The same failure, for a server that said no to the act itself.
    pub(crate) fn refused(self) -> Self {
        Self { acted: Acted::Failed, ..self }
    }

    /// The same failure, of somebody who signs in: nothing of the call has happened. `passing`: it may go by itself.
    pub(crate) fn signing_in(self, user: &str, passing: bool) -> Self {
        let message = format!("signing in as `{}` failed: {}", words(user), self.message);
        let refused = self.acted == Acted::Failed && !passing;
        Self::new(if refused { Reason::SignIn } else { Reason::Server }, message)
    }

    /// The same failure, after a part of what was asked for had happened.
    pub(crate) fn in_part(self) -> Self {
        Self { acted: Acted::Unknown, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// How far a call is: what ends it then says what may have happened.
#[derive(Debug, Default)]
pub(crate) struct Acting {
    /// The server has been told to act and has not answered.
    under_way: AtomicBool,
    /// Something was done.
    done: AtomicBool,
}

impl Acting {
    pub(crate) fn begin(&self) {
        self.under_way.store(true, Ordering::SeqCst);
    }

    /// The server answered.
    pub(crate) fn end(&self, done: bool) {
        self.done.fetch_or(done, Ordering::SeqCst);
        self.under_way.store(false, Ordering::SeqCst);
    }

    /// The failure with what is known of the act.
    pub(crate) fn judge(&self, failure: Failure) -> Failure {
        let acted = self.under_way.load(Ordering::SeqCst) || self.done.load(Ordering::SeqCst);
        if acted { failure.in_part() } else { failure }
    }
}

/// A server's words as far as they can be shown: short, on one line, without anything that draws.
pub(crate) fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}
