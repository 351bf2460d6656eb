//! The whole way: a program's MCP, a real door, a gate, a real tool server, and back.

use std::sync::Arc;

use domain::ToolRef;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wire::guest::GuestOpens;
use wire::tools::{Contents, Prompt, PromptText, Resource, Tool, ToolFailure, ToolFailureKind};

use super::everything::Everything;
use super::*;
use crate::tests::Rig;
use crate::tests::permits::Kept;
use crate::tests::through_the_door::{Cell, cell_with};
use crate::tools::upstream::Acted;
use crate::tools::{CallContext, ToolCall, ToolGate};
use crate::{BaseUrl, Credential};

/// A gate that lets everything of one server through.
struct Open(Upstream);

impl ToolGate for Open {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Tool>, ToolFailure>> {
        Box::pin(async {
            let tools = self.0.list().await?.tools.into_iter();
            Ok(tools
                .map(|tool| {
                    let name = format!("all__{}", tool.name);
                    tool.shown_as(name)
                })
                .collect())
        })
    }

    fn call(&self, call: ToolCall, context: CallContext) -> BoxFuture<'_, Result<ToolResult, ToolFailure>> {
        Box::pin(async move {
            let ToolRef { server: _, tool } = call.tool;
            let called = self.0.call(&tool, &call.arguments, context.progress, &context.cancelled);
            called.await.map_err(|failed| failed.failure)
        })
    }

    fn resources(&self) -> BoxFuture<'_, Result<Vec<Resource>, ToolFailure>> {
        Box::pin(self.0.resources())
    }

    fn read(&self, uri: String) -> BoxFuture<'_, Result<Vec<Contents>, ToolFailure>> {
        Box::pin(async move { self.0.read(&uri, &CancellationToken::new()).await })
    }

    fn prompts(&self) -> BoxFuture<'_, Result<Vec<Prompt>, ToolFailure>> {
        Box::pin(self.0.prompts())
    }

    fn prompt(
        &self,
        name: String,
        arguments: Vec<(String, String)>,
    ) -> BoxFuture<'_, Result<PromptText, ToolFailure>> {
        Box::pin(async move { self.0.prompt(&name, arguments, &CancellationToken::new()).await })
    }
}

/// A cell whose tools' endpoint can be reached at an address, as on its loopback.
struct Reached {
    address: BaseUrl,
    cell: Arc<Cell>,
}

async fn reached(gate: Arc<dyn ToolGate>) -> Reached {
    let rig = Rig::new(1_000_000).await;
    let cell = Arc::new(cell_with(&rig, gate).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/mcp", listener.local_addr().unwrap());
    let relay = Arc::clone(&cell);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut stream = relay.open(GuestOpens::Tools).await;
            tokio::spawn(async move {
                drop(tokio::io::copy_bidirectional(&mut connection, &mut stream).await);
            });
        }
    });
    Reached { address: BaseUrl::parse(&address, false).unwrap(), cell }
}

impl Reached {
    /// A program of the cell that speaks MCP.
    async fn program(&self) -> Upstream {
        Upstream::over_http(
            &crate::tests::dialer(),
            &self.address,
            Credential::None,
            UpstreamLimits::default(),
        )
        .await
        .unwrap()
    }

    /// One request as bytes, and all that comes back.
    async fn send(&self, line: &str, headers: &str, body: &str) -> String {
        let stream = self.cell.open(GuestOpens::Tools).await;
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
        let (mut read, mut write) = tokio::io::split(stream);
        let mut response = Vec::new();
        // The door may answer, and close, before it has read everything.
        let ask = async {
            drop(write.write_all((head + body).as_bytes()).await);
            drop(write.flush().await);
        };
        let (received, ()) = tokio::join!(read.read_to_end(&mut response), ask);
        received.unwrap();
        String::from_utf8(response).unwrap()
    }
}

/// One server over HTTP, and one over a byte stream, each behind a door of its own.
async fn both(server: &Everything) -> [Reached; 2] {
    let limits = UpstreamLimits::default();
    let http =
        Upstream::over_http(&crate::tests::dialer(), &server.over_http().await, Credential::None, limits)
            .await
            .unwrap();
    let stream = Upstream::over_stream(server.over_stream(), limits).await.unwrap();
    [reached(Arc::new(Open(http))).await, reached(Arc::new(Open(stream))).await]
}

