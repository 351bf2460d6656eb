//! The tool server that the conformance suite's server scenarios want, but for what a tool server behind Lazaret may not
//! do: ask back, log, complete, take subscriptions.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, Implementation, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, Prompt,
    PromptArgument, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
    ResourceContents, ResourceTemplate, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";
/// Its tools.
pub(crate) const TOOLS: [&str; 8] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "test_tool_with_progress",
    SCHEMA_TOOL,
];
const SCHEMA_TOOL: &str = "json_schema_2020_12_tool";

type Context = RequestContext<RoleServer>;

/// Serves it on loopback for as long as the tasks run, and gives its address.
pub(crate) async fn serve(tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/mcp", listener.local_addr().expect("its address"));
    let service = StreamableHttpService::new(
        || Ok(Wanted),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    tasks.spawn(async move {
        let mut served = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            while served.try_join_next().is_some() {}
            let service = service.clone();
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.handle(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            served.spawn(async move {
                drop(http.serve_connection(TokioIo::new(connection), answer).await);
            });
        }
    });
    address
}

struct Wanted;

impl ServerHandler for Wanted {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("wanted", "1"))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str| Tool::new(name, format!("does {name}"), schema(name));
        Ok(ListToolsResult::with_all_items(TOOLS.map(tool).to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "test_tool_with_progress" {
            tell_progress(&context).await;
        }
        let result = result(&request.name).ok_or_else(|| missing("tool"))?;
        Ok(made::<CallToolResult>(result).into())
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        let text = Resource::new("test://static-text", "text").with_mime_type("text/plain");
        let binary = Resource::new("test://static-binary", "binary").with_mime_type("image/png");
        Ok(ListResourcesResult::with_all_items(vec![
            text.with_description("some text"),
            binary.with_description("a picture"),
        ]))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = ResourceTemplate::new("test://template/{id}/data", "data");
        Ok(ListResourceTemplatesResult::with_all_items(vec![template.with_mime_type("application/json")]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (uri, id) {
            ("test://static-text", _) => {
                let text = "This is the content of the static text resource.";
                ResourceContents::text(text, uri).with_mime_type("text/plain")
            }
            ("test://static-binary", _) => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
            (_, Some(id)) => {
                let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
            }
            _ => return Err(ErrorData::resource_not_found("no such resource", None)),
        };
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        let with = |name: &'static str, arguments: &[&str]| {
            let arguments = arguments
                .iter()
                .map(|name| PromptArgument::new(*name).with_description("an argument").with_required(true));
            let arguments: Vec<_> = arguments.collect();
            Prompt::new(name, Some("a prompt"), Some(arguments))
        };
        Ok(ListPromptsResult::with_all_items(vec![
            with("test_simple_prompt", &[]),
            with("test_prompt_with_arguments", &["arg1", "arg2"]),
            with("test_prompt_with_embedded_resource", &["resourceUri"]),
            with("test_prompt_with_image", &[]),
        ]))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let given = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let contents = match request.name.as_str() {
            "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
            "test_prompt_with_arguments" => {
                let (first, second) = (given("arg1"), given("arg2"));
                vec![text(&format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
            }
            "test_prompt_with_embedded_resource" => {
                let embedded = "Embedded resource content for testing.";
                vec![
                    resource(given("resourceUri"), "text/plain", embedded),
                    text("Please process the embedded resource above."),
                ]
            }
            "test_prompt_with_image" => vec![image(), text("Please analyze the image above.")],
            _ => return Err(missing("prompt")),
        };
        let messages: Vec<Value> =
            contents.iter().map(|content| json!({"role": "user", "content": content})).collect();
        Ok(made::<GetPromptResult>(json!({"messages": messages})).into())
    }
}

fn schema(tool: &str) -> JsonObject {
    if tool != SCHEMA_TOOL {
        return made(json!({"type": "object"}));
    }
    made(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }},
        "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
        "additionalProperties": false,
    }))
}

/// What a tool of this name answers.
fn result(tool: &str) -> Option<Value> {
    let content = match tool {
        "test_simple_text" => vec![text("This is a simple text response for testing.")],
        "test_image_content" => vec![image()],
        "test_audio_content" => vec![json!({"type": "audio", "data": WAV, "mimeType": "audio/wav"})],
        "test_embedded_resource" => {
            let embedded = "This is an embedded resource content.";
            vec![resource("test://embedded-resource", "text/plain", embedded)]
        }
        "test_multiple_content_types" => {
            let data = json!({"test": "data", "value": 123}).to_string();
            vec![
                text("Multiple content types test:"),
                image(),
                resource("test://mixed-content-resource", "application/json", &data),
            ]
        }
        "test_error_handling" => {
            let why = text("This tool intentionally returns an error for testing");
            return Some(json!({"isError": true, "content": [why]}));
        }
        "test_tool_with_progress" | SCHEMA_TOOL => vec![text("done")],
        _ => return None,
    };
    Some(json!({"content": content}))
}

async fn tell_progress(context: &Context) {
    let Some(token) = context.meta.get_progress_token() else { return };
    for step in [0.0, 50.0, 100.0] {
        let mut told = ProgressNotificationParam::new(token.clone(), step);
        told.total = Some(100.0);
        context.peer.notify_progress(told).await.expect("the gateway listens");
        // As the suite wants it: it counts what comes apart.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image() -> Value {
    json!({"type": "image", "data": PNG, "mimeType": "image/png"})
}

fn resource(uri: &str, mime: &str, text: &str) -> Value {
    json!({"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": text}})
}

fn made<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it is what the protocol says")
}

fn missing(what: &str) -> ErrorData {
    ErrorData::invalid_params(format!("there is no such {what}"), None)
}
