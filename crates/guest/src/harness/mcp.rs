//! The tools that the host offers: a small client of the MCP endpoint on the container's loopback, in the protocol's
//! newest revision, which needs no greeting.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::conversation::Tool;
use super::http::{Body, ModelError, Server};
use super::{one_line, progress, sse};

/// The revision that is spoken.
const REVISION: &str = "2026-07-28";
/// Longest name that model providers take.
const MAX_NAME: usize = 64;
/// Most bytes of one answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why the host's tools could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum McpError {
    /// The endpoint can't be reached, or broke off.
    #[error("the tools' endpoint: {0}")]
    Endpoint(#[from] ModelError),
    /// It answered something that is not MCP.
    #[error("the tools' endpoint answered what can't be understood: {0}")]
    Malformed(String),
    /// It answered with an error.
    #[error("{0}")]
    Refused(String),
}

/// The host's tools.
#[derive(Debug)]
pub(super) struct HostTools {
    server: Server,
    path: String,
    names: HashSet<String>,
    next_id: AtomicU64,
}

impl HostTools {
    /// Asks the endpoint at `url` which tools there are.
    ///
    /// # Errors
    /// When it can't be asked.
    pub(super) async fn connect(url: &str) -> Result<(Self, Vec<Tool>), McpError> {
        let (server, path) = Server::with_path(url)?;
        let mut tools = Self { server, path, names: HashSet::new(), next_id: AtomicU64::new(1) };
        let list = tools.ask("tools/list", None, json!({})).await?;
        let mut offered = Vec::new();
        for tool in list.get("tools").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| tool.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = text("name");
            if name.is_empty() || name.len() > MAX_NAME {
                progress(&format!("the tool `{}` is left out: its name is too long", one_line(&name)));
                continue;
            }
            let schema = tool.get("inputSchema").cloned().unwrap_or_else(|| json!({"type": "object"}));
            tools.names.insert(name.clone());
            offered.push(Tool { name: name.into(), description: text("description").into(), schema });
        }
        Ok((tools, offered))
    }

    /// Whether this is one of the host's tools.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Calls a tool: its text for the model, or what went wrong.
    pub(super) async fn call(&self, name: &str, arguments: Value) -> Result<String, String> {
        let params = json!({"name": name, "arguments": arguments});
        let result = self.ask("tools/call", Some(name), params).await.map_err(|error| error.to_string())?;
        let text = text_of(&result);
        if result.get("isError").and_then(Value::as_bool).unwrap_or_default() { Err(text) } else { Ok(text) }
    }

    async fn ask(&self, method: &str, name: Option<&str>, mut params: Value) -> Result<Value, McpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if let Some(params) = params.as_object_mut() {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "lazaret", "version": env!("CARGO_PKG_VERSION")},
                "progressToken": id,
            });
            params.insert("_meta".to_owned(), meta);
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut headers = vec![
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", REVISION),
            ("mcp-method", method),
        ];
        headers.extend(name.map(|name| ("mcp-name", name)));
        let (response, connection) = self.server.post(&self.path, &headers, message.to_string()).await?;
        let answer = read(response, id).await?;
        drop(connection);
        if let Some(error) = answer.get("error") {
            let why = error.get("message").and_then(Value::as_str).unwrap_or("it gave no reason");
            return Err(McpError::Refused(why.chars().take(2000).collect()));
        }
        answer.get("result").cloned().ok_or_else(|| McpError::Malformed("no result".to_owned()))
    }
}

/// Reads up to the answer to this request; progress is shown.
async fn read(response: Response<Incoming>, id: u64) -> Result<Value, McpError> {
    let malformed = |why: &dyn std::fmt::Display| McpError::Malformed(why.to_string());
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_events = kind.starts_with("text/event-stream");
    let mut body = Body::new(response.into_body(), MAX_ANSWER);
    if !is_events {
        let bytes = body.whole().await?;
        return serde_json::from_slice(&bytes).map_err(|error| malformed(&error));
    }
    let mut parser = sse::Parser::new(MAX_ANSWER);
    while let Some(bytes) = body.next().await? {
        for event in parser.feed(&bytes).map_err(|error| malformed(&error))? {
            if event.is_empty() {
                continue;
            }
            let message: Value = serde_json::from_str(&event).map_err(|error| malformed(&error))?;
            if message.get("id").and_then(Value::as_u64) == Some(id) {
                return Ok(message);
            }
            if let Some(told) = message.pointer("/params/message").and_then(Value::as_str) {
                progress(&one_line(told));
            }
        }
    }
    Err(malformed(&"it broke off"))
}

