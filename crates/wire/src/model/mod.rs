//! Model requests: parsed by the door, checked against a maintained list of fields, and rebuilt by the gateway.

use serde::{Deserialize, Serialize};

/// Whose protocol a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Anthropic Messages: `POST /v1/messages`.
    AnthropicMessages,
    /// Anthropic token counting: `POST /v1/messages/count_tokens`.
    AnthropicCountTokens,
    /// OpenAI Responses: `POST /v1/responses`.
    OpenAiResponses,
    /// OpenAI Chat Completions: `POST /v1/chat/completions`.
    OpenAiChat,
}

/// One request, as the door understood it. The daemon checks it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// Whose protocol.
    pub dialect: Dialect,
    /// The body: one I-JSON object as text.
    pub body: String,
    /// Headers that change meaning and are on the maintained list (`anthropic-version`, `anthropic-beta`).
    pub headers: Vec<(String, String)>,
}

/// Why a request got no response from the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFailure {
    /// What kind, which also gives the status the harness sees.
    pub kind: FailureKind,
    /// What happened, why, and what a person can do.
    pub message: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request is not well-formed: 400.
    Malformed,
    /// A field, tool or model that this agent was not granted: 403.
    NotGranted,
    /// The session's limit would be passed: 403, and the session is told.
    LimitReached,
    /// The provider can't be reached or has no credential: 502.
    Upstream,
}
