//! From MCP's words to the wire's. Nothing of a server is trusted: names must be names, base64 must be base64, and what
//! is not understood is withheld or fails.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ToolName;
use rmcp::model as mcp;
use wire::json::Json;
use wire::tools::{
    Content, Contents, Hints, Message, Prompt, PromptArgument, PromptText, Resource, ResourceBody,
    ResourceTemplate, Role, SCHEMA, ToolFailure, ToolResult,
};

use super::strict::failed;
use super::{ToolDescription, Withheld};

/// A tool, or why it can't be offered.
pub(super) fn tool(tool: mcp::Tool) -> Result<ToolDescription, Withheld> {
    let name = tool.name.into_owned();
    let withheld = |why: String| Withheld { name: shown(&name), why };
    let parsed: ToolName = name.parse().map_err(|why: domain::ToolNameError| withheld(why.to_string()))?;
    let schema = |schema: &mcp::JsonObject| {
        let text = serde_json::to_string(schema).map_err(|error| withheld(error.to_string()))?;
        Json::parse(&text, SCHEMA).map_err(|why| withheld(format!("its schema can't be read: {why}")))?;
        Ok(text)
    };
    let hints = tool.annotations.unwrap_or_default();
    let title = tool.title.or(hints.title);
    let description = tool.description.map(std::borrow::Cow::into_owned);
    let long = |text: &Option<String>, max: usize| text.as_ref().is_some_and(|text| text.len() > max);
    if long(&title, wire::tools::MAX_NAME) || long(&description, wire::tools::MAX_LONG) {
        return Err(withheld("its title or description is too long".to_owned()));
    }
    Ok(ToolDescription {
        input_schema: schema(&tool.input_schema)?,
        output_schema: tool.output_schema.as_deref().map(schema).transpose()?,
        name: parsed,
        title,
        description,
        hints: Hints {
            read_only: hints.read_only_hint,
            destructive: hints.destructive_hint,
            idempotent: hints.idempotent_hint,
            open_world: hints.open_world_hint,
        },
    })
}

/// A server's text at a length, and with nothing in it, that harms whoever reads it in a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

pub(super) fn result(result: mcp::CallToolResult) -> Result<ToolResult, ToolFailure> {
    Ok(ToolResult {
        content: result.content.into_iter().map(content).collect::<Result<_, _>>()?,
        structured: result.structured_content.map(|structured| structured.to_string()),
        is_error: result.is_error.unwrap_or_default(),
    })
}

fn content(block: mcp::ContentBlock) -> Result<Content, ToolFailure> {
    match block {
        mcp::ContentBlock::Text(text) => Ok(Content::Text(text.text)),
        mcp::ContentBlock::Image(image) => {
            Ok(Content::Image { data: bytes(&image.data)?, mime: image.mime_type })
        }
        mcp::ContentBlock::Audio(audio) => {
            Ok(Content::Audio { data: bytes(&audio.data)?, mime: audio.mime_type })
        }
        mcp::ContentBlock::Resource(embedded) => contents(embedded.resource).map(Content::Resource),
        mcp::ContentBlock::ResourceLink(link) => Ok(Content::Link(resource(link))),
        // Kinds that came after this was written.
        _ => Err(failed("it sent content of an unknown kind")),
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, ToolFailure> {
    STANDARD.decode(text).map_err(|_| failed("it sent content that is not base64"))
}

pub(super) fn resource(resource: mcp::Resource) -> Resource {
    Resource {
        uri: resource.uri,
        name: resource.name,
        title: resource.title,
        description: resource.description,
        mime: resource.mime_type,
        size: resource.size,
    }
}

pub(super) fn template(template: mcp::ResourceTemplate) -> ResourceTemplate {
    ResourceTemplate {
        uri_template: template.uri_template,
        name: template.name,
        title: template.title,
        description: template.description,
        mime: template.mime_type,
    }
}

pub(super) fn contents(contents: mcp::ResourceContents) -> Result<Contents, ToolFailure> {
    match contents {
        mcp::ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
            Ok(Contents { uri, mime: mime_type, body: ResourceBody::Text(text) })
        }
        mcp::ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
            Ok(Contents { uri, mime: mime_type, body: ResourceBody::Bytes(bytes(&blob)?) })
        }
        // Kinds that came after this was written.
        _ => Err(failed("it sent a resource of an unknown kind")),
    }
}

pub(super) fn prompt(prompt: mcp::Prompt) -> Prompt {
    let arguments = prompt.arguments.unwrap_or_default().into_iter().map(|argument| PromptArgument {
        name: argument.name,
        description: argument.description,
        required: argument.required.unwrap_or_default(),
    });
    Prompt {
        name: prompt.name,
        title: prompt.title,
        description: prompt.description,
        arguments: arguments.collect(),
    }
}

pub(super) fn prompt_text(prompt: mcp::GetPromptResult) -> Result<PromptText, ToolFailure> {
    let message = |message: mcp::PromptMessage| {
        let role = match message.role {
            mcp::Role::User => Role::User,
            mcp::Role::Assistant => Role::Assistant,
        };
        Ok(Message { role, content: content(message.content)? })
    };
    let messages = prompt.messages.into_iter().map(message).collect::<Result<_, _>>()?;
    Ok(PromptText { description: prompt.description, messages })
}
