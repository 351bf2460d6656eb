//! The nouns of MCP that pass the door: tools, results, resources, prompts. What only decorates (icons, annotations of
//! content, `_meta`) is not among them.

use serde::{Deserialize, Serialize};

/// A tool, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// What it is called by.
    pub name: String,
    /// What people call it.
    pub title: Option<String>,
    /// What the model is told about it.
    pub description: Option<String>,
    /// The JSON Schema of its arguments: one I-JSON object as text.
    pub input_schema: String,
    /// The JSON Schema of its structured result: one I-JSON object as text.
    pub output_schema: Option<String>,
    /// What its server says of its effects.
    pub hints: Hints,
}

/// What a server says of a tool's effects. Nobody has checked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hints {
    /// It changes nothing.
    pub read_only: Option<bool>,
    /// It may destroy something.
    pub destructive: Option<bool>,
    /// To call it again with the same arguments changes nothing more.
    pub idempotent: Option<bool>,
    /// It reaches what its server does not own.
    pub open_world: Option<bool>,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ToolResult {
    /// In order.
    pub content: Vec<Content>,
    /// The structured result: one I-JSON value as text.
    pub structured: Option<String>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

/// One part of a result or of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Text.
    Text(String),
    /// A picture.
    Image {
        /// Media type.
        mime: String,
        /// Its bytes.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// Sound.
    Audio {
        /// Media type.
        mime: String,
        /// Its bytes.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// A resource with what is in it.
    Resource(Contents),
    /// A resource by its name.
    Link(Resource),
}

/// A resource, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// What it is read by.
    pub uri: String,
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// Media type.
    pub mime: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
}

/// A family of resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceTemplate {
    /// The pattern of their URIs (RFC 6570).
    pub uri_template: String,
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: Option<String>,
    /// What they are.
    pub description: Option<String>,
    /// Media type of all of them.
    pub mime: Option<String>,
}

/// What is in a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Which.
    pub uri: String,
    /// Media type.
    pub mime: Option<String>,
    /// The content itself.
    pub body: ResourceBody,
}

/// Content of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceBody {
    /// As text.
    Text(String),
    /// As bytes.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// A prompt, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// What it is got by.
    pub name: String,
    /// What people call it.
    pub title: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What can be filled in.
    pub arguments: Vec<PromptArgument>,
}

/// One thing that can be filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptArgument {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Whether it must be filled in.
    pub required: bool,
}

/// A prompt, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PromptText {
    /// What it is for.
    pub description: Option<String>,
    /// In order.
    pub messages: Vec<Message>,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Whose words it is to be taken for.
    pub role: Role,
    /// What it says.
    pub content: Content,
}

/// Whose words a message is to be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The person's.
    User,
    /// The model's.
    Assistant,
}

/// How a call goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How much is done, in the tool's own unit.
    pub done: Amount,
    /// How much there is to do.
    pub total: Option<Amount>,
    /// In words.
    pub message: Option<String>,
}

/// A finite number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Amount(f64);

impl Amount {
    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Amount {
    type Error = &'static str;
    fn try_from(number: f64) -> Result<Self, Self::Error> {
        if number.is_finite() { Ok(Self(number)) } else { Err("an amount is a finite number") }
    }
}

impl From<Amount> for f64 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}