/// What a model can read of a result.
fn text_of(result: &Value) -> String {
    let part = |part: &Value| {
        let text = |key: &str| part.pointer(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("/type").as_str() {
            "text" => text("/text"),
            "resource" if part.pointer("/resource/text").is_some() => text("/resource/text"),
            "resource" => format!("[resource {}]", text("/resource/uri")),
            "resource_link" => format!("[resource {}]", text("/uri")),
            other => format!("[{other} {}]", text("/mimeType")),
        }
    };
    let content = result.get("content").and_then(Value::as_array);
    let parts: Vec<String> = content.into_iter().flatten().map(part).collect();
    match result.get("structuredContent") {
        Some(structured) if parts.is_empty() => structured.to_string(),
        Some(_) | None => parts.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Serves these responses, one per connection, and gives the requests as text.
    async fn serve(listener: TcpListener, answers: Vec<(&'static str, String)>) -> Vec<String> {
        let mut requests = Vec::new();
        for (kind, body) in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"}}") {
                stream.read_buf(&mut bytes).await.expect("bytes");
            }
            requests.push(String::from_utf8(bytes).expect("text"));
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all((head + &body).as_bytes()).await.expect("sent");
        }
        requests
    }

    #[tokio::test]
    async fn tools_are_listed_and_called() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let long = "x".repeat(65);
        let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [
            {"name": "mail__read", "description": "Reads.", "inputSchema": {"type": "object"}}, {"name": long},
        ]}});
        let told = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 2, "progress": 1, "message": "waiting"}});
        let result = json!({"jsonrpc": "2.0", "id": 2, "result": {"content": [{"type": "text", "text": "hi"}, {"type": "image", "mimeType": "image/png"}]}});
        let failed = json!({"jsonrpc": "2.0", "id": 3, "result": {"isError": true, "content": [{"type": "text", "text": "no"}]}});
        let refused = json!({"jsonrpc": "2.0", "id": 4, "error": {"code": -32602, "message": "unknown"}});
        let events = format!(":\n\ndata: \n\ndata: {told}\n\ndata: {result}\n\n");
        let answers = vec![
            ("application/json", list.to_string()),
            ("text/event-stream", events),
            ("text/event-stream", format!("data: {failed}\n\n")),
            ("application/json", refused.to_string()),
            ("text/event-stream", String::new()),
        ];
        let work = async {
            let (tools, offered) = HostTools::connect(&url).await.expect("tools");
            assert_eq!(offered.len(), 1);
            assert!(tools.has("mail__read") && !tools.has(&long));
            let text = tools.call("mail__read", json!({"a": 1})).await;
            assert_eq!(text, Ok("hi\n[image image/png]".to_owned()));
            assert_eq!(tools.call("mail__read", json!({})).await, Err("no".to_owned()));
            assert_eq!(tools.call("mail__read", json!({})).await, Err("unknown".to_owned()));
            let cut = tools.call("mail__read", json!({})).await;
            assert!(cut.is_err_and(|why| why.contains("broke off")));
        };
        let ((), requests) = tokio::join!(work, serve(listener, answers));
        assert!(requests[0].starts_with("POST /mcp HTTP/1.1"), "{}", requests[0]);
        assert!(
            requests[1].contains("mcp-name: mail__read") && requests[1].contains("mcp-method: tools/call")
        );
        assert!(requests[1].contains(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#));
    }

    #[test]
    fn a_structured_result_is_shown_when_there_is_no_other() {
        assert_eq!(text_of(&json!({"content": [], "structuredContent": {"a": 1}})), r#"{"a":1}"#);
        assert_eq!(
            text_of(&json!({"content": [{"type": "text", "text": "t"}], "structuredContent": {}})),
            "t"
        );
    }
}
