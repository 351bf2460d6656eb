//! Processes in the container: how one is described, fed and watched. The same messages go over both legs.

use serde::{Deserialize, Serialize};

/// A program to start in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; looked up in `PATH` of `env` when it has no slash. The reserved name
    /// `lazaret-builtin` starts the built-in harness, `lazaret-acp` the client of an ACP agent.
    pub argv: Vec<String>,
    /// The whole environment, as `NAME`, `value`.
    pub env: Vec<(String, String)>,
    /// The folder to start in.
    pub cwd: String,
    /// A terminal of this size, instead of three pipes.
    pub tty: Option<TtySize>,
    /// Where it runs.
    pub place: Place,
}

/// Where a process runs. Only the host says so, and everything but `Container` is for tests of single layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the container, like any agent.
    Container,
    /// As root of the guest, outside the container.
    GuestRoot,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// To a process. The end of this direction while the process runs means that nobody wants it any more: its process
/// group is killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToProcess {
    /// Bytes for its standard input; at most [`crate::frame::CHUNK`].
    Stdin(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Its standard input ends.
    StdinEnd,
    /// A signal for it and its process group.
    Signal(u8),
    /// Its terminal has a new size.
    Resize(TtySize),
}

/// From a process. After `Exited` or `Failed` the stream ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromProcess {
    /// It runs.
    Started,
    /// Bytes from its standard output or terminal; at most [`crate::frame::CHUNK`].
    Stdout(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Bytes from its standard error; at most [`crate::frame::CHUNK`].
    Stderr(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It ended.
    Exited(Exit),
    /// It could not be started.
    Failed {
        /// What failed, for people.
        why: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(u8),
}
