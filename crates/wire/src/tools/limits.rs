//! How large what tools take and give may be. Door and gateway hold every message against it.

use crate::json::{Bounds, Json};

use super::content::{
    Content, Contents, Message, Progress, Prompt, PromptText, Resource, ResourceBody, ResourceTemplate, Tool,
    ToolResult,
};
use super::{ToolFailure, ToolsAnswer, ToolsAsk, ToolsReply};

/// One MCP message of a program in a cell.
pub const BODY: Bounds = Bounds { bytes: 4 << 20, depth: 64, values: 100_000 };
/// The arguments of one call.
pub const ARGUMENTS: Bounds = Bounds { bytes: BODY.bytes, depth: 48, values: BODY.values };
/// One JSON Schema.
pub const SCHEMA: Bounds = Bounds { bytes: 128 << 10, depth: 48, values: 10_000 };
/// A structured result.
pub const STRUCTURED: Bounds = Bounds { bytes: MAX_CONTENT, depth: 64, values: 200_000 };

/// Most bytes of a frame that carries a [`ToolsAsk`].
pub const MAX_ASK: usize = BODY.bytes + (64 << 10);
/// Most bytes of texts and binary content in one answer together.
pub const MAX_CONTENT: usize = 8 << 20;
/// Most bytes of a frame that carries a [`ToolsAnswer`].
pub const MAX_REPLY: usize = MAX_CONTENT + (1 << 20);

/// Most entries of a list of tools, resources or prompts.
pub const MAX_ITEMS: usize = 1000;
/// Most parts of a result, of a resource or of a prompt.
pub const MAX_PARTS: usize = 1000;
/// Most bytes of a name, a title or a media type.
pub const MAX_NAME: usize = 256;
/// Most bytes of a URI.
pub const MAX_URI: usize = 8 << 10;
/// Most bytes of a line of progress or of a hint.
pub const MAX_SHORT: usize = 1 << 10;
/// Most bytes of a description or of a failure's message.
pub const MAX_LONG: usize = 16 << 10;

/// What is larger than allowed, or not the JSON that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// A text.
    #[error("the {what} has {found} bytes where at most {max} are allowed")]
    Bytes {
        /// Of what.
        what: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A list.
    #[error("there are {found} {what} where at most {max} are allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// Found.
        found: usize,
        /// Allowed.
        max: usize,
    },
    /// All of it together.
    #[error("the answer has more than {MAX_CONTENT} bytes")]
    Content,
    /// JSON.
    #[error("the {what} can't be read: {why}")]
    Json {
        /// Of what.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// The text, cut where it is longer than so many bytes.
#[must_use]
pub fn shortened(mut text: String, max: usize) -> String {
    const MARK: &str = " […]";
    if text.len() > max {
        let end = (0..=max.saturating_sub(MARK.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(MARK);
    }
    text
}

impl ToolsAsk {
    /// Holds the question against the limits; the arguments of a call must be one I-JSON object.
    ///
    /// # Errors
    /// What is too large or no JSON.
    pub fn check(&self) -> Result<(), TooLarge> {
        match self {
            Self::List | Self::ListResources | Self::ListTemplates | Self::ListPrompts => Ok(()),
            Self::Call { tool, arguments, .. } => {
                bytes("tool's name", tool, MAX_NAME)?;
                object("arguments", arguments, ARGUMENTS)
            }
            Self::ReadResource { uri } => bytes("URI", uri, MAX_URI),
            Self::GetPrompt { name, arguments } => {
                bytes("prompt's name", name, MAX_NAME)?;
                count("arguments", arguments.len(), MAX_PARTS)?;
                let mut left = BODY.bytes;
                for (name, value) in arguments {
                    bytes("argument's name", name, MAX_NAME)?;
                    left = left.checked_sub(name.len() + value.len()).ok_or(TooLarge::Content)?;
                }
                Ok(())
            }
        }
    }
}

impl ToolsAnswer {
    /// Holds the answer against the limits; schemas and structured results must be I-JSON.
    ///
    /// # Errors
    /// What is too large or no JSON.
    pub fn check(&self) -> Result<(), TooLarge> {
        match self {
            Self::Progress(progress) => progress.check(),
            Self::Reply(reply) => reply.check(),
            Self::Failed(ToolFailure { kind: _, message, hint }) => {
                bytes("message", message, MAX_LONG)?;
                optional("hint", hint.as_deref(), MAX_SHORT)
            }
        }
    }
}

impl Progress {
    /// Holds the message against its limit.
    ///
    /// # Errors
    /// When it is too long.
    pub fn check(&self) -> Result<(), TooLarge> {
        optional("progress", self.message.as_deref(), MAX_SHORT)
    }
}

impl ToolsReply {
    /// As [`ToolsAnswer::check`].
    ///
    /// # Errors
    /// What is too large or no JSON.
    pub fn check(&self) -> Result<(), TooLarge> {
        let mut budget = Budget(MAX_CONTENT);
        match self {
            Self::Tools(tools) => budget.items("tools", tools, |budget, tool| tool.spend(budget)),
            Self::Result(result) => result.check(),
            Self::Resources(resources) => {
                budget.items("resources", resources, |budget, resource| resource.spend(budget))
            }
            Self::Templates(templates) => {
                budget.items("templates", templates, |budget, template| template.spend(budget))
            }
            Self::Contents(contents) => {
                budget.items("parts", contents, |budget, contents| contents.spend(budget))
            }
            Self::Prompts(prompts) => budget.items("prompts", prompts, |budget, prompt| prompt.spend(budget)),
            Self::Prompt(prompt) => prompt.spend(&mut budget),
        }
    }
}

/// Bytes that an answer may still have.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooLarge::Content)?;
        Ok(())
    }

    fn text(&mut self, what: &'static str, text: &str, max: usize) -> Result<(), TooLarge> {
        bytes(what, text, max)?;
        self.take(text.len())
    }

    fn optional(&mut self, what: &'static str, text: Option<&str>, max: usize) -> Result<(), TooLarge> {
        text.map_or(Ok(()), |text| self.text(what, text, max))
    }

    fn items<T>(
        &mut self,
        what: &'static str,
        items: &[T],
        spend: impl Fn(&mut Self, &T) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        count(what, items.len(), MAX_ITEMS)?;
        items.iter().try_for_each(|item| spend(self, item))
    }
}

impl Tool {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.text("tool's name", &self.name, MAX_NAME)?;
        budget.optional("tool's title", self.title.as_deref(), MAX_NAME)?;
        budget.optional("tool's description", self.description.as_deref(), MAX_LONG)?;
        for schema in [Some(&self.input_schema), self.output_schema.as_ref()].into_iter().flatten() {
            budget.take(schema.len())?;
            object("tool's schema", schema, SCHEMA)?;
        }
        Ok(())
    }
}

