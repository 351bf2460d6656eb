//! `agent.toml`: what was typed, checked into types. Unknown keys, wrong units and tables without effect are errors.

use serde::{Deserialize, Serialize};

use crate::{AgentName, ImageName, Limits, ModelName, TeamName};

/// The program in the cell that drives the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harness {
    /// Lazaret's own loop, in the guest.
    Builtin,
    /// Claude Code, from the image `claude-code`.
    ClaudeCode,
    /// Codex, from the image `codex`.
    Codex,
    /// Any agent that speaks the Agent Client Protocol on its standard streams.
    Acp(Vec<String>),
    /// Any program.
    Command(Vec<String>),
}

/// An agent as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFile {
    /// Its name.
    pub name: AgentName,
    /// Its team.
    pub team: TeamName,
    /// What drives the model.
    pub harness: Harness,
    /// The models its sessions may use; the first is the default. Empty: none at all.
    pub models: Vec<ModelName>,
    /// The image its cells run.
    pub image: ImageName,
    /// Standing instructions for the built-in harness; never a security control.
    pub instructions: String,
    /// What a session may use up.
    pub limits: Limits,
}

/// What is wrong with an agent file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct AgentFileError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}
