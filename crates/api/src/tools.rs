//! Tool servers, and what agents may do with them, as the API shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use domain::{
    Answer, ByteSize, CellId, Digest, Effects, ImageName, Isolation, SecretName, ServerName, Span, TeamName,
    Term, ToolName, ToolRef,
};
use serde::{Deserialize, Serialize};

use crate::AgentView;

/// A tool server that this installation knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerView {
    /// Its name.
    pub name: ServerName,
    /// Where it listens: an MCP endpoint over HTTP. Either this, `cell` or `mailbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The table that says what its tools do: one that ships (`filesystem`, `everything`, `github`, `hubspot`, `mail`), or a file's
    /// path; none: nobody has said, and the worst is assumed.
    #[serde(default)]
    pub table: Option<String>,
    /// The teams whose agents may be given its tools; empty: all.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// The secret of the vault that it is shown; only with `url`.
    #[serde(default)]
    pub secret: Option<SecretName>,
    /// A program that speaks MCP over its standard streams, in cells of its own: one for each team that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<ServerCell>,
    /// A mailbox, for which the daemon itself answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<ServerMailbox>,
}

/// A mailbox and the way to send from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerMailbox {
    /// Where the mail is: `imaps://HOST[:PORT]`.
    pub imap: String,
    /// Where mail is sent: `smtps://HOST[:PORT]`, or `smtp://HOST[:PORT]`, where TLS begins with STARTTLS.
    pub smtp: String,
    /// Who signs in at both.
    pub user: String,
    /// Whom mail is from; none: `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where the password is.
    pub password: PasswordIn,
}

/// Where a password is: never in a file of settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PasswordIn {
    /// In the vault, under this name: `secret:NAME`.
    Secret(SecretName),
    /// In this variable of the daemon's environment: `env:NAME`.
    Variable(String),
}

impl FromStr for PasswordIn {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match text.split_once(':') {
            Some(("secret", rest)) => rest.parse().map(Self::Secret).map_err(|e| format!("`secret:`: {e}")),
            Some(("env", rest)) if (1..=128).contains(&rest.len()) && rest.bytes().all(name) => {
                Ok(Self::Variable(rest.to_owned()))
            }
            Some(_) | None => {
                Err("say where the password is, `secret:NAME` or `env:VARIABLE`, not what it is".to_owned())
            }
        }
    }
}

impl TryFrom<String> for PasswordIn {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for PasswordIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "secret:{name}"),
            Self::Variable(name) => write!(f, "env:{name}"),
        }
    }
}

impl From<PasswordIn> for String {
    fn from(password: PasswordIn) -> Self {
        password.to_string()
    }
}

/// What runs in the cells of a local tool server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerCell {
    /// The image.
    pub image: ImageName,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether an emulated machine will do, which is no security boundary.
    #[serde(default)]
    pub allow_emulation: bool,
    /// The requests that may leave them, written as in `allow` of an agent's `[egress]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
    /// The secrets that such requests carry, each with the places where.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, Vec<String>>,
    /// What it may use up.
    #[serde(default)]
    pub limits: ServerLimits,
}

/// What a tool server's cell may use up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Memory of the micro VM.
    #[serde(with = "crate::text")]
    pub memory: ByteSize,
    /// Virtual processors.
    pub cpus: u8,
    /// Size of its disk.
    #[serde(with = "crate::text")]
    pub disk: ByteSize,
    /// Processes and threads at once.
    pub pids: u32,
    /// How long it stays up when nobody uses it.
    #[serde(with = "crate::text")]
    pub idle: Span,
    /// The requests that may leave it in a minute.
    pub requests_per_minute: u32,
    /// The bytes that may leave a team's cells of the server in a day.
    #[serde(with = "crate::text")]
    pub bytes_out_per_day: ByteSize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(512),
            cpus: 1,
            disk: ByteSize::mib(4096),
            pids: 256,
            idle: Span::seconds(15 * 60),
            requests_per_minute: 600,
            bytes_out_per_day: ByteSize::mib(64),
        }
    }
}

/// What it came to that a tool server was added or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPut {
    /// What is known of it now.
    pub server: ServerView,
    /// What was not said anew, and stayed.
    pub kept: Vec<ServerPart>,
    /// What was said of it before, and is gone.
    pub dropped: Vec<ServerPart>,
}

/// A part of what a person says of a tool server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerPart {
    /// The teams whose agents may be given its tools.
    Teams(BTreeSet<TeamName>),
    /// The table that says what its tools do.
    Table(String),
    /// What its cells may use up.
    Limits,
}