const HEADERS: &str = "host: 127.0.0.1:8182\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n";

#[tokio::test]
async fn tools_resources_and_prompts_come_through_the_door() {
    for reached in both(&Everything::default()).await {
        let program = reached.program().await;
        let list = program.list().await.unwrap();
        assert_eq!(list.tools[0].name.as_str(), "all__echo");
        assert!(list.tools[0].input_schema.contains("required") && list.withheld.is_empty());
        let echo = call(&program, "all__echo", r#"{"text":"hello"}"#).await.unwrap();
        assert_eq!(text(&echo), r#"{"text":"hello"}"#);
        let picture = call(&program, "all__picture", "{}").await.unwrap();
        assert!(matches!(&picture.content[0], Content::Image { data, .. } if data.len() == 8));
        let numbers = call(&program, "all__numbers", "{}").await.unwrap();
        assert_eq!(numbers.structured.as_deref(), Some(r#"{"numbers":[1,2.5]}"#));
        assert!(call(&program, "all__fails", "{}").await.unwrap().is_error);
        assert_eq!(program.resources().await.unwrap().len(), 1);
        assert_eq!(program.read("file:///x", &CancellationToken::new()).await.unwrap().len(), 1);
        assert!(program.read("file:///z", &CancellationToken::new()).await.is_err());
        assert_eq!(program.prompts().await.unwrap().len(), 1);
        let prompt = program
            .prompt("greet", vec![("name".into(), "Ada".into())], &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(prompt.messages.len(), 1);
    }
}

#[tokio::test]
async fn progress_and_cancellation_come_through_the_door() {
    let server = Everything::default();
    for reached in both(&server).await {
        let program = reached.program().await;
        let (sink, mut progress) = ProgressSink::channel();
        let count = "all__count".parse().unwrap();
        program.call(&count, "{}", sink, &CancellationToken::new()).await.unwrap();
        assert!(progress.recv().await.is_some_and(|told| told.total.is_some()));

        let slow: ToolName = "all__slow".parse().unwrap();
        let cancel = CancellationToken::new();
        let called = program.call(&slow, "{}", ProgressSink::NONE, &cancel);
        let stop = async {
            server.begun.notified().await;
            cancel.cancel();
        };
        let (failed, ()) = tokio::join!(called, stop);
        assert_eq!(failed.unwrap_err().acted, Acted::Unknown);
        server.cancelled.notified().await;
    }
}

#[tokio::test]
async fn a_program_that_goes_away_ends_its_call_at_the_tool_server() {
    let server = Everything::default();
    for reached in both(&server).await {
        let mut stream = reached.cell.open(GuestOpens::Tools).await;
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"all__slow"}}"#;
        let request = format!("POST /mcp HTTP/1.1\r\ncontent-length: {}\r\n{HEADERS}\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        server.begun.notified().await;
        drop(stream);
        server.cancelled.notified().await;
    }
}

#[tokio::test]
async fn a_message_can_cancel_a_request_of_another_connection() {
    let server = Everything::default();
    for reached in both(&server).await {
        let slow = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"all__slow"}}"#;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#;
        let stop = async {
            server.begun.notified().await;
            reached.send("POST /mcp", HEADERS, cancel).await
        };
        let (answered, accepted) = tokio::join!(reached.send("POST /mcp", HEADERS, slow), stop);
        assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
        assert!(answered.contains("cancelled"), "{answered}");
        server.cancelled.notified().await;
    }
}

#[tokio::test]
async fn every_revision_is_spoken() {
    let reached = reached(Kept::open(0).await.gate).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"c","version":"1"}}}}}}"#
        );
        let hello = reached.send("POST /mcp", HEADERS, &body).await;
        assert!(hello.contains(&format!(r#""protocolVersion":"{version}""#)), "{hello}");
        assert!(!hello.to_lowercase().contains("mcp-session-id"), "no session is kept: {hello}");
        let headers = format!("{HEADERS}mcp-protocol-version: {version}\r\n");
        let list = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
        let list = reached.send("POST /mcp", &headers, list).await;
        assert!(list.starts_with("HTTP/1.1 200") && list.contains(r#""tools":[]"#), "{list}");
    }
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}"#;
    let headers = format!("{HEADERS}mcp-protocol-version: 2026-07-28\r\nmcp-method: server/discover\r\n");
    let discover = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{meta}}}}}"#);
    let discovered = reached.send("POST /mcp", &headers, &discover).await;
    assert!(discovered.contains("2026-07-28") && discovered.contains("supportedVersions"), "{discovered}");
    for absent in ["sampling", "elicitation", "roots", "logging", "completions", "tasks"] {
        assert!(!discovered.contains(absent), "{absent}: {discovered}");
    }
    let headers = format!("{HEADERS}mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\n");
    let list = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{meta}}}}}"#);
    let listed = reached.send("POST /mcp", &headers, &list).await;
    assert!(listed.starts_with("HTTP/1.1 200") && listed.contains(r#""tools":[]"#), "{listed}");
}

#[tokio::test]
async fn an_agent_without_tools_sees_none_and_calls_none() {
    let reached = reached(Kept::open(0).await.gate).await;
    let program = reached.program().await;
    assert!(program.list().await.unwrap().tools.is_empty());
    assert!(program.resources().await.unwrap().is_empty() && program.prompts().await.unwrap().is_empty());
    let refused = call(&program, "mail__send", "{}").await.unwrap();
    assert!(refused.is_error && text(&refused).contains("no tools"), "{refused:?}");
    let unknown = call(&program, "mail", "{}").await.unwrap_err();
    assert!(unknown.failure.message.contains("there is no tool"), "{unknown:?}");
    let nothing = program.read("file:///x", &CancellationToken::new()).await.unwrap_err();
    assert_eq!(nothing.kind, ToolFailureKind::Invalid);
}

#[tokio::test]
async fn messages_that_are_not_strict_never_reach_the_gate() {
    let server = Everything::default();
    let [reached, _other] = both(&server).await;
    let call = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"all__echo","arguments":{arguments}}}}}"#
        )
    };
    let deep = call(&format!("{{\"a\":{}1{}}}", "[".repeat(70), "]".repeat(70)));
    let wide = call(&format!("{{\"a\":[{}0]}}", "0,".repeat(100_000)));
    let large = call(&format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20)));
    for (body, status, why) in [
        (call(r#"{"text":"a","text":"b"}"#), "400", "twice"),
        (call(r#"{"text":9007199254740993}"#), "400", "double"),
        (deep, "400", "deeper"),
        (wide, "400", "values"),
        (large, "413", "larger than 4 MiB"),
        ("{".to_owned(), "400", "JSON"),
        (format!("[{}]", call("{}")), "400", "batches"),
        (call("[1]"), "200", "\"error\""),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), "4", ""),
    ] {
        let response = reached.send("POST /mcp", HEADERS, &body).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{why}: {response}");
        assert!(response.contains(why), "{why}: {response}");
    }
    assert_eq!(server.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let reached = reached(Kept::open(0).await.gate).await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let other = |from: &str, to: &str| HEADERS.replace(from, to);
    for (line, headers, status) in [
        ("POST /", HEADERS.to_owned(), "404"),
        ("POST /mcp/x", HEADERS.to_owned(), "404"),
        ("GET /mcp", HEADERS.to_owned(), "405"),
        ("DELETE /mcp", HEADERS.to_owned(), "405"),
        ("POST /mcp", other("127.0.0.1:8182", "evil.example"), "403"),
        ("POST /mcp", other("127.0.0.1:8182", "127.0.0.1.evil.example"), "403"),
        ("POST /mcp", format!("{HEADERS}origin: http://127.0.0.1:8182\r\n"), "403"),
        ("POST /mcp", format!("{HEADERS}origin: null\r\n"), "403"),
        ("POST /mcp", format!("{HEADERS}content-encoding: gzip\r\n"), "415"),
        ("POST /mcp", other("application/json\r\naccept", "text/plain\r\naccept"), "415"),
        ("POST /mcp", format!("{HEADERS}mcp-protocol-version: 1999-01-01\r\n"), "400"),
        ("POST /mcp", other("127.0.0.1:8182", "localhost:8182"), "200"),
    ] {
        let response = reached.send(line, &headers, list).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{line} {headers}: {response}");
    }
    for method in ["logging/setLevel", "completion/complete", "resources/subscribe", "tasks/get", "x/y"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"level":"info","uri":"x"}}}}"#
        );
        let response = reached.send("POST /mcp", HEADERS, &body).await;
        assert!(response.contains("\"error\"") || response.starts_with("HTTP/1.1 4"), "{method}: {response}");
    }
}
