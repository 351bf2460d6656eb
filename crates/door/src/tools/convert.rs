//! From the daemon's words to MCP's.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model as mcp;
use wire::tools::{
    Content, Contents, Hints, Prompt, PromptText, Resource, ResourceBody, ResourceTemplate, Role, Tool,
    ToolFailure, ToolFailureKind, ToolResult,
};

/// What a model or a person reads of a failure.
pub(super) fn told(failure: ToolFailure) -> String {
    let hint = failure.hint.map(|hint| format!("\n{hint}")).unwrap_or_default();
    format!("lazaret: {}{hint}", failure.message)
}

/// JSON that was checked is parsed again by the library's types.
fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ToolFailure> {
    serde_json::from_str(text).map_err(|error| ToolFailure::new(ToolFailureKind::Internal, error.to_string()))
}

pub(super) fn tool(tool: Tool) -> Result<mcp::Tool, ToolFailure> {
    let schema: mcp::JsonObject = parsed(&tool.input_schema)?;
    let mut shown = mcp::Tool::new_with_raw(tool.name, tool.description.map(Into::into), schema);
    shown.title = tool.title;
    shown.output_schema = tool.output_schema.as_deref().map(parsed).transpose()?.map(Arc::new);
    if tool.hints != Hints::default() {
        let Hints { read_only, destructive, idempotent, open_world } = tool.hints;
        let hints = mcp::ToolAnnotations::from_raw(None, read_only, destructive, idempotent, open_world);
        shown.annotations = Some(hints);
    }
    Ok(shown)
}

pub(super) fn result(result: ToolResult) -> Result<mcp::CallToolResult, ToolFailure> {
    let structured = result.structured.as_deref().map(parsed).transpose()?;
    let content = result.content.into_iter().map(content).collect();
    let mut shown = mcp::CallToolResult::success(content);
    shown.structured_content = structured;
    shown.is_error = Some(result.is_error);
    Ok(shown)
}

fn content(content: Content) -> mcp::ContentBlock {
    match content {
        Content::Text(text) => mcp::ContentBlock::text(text),
        Content::Image { mime, data } => mcp::ContentBlock::image(STANDARD.encode(data), mime),
        Content::Audio { mime, data } => {
            mcp::ContentBlock::Audio(mcp::AudioContent::new(STANDARD.encode(data), mime))
        }
        Content::Resource(contents_) => mcp::ContentBlock::resource(contents(contents_)),
        Content::Link(link) => mcp::ContentBlock::resource_link(resource(link)),
    }
}

pub(super) fn resource(resource: Resource) -> mcp::Resource {
    let mut shown = mcp::Resource::new(resource.uri, resource.name);
    shown.title = resource.title;
    shown.description = resource.description;
    shown.mime_type = resource.mime;
    shown.size = resource.size;
    shown
}

pub(super) fn template(template: ResourceTemplate) -> mcp::ResourceTemplate {
    let mut shown = mcp::ResourceTemplate::new(template.uri_template, template.name);
    shown.title = template.title;
    shown.description = template.description;
    shown.mime_type = template.mime;
    shown
}

pub(super) fn contents(contents: Contents) -> mcp::ResourceContents {
    let Contents { uri, mime: mime_type, body } = contents;
    match body {
        ResourceBody::Text(text) => {
            mcp::ResourceContents::TextResourceContents { uri, mime_type, text, meta: None }
        }
        ResourceBody::Bytes(bytes) => {
            let blob = STANDARD.encode(bytes);
            mcp::ResourceContents::BlobResourceContents { uri, mime_type, blob, meta: None }
        }
    }
}

pub(super) fn prompt(prompt: Prompt) -> mcp::Prompt {
    let arguments = prompt.arguments.into_iter().map(|argument| {
        let mut shown = mcp::PromptArgument::new(argument.name).with_required(argument.required);
        shown.description = argument.description;
        shown
    });
    let mut shown = mcp::Prompt::from_raw(prompt.name, prompt.description, Some(arguments.collect()));
    shown.title = prompt.title;
    shown
}

pub(super) fn prompt_text(prompt: PromptText) -> mcp::GetPromptResult {
    let messages = prompt.messages.into_iter().map(|message| {
        let role = match message.role {
            Role::User => mcp::Role::User,
            Role::Assistant => mcp::Role::Assistant,
        };
        mcp::PromptMessage::new(role, content(message.content))
    });
    let mut shown = mcp::GetPromptResult::new(messages.collect());
    shown.description = prompt.description;
    shown
}