impl ToolResult {
    /// As [`ToolsAnswer::check`].
    ///
    /// # Errors
    /// What is too large or no JSON.
    pub fn check(&self) -> Result<(), TooLarge> {
        self.spend(&mut Budget(MAX_CONTENT))
    }

    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        count("parts", self.content.len(), MAX_PARTS)?;
        if let Some(structured) = &self.structured {
            budget.take(structured.len())?;
            json("structured result", structured, STRUCTURED)?;
        }
        self.content.iter().try_for_each(|content| content.spend(budget))
    }
}

impl Content {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        match self {
            Self::Text(text) => budget.take(text.len()),
            Self::Image { mime, data } | Self::Audio { mime, data } => {
                budget.text("media type", mime, MAX_NAME)?;
                budget.take(data.len())
            }
            Self::Resource(contents) => contents.spend(budget),
            Self::Link(resource) => resource.spend(budget),
        }
    }
}

impl Contents {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.text("URI", &self.uri, MAX_URI)?;
        budget.optional("media type", self.mime.as_deref(), MAX_NAME)?;
        match &self.body {
            ResourceBody::Text(text) => budget.take(text.len()),
            ResourceBody::Bytes(bytes) => budget.take(bytes.len()),
        }
    }
}

impl Resource {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.text("URI", &self.uri, MAX_URI)?;
        budget.text("resource's name", &self.name, MAX_NAME)?;
        budget.optional("resource's title", self.title.as_deref(), MAX_NAME)?;
        budget.optional("resource's description", self.description.as_deref(), MAX_LONG)?;
        budget.optional("media type", self.mime.as_deref(), MAX_NAME)
    }
}

impl ResourceTemplate {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.text("URI template", &self.uri_template, MAX_URI)?;
        budget.text("template's name", &self.name, MAX_NAME)?;
        budget.optional("template's title", self.title.as_deref(), MAX_NAME)?;
        budget.optional("template's description", self.description.as_deref(), MAX_LONG)?;
        budget.optional("media type", self.mime.as_deref(), MAX_NAME)
    }
}

impl Prompt {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.text("prompt's name", &self.name, MAX_NAME)?;
        budget.optional("prompt's title", self.title.as_deref(), MAX_NAME)?;
        budget.optional("prompt's description", self.description.as_deref(), MAX_LONG)?;
        count("arguments", self.arguments.len(), MAX_PARTS)?;
        self.arguments.iter().try_for_each(|argument| {
            budget.text("argument's name", &argument.name, MAX_NAME)?;
            budget.optional("argument's description", argument.description.as_deref(), MAX_LONG)
        })
    }
}

impl PromptText {
    fn spend(&self, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.optional("prompt's description", self.description.as_deref(), MAX_LONG)?;
        count("messages", self.messages.len(), MAX_PARTS)?;
        self.messages.iter().try_for_each(|Message { role: _, content }| content.spend(budget))
    }
}

fn bytes(what: &'static str, text: &str, max: usize) -> Result<(), TooLarge> {
    let found = text.len();
    if found > max { Err(TooLarge::Bytes { what, found, max }) } else { Ok(()) }
}

fn optional(what: &'static str, text: Option<&str>, max: usize) -> Result<(), TooLarge> {
    text.map_or(Ok(()), |text| bytes(what, text, max))
}

fn count(what: &'static str, found: usize, max: usize) -> Result<(), TooLarge> {
    if found > max { Err(TooLarge::Count { what, found, max }) } else { Ok(()) }
}

fn json(what: &'static str, text: &str, bounds: Bounds) -> Result<Json, TooLarge> {
    Json::parse(text, bounds).map_err(|why| TooLarge::Json { what, why })
}

fn object(what: &'static str, text: &str, bounds: Bounds) -> Result<(), TooLarge> {
    let found = json(what, text, bounds)?;
    if matches!(found, Json::Object(_)) {
        return Ok(());
    }
    Err(TooLarge::Json { what, why: format!("it is {} and not an object", found.kind()) })
}
