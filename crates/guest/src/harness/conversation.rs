//! A conversation with a model, whatever the provider's protocol: what was said, called and answered.

use std::borrow::Cow;

use serde_json::Value;

/// One entry of a conversation, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// What the person asks.
    Person(String),
    /// What the model said and which tools it called.
    Model(Turn),
    /// The results of those calls, in their order.
    Results(Vec<ToolResult>),
}

/// One turn of the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Turn {
    /// Its text.
    pub(super) text: String,
    /// The tools it calls.
    pub(super) calls: Vec<ToolCall>,
    /// Whether it was cut off at the limit of tokens for one answer.
    pub(super) cut_off: bool,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ToolCall {
    /// The provider's id for the call.
    pub(super) id: String,
    /// The tool's name.
    pub(super) name: String,
    /// The arguments, JSON as the model wrote it; empty means none.
    pub(super) arguments: String,
}

impl ToolCall {
    /// The arguments as an object, or what is wrong with them, for the model.
    pub(super) fn object(&self) -> Result<serde_json::Map<String, Value>, String> {
        if self.arguments.trim().is_empty() {
            return Ok(serde_json::Map::new());
        }
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err("the arguments must be a JSON object".to_owned()),
            Err(e) => Err(format!("the arguments are not valid JSON: {e}")),
        }
    }
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ToolResult {
    /// Id of the call.
    pub(super) id: String,
    /// What it answered, or what went wrong.
    pub(super) text: String,
    /// Whether it went wrong.
    pub(super) is_error: bool,
}

/// A tool as it is described to the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: Cow<'static, str>,
    /// What it does.
    pub(super) description: Cow<'static, str>,
    /// JSON schema of its arguments.
    pub(super) schema: Value,
}