/// A tool server's cell that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningServer {
    /// The server.
    pub server: ServerName,
    /// Whose it is.
    pub team: TeamName,
    /// The cell.
    pub id: CellId,
    /// How far it is.
    pub state: ServerState,
    /// What stands between it and the host, once that is known.
    pub isolation: Option<Isolation>,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
}

/// How far a tool server's cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// Its image, its cell or its program is being started.
    Starting,
    /// Its program runs.
    Running,
}

/// All that is known of a tool server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDetails {
    /// As it was added.
    pub server: ServerView,
    /// The team that was asked for: it has a connection, and perhaps a cell, of its own.
    pub team: TeamName,
    /// Its tools, as it lists them now.
    pub tools: Vec<ServerTool>,
    /// Tools that are offered to nobody: each with why.
    pub withheld: Vec<(String, String)>,
    /// Why it can't be asked.
    pub trouble: Option<String>,
    /// The last lines that it wrote to its standard error.
    pub log: Vec<String>,
}

/// A tool as its server lists it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTool {
    /// Its name.
    pub name: ToolName,
    /// What it does.
    pub effects: Effects,
    /// Whether a table says so; else the worst is assumed.
    pub classified: bool,
    /// What the model is told about it.
    pub description: String,
    /// Bytes in the schema of its arguments.
    pub schema_bytes: usize,
    /// What its server says that it does, for whoever classifies it. Nobody has checked it.
    pub suggested: Effects,
    /// The names of its arguments.
    pub arguments: Vec<String>,
}

/// What an agent's files ask for, to be shown before it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTools {
    /// Of its files, as they are now.
    pub digest: Digest,
    /// Whether exactly these files were applied.
    pub applied: bool,
    /// What is known of those that were applied last.
    pub earlier: Earlier,
    /// How they differ from those that were applied last; none if these aren't known.
    #[serde(default)]
    pub change: Option<ChangeView>,
    /// All that its files say, line by line, each marked against those that were applied last.
    pub terms: Vec<Term>,
    /// The tools of the servers that its file names.
    pub tools: Vec<ToolView>,
}

/// What is known of an agent's files that were applied last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Earlier {
    /// None were.
    Never,
    /// Some were, which are not kept, or can't be held against those of now: all lines count as new.
    Unknown,
    /// What they say.
    Known,
}

/// An agent in full: what may count of its files, and whether it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDetails {
    /// Its file, as it is now.
    #[serde(flatten)]
    pub agent: AgentView,
    /// Whether its files count.
    pub counts: FilesCount,
    /// All that they say, as in [`AgentTools`].
    pub terms: Vec<Term>,
    /// The tools that people approved for it, of the servers that its file names.
    pub approved: BTreeSet<ToolRef>,
}

/// Whether an agent's files count as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesCount {
    /// They give it neither tools nor a way out, and so they count.
    Freely,
    /// They were applied.
    Applied,
    /// They allow no more than those that were applied, and so they count, too.
    Narrower,
    /// None were applied: none of its sessions starts.
    NeverApplied,
    /// They allow more than those that were applied, or may, such as where the list of a server's tools is not at hand. None of its
    /// sessions starts, unless it turns out then that they don't.
    Waiting,
}

/// How what an agent may do changes with its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// In a word: `same`, `narrower`, `wider`, `both wider and narrower`.
    pub verdict: String,
    /// Calls that become possible, or easier.
    pub wider: CallsView,
    /// Calls that become impossible, or harder.
    pub narrower: CallsView,
}

/// Calls, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallsView {
    /// Each in a line.
    pub calls: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// A tool of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolView {
    /// Its full name.
    pub tool: ToolRef,
    /// What it does.
    pub effects: Effects,
    /// Whether a table says so; else the worst is assumed.
    pub classified: bool,
    /// Whether the agent is offered it at all.
    pub offered: bool,
    /// What the strictest rule of the agent's file says of it; none if only rules in Cedar may allow it.
    pub answer: Option<Answer>,
    /// What the model is told about it.
    pub description: String,
    /// Of its name, description, schema and effects as they are now.
    pub digest: Digest,
    /// Whether a person approved it.
    pub pin: PinState,
    /// What changed since it was approved, for people.
    pub changes: Vec<String>,
}

/// Whether a person approved a tool for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    /// As it is.
    Approved,
    /// It is withheld: nobody has.
    New,
    /// It is withheld: it is no longer what was approved.
    Changed,
}

/// A person applies an agent's files, and approves tools for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// Of the files as they were shown.
    pub digest: Digest,
    /// Each tool with its digest as it was shown.
    pub tools: BTreeMap<ToolRef, Digest>,
}
