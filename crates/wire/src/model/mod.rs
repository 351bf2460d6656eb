//! Model requests: a body is read strictly, checked against a maintained list of fields, and built anew from what the
//! list names. The door does it first, jailed; the gateway does it again before it spends anything.
//!
//! To pass on a new field, add it to the dialect's list (`anthropic`, `responses`, `chat`), with a request in
//! `requests/` that needs it. What is on no list is refused.

mod anthropic;
mod chat;
mod headers;
mod responses;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use headers::{MAX_HEADER, pass_header};

use crate::json::{Bounds, Json};

/// Most bytes of one request body. Anthropic's own limit is 32 MB; a frame must hold it with its head.
pub const MAX_BYTES: usize = 30 * 1024 * 1024;

/// Deepest nesting of lists and objects in a body.
pub const MAX_DEPTH: usize = 64;

/// Most values in one body.
pub const MAX_VALUES: usize = 500_000;

const BOUNDS: Bounds = Bounds { bytes: MAX_BYTES, depth: MAX_DEPTH, values: MAX_VALUES };

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

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] =
        [Self::AnthropicMessages, Self::AnthropicCountTokens, Self::OpenAiResponses, Self::OpenAiChat];

    /// The path of its requests, at the guest's endpoint and below a provider's base URL.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "/v1/messages",
            Self::AnthropicCountTokens => "/v1/messages/count_tokens",
            Self::OpenAiResponses => "/v1/responses",
            Self::OpenAiChat => "/v1/chat/completions",
        }
    }

    /// The dialect whose requests go to this path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.path() == path)
    }
}

/// One request, as the door understood it. The daemon checks it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// Whose protocol.
    pub dialect: Dialect,
    /// The body: one I-JSON object as text, at most [`MAX_BYTES`].
    pub body: String,
    /// Headers that change meaning and are on the maintained list: those that [`pass_header`] gave.
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

impl FailureKind {
    /// The HTTP status that the harness sees.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotGranted | Self::LimitReached => 403,
            Self::Upstream => 502,
        }
    }
}

/// What an agent may do with models beyond the lists. Nothing can be granted yet; each future grant is a field here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {}

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not I-JSON, or past a limit of size.
    #[error("the body is not acceptable JSON: {0}")]
    NotJson(String),
    /// A value that the protocol doesn't have at this place.
    #[error("`{path}` {why}")]
    Malformed {
        /// Where, as a JSON path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that this agent was not granted, or that nobody has looked at yet.
    #[error("`{path}` was refused: {why}; this agent was not granted it")]
    NotGranted {
        /// Where, as a JSON path.
        path: String,
        /// What it would do.
        why: String,
    },
}

impl From<Refusal> for ModelFailure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::NotJson(_) | Refusal::Malformed { .. } => FailureKind::Malformed,
            Refusal::NotGranted { .. } => FailureKind::NotGranted,
        };
        Self { kind, message: refusal.to_string() }
    }
}

/// A body that holds nothing but what the dialect's list names.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuilt {
    dialect: Dialect,
    body: Json,
}

/// Parts of a prompt that are not text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Media {
    /// Pictures.
    pub images: u64,
    /// Documents, other files, and sound: packed, so that few bytes may hold any number of pages.
    pub documents: u64,
}

impl Media {
    fn count(&mut self, value: &Json) {
        match value {
            Json::Object(fields) => {
                if let Some(Json::Text(kind)) = value.get("type") {
                    match kind.as_str() {
                        "image" | "image_url" | "input_image" => self.images = self.images.saturating_add(1),
                        "document" | "file" | "input_file" | "input_audio" => {
                            self.documents = self.documents.saturating_add(1);
                        }
                        _other => {}
                    }
                }
                fields.iter().for_each(|(_, value)| self.count(value));
            }
            Json::List(values) => values.iter().for_each(|value| self.count(value)),
            Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Float(_) | Json::Text(_) => {}
        }
    }
}

/// Reads `body` strictly and rebuilds it by the list of its dialect.
///
/// # Errors
/// When it is not strict I-JSON, passes a limit, or holds anything that is not on the list and not granted.
pub fn rebuild(dialect: Dialect, body: &str, grants: &Grants) -> Result<Rebuilt, Refusal> {
    // Names every grant, so that a new one can't be forgotten here.
    let Grants {} = grants;
    let value = Json::parse(body, BOUNDS).map_err(Refusal::NotJson)?;
    let list = match dialect {
        Dialect::AnthropicMessages => &anthropic::MESSAGES,
        Dialect::AnthropicCountTokens => &anthropic::COUNT_TOKENS,
        Dialect::OpenAiResponses => &responses::RESPONSES,
        Dialect::OpenAiChat => &chat::CHAT,
    };
    let body = list.rebuild(value, &shape::Path::ROOT)?;
    Ok(Rebuilt { dialect, body })
}

impl Rebuilt {
    /// The model that was asked for.
    #[must_use]
    pub fn model(&self) -> &str {
        self.text("model").unwrap_or_default()
    }

    /// Exchanges the model: what the provider calls it.
    pub fn set_model(&mut self, model: &str) {
        self.body.set("model", Json::Text(model.to_owned()));
    }

    /// Whether the answer is to come as events.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.body.get("stream") == Some(&Json::Bool(true))
    }

    /// The most tokens that the request lets the model write, when it says so.
    #[must_use]
    pub fn max_output(&self) -> Option<u64> {
        let keys: &[&str] = match self.dialect {
            Dialect::AnthropicMessages => &["max_tokens"],
            Dialect::AnthropicCountTokens => return Some(0),
            Dialect::OpenAiResponses => &["max_output_tokens"],
            Dialect::OpenAiChat => &["max_completion_tokens", "max_tokens"],
        };
        let stated = keys.iter().filter_map(|key| match self.body.get(key) {
            Some(Json::Integer(n)) => u64::try_from(*n).ok(),
            Some(_) | None => None,
        });
        stated.max()
    }

    /// What of it is not text, and so may be more tokens than bytes.
    #[must_use]
    pub fn media(&self) -> Media {
        let mut media = Media::default();
        media.count(&self.body);
        media
    }

    /// Makes a Chat stream end with its usage, which it otherwise keeps to itself. Other dialects always tell.
    pub fn ask_for_usage(&mut self) {
        if self.dialect == Dialect::OpenAiChat && self.streams() {
            let mut options = self.body.get("stream_options").cloned().unwrap_or(Json::Object(Vec::new()));
            options.set("include_usage", Json::Bool(true));
            self.body.set("stream_options", options);
        }
    }

    /// Leaves out a field that the provider does not take.
    pub fn leave_out(&mut self, field: &str) {
        self.body.remove(field);
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.body.get(key) {
            Some(Json::Text(text)) => Some(text),
            Some(_) | None => None,
        }
    }
}

/// The body as JSON text.
impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

/// A text of a stranger, short and printable, in backticks.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_default).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
