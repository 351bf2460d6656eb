//! Agents and sessions, as the API shows and starts them.

use domain::{
    AgentFile, AgentName, EndReason, ImageName, Isolation, Limits, ModelName, SessionId, SessionState,
    TeamName,
};
use serde::{Deserialize, Serialize};

use crate::Data;

/// An agent, as it can be run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// Its team.
    pub team: TeamName,
    /// Its harness, for people.
    pub harness: String,
    /// Its models.
    pub models: Vec<ModelName>,
    /// Its image.
    pub image: ImageName,
    /// Its limits.
    pub limits: Limits,
    /// Where its file lies, or that it is an example that came with Lazaret.
    pub source: String,
}

impl AgentView {
    /// The view of a file.
    #[must_use]
    pub fn new(file: AgentFile, source: String) -> Self {
        Self {
            harness: file.harness.to_string(),
            name: file.name,
            team: file.team,
            models: file.models,
            image: file.image,
            limits: file.limits,
            source,
        }
    }
}

/// Which agent is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentRef {
    /// The agent of this name in the configuration folder, else the example of this name.
    Name(AgentName),
    /// The files of a folder.
    Files(AgentFiles),
}

/// An agent's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFiles {
    /// The text of its `agent.toml`, at most [`AgentFile::MAX_BYTES`].
    pub text: String,
    /// That of the `policy.cedar` beside it, at most 256 KiB.
    pub cedar: Option<String>,
}

/// A session to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Whose.
    pub agent: AgentRef,
    /// What the person asks, at most [`crate::MAX_PROMPT`] bytes.
    pub prompt: Option<String>,
    /// A terminal of this size, instead of three pipes.
    pub terminal: Option<TerminalSize>,
    /// Whether standard input will be sent; else it is empty.
    pub stdin: bool,
    /// Whether a workspace will be put before the harness starts, and fetched after it has ended.
    pub workspace: bool,
    /// How it starts.
    pub options: StartOptions,
}

/// How a session starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartOptions {
    /// Whether a host without working hardware virtualisation will do.
    pub allow_emulation: bool,
    /// Boot a kernel of its own instead of a clone of a template.
    pub cold: bool,
    /// The model to use first: one of the agent's.
    pub model: Option<ModelName>,
    /// Whether [`ExecRequest::guest_root`] will be allowed: for tests of single layers, never for an agent's work.
    pub guest_root: bool,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A session, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub agent: AgentName,
    /// Where it stands.
    pub state: SessionState,
    /// What stands between it and the host; none before it has a cell.
    pub isolation: Option<Isolation>,
    /// When it was asked for: milliseconds since 1970.
    pub created: u64,
    /// Why it ended; none before.
    pub ended: Option<EndReason>,
}

/// To a live process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "input")]
pub enum Input {
    /// Bytes for its standard input or terminal; at most [`crate::MAX_CHUNK`].
    Stdin {
        /// The bytes.
        data: Data,
    },
    /// Its standard input ends.
    StdinEnd,
    /// A signal for it and its process group.
    Signal {
        /// The signal's number.
        signal: u8,
    },
    /// Its terminal has a new size.
    Resize {
        /// The new size.
        size: TerminalSize,
    },
}

/// What happened, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since 1970.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happens in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// Something on the way to the harness, for people.
    Progress {
        /// What.
        message: String,
    },
    /// The harness runs.
    Started {
        /// What stands between it and the host.
        isolation: Isolation,
    },
    /// The harness printed.
    Output {
        /// Where.
        stream: OutputStream,
        /// What. Bytes of an attacker: not safe for a terminal.
        data: Data,
    },
    /// The cell met one of its limits and goes on.
    Limit {
        /// Which, for people.
        what: String,
    },
    /// It is over; nothing follows.
    Ended {
        /// Why.
        reason: EndReason,
        /// The exit code that tells it.
        exit_code: u8,
    },
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A program to run in the cell of a running session, beside its harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments, at most [`crate::MAX_PROMPT`] bytes together.
    pub argv: Vec<String>,
    /// A terminal of this size, instead of three pipes.
    pub terminal: Option<TerminalSize>,
    /// As root of the guest, outside the container; needs [`StartOptions::guest_root`].
    pub guest_root: bool,
}

/// How to stop a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// At once, instead of in order.
    pub now: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_lines_that_scripts_can_read() {
        let line = Stamped {
            at: 7,
            event: Event::Output { stream: OutputStream::Stdout, data: Data(b"hi".to_vec()) },
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"at":7,"event":"output","stream":"stdout","data":{"text":"hi"}}"#);
        assert_eq!(serde_json::from_str::<Stamped>(&text).unwrap(), line);
        let end =
            Stamped { at: 9, event: Event::Ended { reason: EndReason::Finished { code: 0 }, exit_code: 0 } };
        let text = serde_json::to_string(&end).unwrap();
        assert_eq!(text, r#"{"at":9,"event":"ended","reason":{"kind":"finished","code":0},"exit_code":0}"#);
        assert_eq!(serde_json::from_str::<Stamped>(&text).unwrap(), end);
    }
}
