//! Tool calls between door and daemon: a question that the door read from MCP, progress, and one bounded answer.
//!
//! ```text
//! door ── DoorOpens::Tools(ask) ──▶ daemon
//!      ◀── Progress … Progress, then Reply or Failed ──
//! ```
//! JSON that belongs to a tool (arguments, schemas, structured results) stays text here, read strictly by both sides;
//! binary content is bytes. Whoever reads a message calls its `check` before anything else: it holds the limits.

mod content;
mod limits;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use content::{
    Amount, Content, Contents, Hints, Message, Progress, Prompt, PromptArgument, PromptText, Resource,
    ResourceBody, ResourceTemplate, Role, Tool, ToolResult,
};
pub use limits::{
    ARGUMENTS, BODY, MAX_ASK, MAX_CONTENT, MAX_ITEMS, MAX_LONG, MAX_NAME, MAX_PARTS, MAX_REPLY, MAX_SHORT,
    MAX_URI, SCHEMA, STRUCTURED, TooLarge, shortened,
};

/// What a program in a cell asks about tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolsAsk {
    /// Which tools are there? Answered with [`ToolsReply::Tools`].
    List,
    /// Call one. Answered with [`ToolsReply::Result`].
    Call {
        /// Its full name, as the list gave it.
        tool: String,
        /// One I-JSON object as text.
        arguments: String,
        /// Whether the caller wants to hear how it goes on.
        wants_progress: bool,
    },
    /// Which resources are there? Answered with [`ToolsReply::Resources`].
    ListResources,
    /// Which families of resources are there? Answered with [`ToolsReply::Templates`].
    ListTemplates,
    /// Read one. Answered with [`ToolsReply::Contents`].
    ReadResource {
        /// Its URI, as the list gave it or a template makes it.
        uri: String,
    },
    /// Which prompts are there? Answered with [`ToolsReply::Prompts`].
    ListPrompts,
    /// Fill one in. Answered with [`ToolsReply::Prompt`].
    GetPrompt {
        /// Its name, as the list gave it.
        name: String,
        /// What to fill in: name and value.
        arguments: Vec<(String, String)>,
    },
}

/// From the daemon, in answer to a [`ToolsAsk`]: any number of `Progress`, then one of the others, then the end of the
/// stream. A stream that ends before that was cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToolsAnswer {
    /// How the call goes on.
    Progress(Progress),
    /// What was asked for.
    Reply(ToolsReply),
    /// Refused, or failed.
    Failed(ToolFailure),
}

/// What was asked for; each belongs to one kind of [`ToolsAsk`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToolsReply {
    /// The tools that this agent may see.
    Tools(Vec<Tool>),
    /// What a call came to.
    Result(ToolResult),
    /// The resources that this agent may see.
    Resources(Vec<Resource>),
    /// The families of resources that this agent may see.
    Templates(Vec<ResourceTemplate>),
    /// What is in a resource.
    Contents(Vec<Contents>),
    /// The prompts that this agent may see.
    Prompts(Vec<Prompt>),
    /// A prompt, filled in.
    Prompt(PromptText),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolFailure {
    /// What kind.
    pub kind: ToolFailureKind,
    /// What happened and why, for the model and for people.
    pub message: String,
    /// What to do next, if anything.
    pub hint: Option<String>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ToolFailureKind {
    /// There is no such tool, resource or prompt for this agent.
    NotFound,
    /// The arguments are not what the tool takes.
    Invalid,
    /// It was decided that this may not happen.
    Refused,
    /// A person has been asked and has not answered yet; the same call made again joins the question.
    Waiting,
    /// The tool server failed, hung or did not keep to the protocol.
    Upstream,
    /// Something is larger than a limit.
    TooLarge,
    /// The host failed.
    Internal,
}

impl ToolFailure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(kind: ToolFailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same failure at a length that every reader takes.
    #[must_use]
    pub fn bounded(self) -> Self {
        let hint = self.hint.map(|hint| shortened(hint, MAX_SHORT));
        Self { kind: self.kind, message: shortened(self.message, MAX_LONG), hint }
    }
}
