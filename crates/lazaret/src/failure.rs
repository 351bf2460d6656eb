//! A failed command, as it is told: what happened, why, and what to do next.

use std::fmt::Display;
use std::io::Write as _;

use crate::terminal::{colour, escape};

/// The exit code, or why there is none better than 1 (125 for `run` and `exec`).
pub(crate) type Outcome = Result<u8, Failure>;

/// What to tell.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// What happened and why.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// What to do next.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Also what is good to know.
    pub(crate) fn and(self, more: impl Display) -> Self {
        Self { message: format!("{}; {more}", self.message), ..self }
    }

    /// Nobody reads the answer any more. There is nothing to tell, and nobody to tell it to.
    pub(crate) fn unread() -> Self {
        Self::new("")
    }

    /// On standard error.
    pub(crate) fn tell(&self) {
        let (red, dim, plain) = if colour() { ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        if self.message.is_empty() {
            return;
        }
        err(&format!("{red}error:{plain} {}\n", lines(&self.message)));
        if let Some(hint) = &self.hint {
            err(&format!("{dim}  hint:{plain} {}\n", lines(hint)));
        }
    }

    /// What the program ends with. `runs_agent`: codes below 100 are the agent's own.
    pub(crate) fn exit_code(&self, runs_agent: bool) -> u8 {
        const BROKEN_PIPE: u8 = 141; // 128 + SIGPIPE, as other programs end
        match (self.message.is_empty(), runs_agent) {
            (true, _) => BROKEN_PIPE,
            (false, true) => 125,
            (false, false) => 1,
        }
    }
}

/// To standard error. Nobody may be there to read it, and that is no reason to stop.
fn err(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Messages may carry names that an agent chose.
fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n  ")
}

/// A note on the way, on standard error.
pub(crate) fn note(message: impl Display) {
    let (dim, plain) = if colour() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    err(&format!("{dim}lazaret: {}{plain}\n", lines(&message.to_string())));
}

impl From<api::ClientError> for Failure {
    fn from(error: api::ClientError) -> Self {
        match error {
            api::ClientError::Problem(problem) => Self { message: problem.message, hint: problem.hint },
            other @ (api::ClientError::Unreachable { .. }
            | api::ClientError::Broken(_)
            | api::ClientError::Unreadable(_)) => Self::new(other.to_string())
                .hint("the daemon's log may say more: `daemon.log` in Lazaret's state folder"),
        }
    }
}

impl From<api::FolderError> for Failure {
    fn from(error: api::FolderError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<crate::workspace::WorkspaceError> for Failure {
    fn from(error: crate::workspace::WorkspaceError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
