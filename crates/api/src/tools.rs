//! Tool servers, and what agents may do with them, as the API shows it.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Digest, Effects, ServerName, TeamName, ToolRef};
use serde::{Deserialize, Serialize};

/// A tool server that this installation knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerView {
    /// Its name.
    pub name: ServerName,
    /// Where it listens: an MCP endpoint over HTTP.
    pub url: String,
    /// The table that says what its tools do: one that ships (`filesystem`, `everything`, `github`, `mail`), or a file's
    /// path; none: nobody has said, and the worst is assumed.
    #[serde(default)]
    pub table: Option<String>,
    /// The teams whose agents may be given its tools; empty: all.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// The variable of the daemon's environment that holds its bearer token.
    #[serde(default)]
    pub token_env: Option<String>,
}

/// What an agent's files ask for, to be shown before it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTools {
    /// Of its files, as they are now.
    pub digest: Digest,
    /// Whether exactly these files were applied.
    pub applied: bool,
    /// The tools of the servers that its file names.
    pub tools: Vec<ToolView>,
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
