//! How a session ends, and the exit code that tells a script.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process exit code, as `lazaret run` returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExitCode(pub u8);

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EndReason {
    /// The harness ended by itself with this code.
    Finished {
        /// The harness's own exit code.
        code: u8,
    },
    /// The harness was ended by a signal inside the cell.
    Signalled {
        /// The signal's number.
        signal: u8,
    },
    /// A limit of the session was reached.
    Limit {
        /// Which limit, and what it was, for people.
        what: String,
    },
    /// A person or the daemon stopped it.
    Stopped,
    /// It was not started, because a rule forbids it here.
    Refused {
        /// Which rule, for people.
        why: String,
        /// What to do about it, for people.
        hint: String,
    },
    /// The cell, its door or its VM failed.
    CellFailed {
        /// What failed, for people.
        why: String,
    },
}

impl EndReason {
    /// The exit code of `lazaret run`: the harness's own up to 99; 124 for a limit (as timeout(1)), 125 for a failed
    /// cell, 126 for a refusal, 130 for a stop, 128 + n for a signal (as in sh(1)). Codes of a harness above 99 become 99.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode(match self {
            Self::Finished { code } => (*code).min(99),
            Self::Signalled { signal } => 128_u8.saturating_add(*signal),
            Self::Limit { .. } => 124,
            Self::Stopped => 130,
            Self::CellFailed { .. } => 125,
            Self::Refused { .. } => 126,
        })
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { code: 0 } => f.write_str("finished"),
            Self::Finished { code } => write!(f, "finished with exit code {code}"),
            Self::Signalled { signal } => write!(f, "ended by signal {signal}"),
            Self::Limit { what } => write!(f, "stopped at a limit: {what}"),
            Self::Stopped => f.write_str("stopped"),
            Self::Refused { why, .. } => write!(f, "refused: {why}"),
            Self::CellFailed { why } => write!(f, "the cell failed: {why}"),
        }
    }
}
