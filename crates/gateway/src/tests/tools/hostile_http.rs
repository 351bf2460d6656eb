//! Servers over HTTP, each of which does one thing wrong.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::tools::{ToolFailure, ToolFailureKind};

use super::*;
use crate::tests::egress::Here;
use crate::tools::upstream::Acted;
use crate::{BaseUrl, Credential};

/// What a server sends back to a call, and whether it then stays silent.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) hangs: bool,
}

pub(super) fn reply(bytes: impl Into<Vec<u8>>) -> Reply {
    Reply { bytes: bytes.into(), hangs: false }
}

pub(super) fn json(body: &str) -> Reply {
    reply(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

pub(super) fn events(body: &str) -> Reply {
    reply(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}"))
}

pub(super) fn status(line: &str) -> Reply {
    reply(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n"))
}

pub(super) fn text_result(id: &Value, text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
}

/// One request's head and message.
async fn read(connection: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some((head.to_owned(), serde_json::from_str(body).unwrap_or_default()));
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Answers the greeting as an older server, and calls as it is told.
fn answer(head: &str, message: &Value, discover: &Reply, calls: &dyn Fn(&Value) -> Reply) -> Reply {
    let id = &message["id"];
    match message["method"].as_str() {
        _ if head.starts_with("GET") => status("405 Method Not Allowed"),
        Some("server/discover") => discover.clone(),
        Some("initialize") => json(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"x","version":"1"}}}}}}"#
        )),
        Some("tools/call") => calls(message),
        _other => status("202 Accepted"),
    }
}

async fn connect(
    limits: UpstreamLimits,
    calls: impl Fn(&Value) -> Reply + Send + Sync + 'static,
) -> Result<Upstream, ToolFailure> {
    connect_older(limits, status("404 Not Found"), calls).await
}

/// Connects to a server that answers so to the question with which a newer one is found out.
async fn connect_older(
    limits: UpstreamLimits,
    discover: Reply,
    calls: impl Fn(&Value) -> Reply + Send + Sync + 'static,
) -> Result<Upstream, ToolFailure> {
    let address = listening(discover, calls).await;
    Upstream::over_http(&crate::tests::dialer(), &address, Credential::None, limits).await
}

/// The address of such a server.
pub(super) async fn listening(
    discover: Reply,
    calls: impl Fn(&Value) -> Reply + Send + Sync + 'static,
) -> BaseUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BaseUrl::parse(&format!("http://{}/mcp", listener.local_addr().unwrap()), false).unwrap();
    let calls: Arc<dyn Fn(&Value) -> Reply + Send + Sync> = Arc::new(calls);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let (calls, discover) = (Arc::clone(&calls), discover.clone());
            tokio::spawn(async move {
                while let Some((head, message)) = read(&mut connection).await {
                    let reply = answer(&head, &message, &discover, &*calls);
                    if connection.write_all(&reply.bytes).await.is_err() {
                        return;
                    }
                    if reply.hangs {
                        std::future::pending::<()>().await;
                    }
                    if reply.bytes.windows(17).any(|part| part == b"connection: close") {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn failed_call(calls: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> CallFailed {
    let upstream = connect(IMPATIENT, calls).await.unwrap();
    call(&upstream, "x", "{}").await.unwrap_err()
}

#[tokio::test]
async fn answers_come_as_json_and_as_events() {
    let upstream = connect(IMPATIENT, |call| json(&text_result(&call["id"], "hello"))).await.unwrap();
    assert_eq!(text(&call(&upstream, "x", "{}").await.unwrap()), "hello");
    let upstream = connect(IMPATIENT, |call| {
        let result = text_result(&call["id"], "hello");
        events(&format!(": ping\n\nevent: message\ndata: {result}\n\n"))
    });
    assert_eq!(text(&call(&upstream.await.unwrap(), "x", "{}").await.unwrap()), "hello");
}

#[tokio::test]
async fn a_server_that_answers_anything_with_nothing_is_greeted_as_an_older_one() {
    let nothing = json(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
    let upstream = connect_older(IMPATIENT, nothing, |call| json(&text_result(&call["id"], "hello")));
    assert_eq!(text(&call(&upstream.await.unwrap(), "x", "{}").await.unwrap()), "hello");
    let tools = json(r#"{"jsonrpc":"2.0","id":0,"result":{"tools":[]}}"#);
    let other = connect_older(IMPATIENT, tools, |call| json(&text_result(&call["id"], "hello")));
    assert!(other.await.err().unwrap().message.contains("can't be greeted"));
}

#[tokio::test]
async fn responses_that_are_none_are_failures_with_a_reason() {
    type Calls = fn(&Value) -> Reply;
    let cases: [(&str, Calls); 12] = [
        ("redirect", |_| {
            reply("HTTP/1.1 307 X\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n")
        }),
        ("credential", |_| status("401 Unauthorized")),
        ("HTTP 500", |_| status("500 Internal Server Error")),
        ("session", |_| status("404 Not Found")),
        ("neither", |_| reply("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi")),
        ("not asked", |_| json(&text_result(&Value::from(4711), "hello"))),
        ("not asked", |_| events(&format!("data: {}\n\n", text_result(&Value::from(4711), "hello")))),
        ("can't be read", |call| {
            events(&format!(
                "data: {}\n\n",
                text_result(&call["id"], "x").replace("\"id\"", "\"id\":1,\"id\"")
            ))
        }),
        ("broke off", |_| {
            events(
                "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":1}}\n\n",
            )
        }),
        ("broke off", |_| events("")),
        ("silent", |_| Reply { bytes: Vec::new(), hangs: true }),
        ("silent", |_| Reply {
            bytes: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec(),
            hangs: true,
        }),
    ];
    for (why, calls) in cases {
        let failed = failed_call(calls).await;
        let said = &failed.failure.message;
        let given_up = why == "silent" && said.contains("did not answer within");
        let session = why == "session" && said.contains("HTTP 404");
        assert!(said.contains(why) || given_up || session, "{why}: {failed:?}");
        assert_eq!(failed.acted, Acted::Unknown, "{why}");
    }
}

#[tokio::test]
async fn what_comes_after_the_answer_is_not_looked_at() {
    let upstream = connect(IMPATIENT, |call| {
        let first = text_result(&call["id"], "first");
        let second = text_result(&call["id"], "second");
        events(&format!("data: {first}\n\ndata: {second}\n\ndata: rubbish\n\n"))
    });
    let upstream = upstream.await.unwrap();
    for _ in 0..2 {
        assert_eq!(text(&call(&upstream, "x", "{}").await.unwrap()), "first");
    }
}

#[tokio::test]
async fn bodies_and_events_without_end_are_cut_off() {
    let patient = UpstreamLimits::default();
    let announced = connect(patient, |_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n";
        Reply { bytes: [head.as_bytes(), &vec![b'x'; 20 << 20]].concat(), hangs: true }
    });
    let event = connect(patient, |_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ";
        Reply { bytes: [head.as_bytes(), &vec![b'x'; 20 << 20]].concat(), hangs: true }
    });
    let lines = connect(patient, |_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        Reply { bytes: [head.as_bytes(), &b"data: x\n".repeat(9 << 20)].concat(), hangs: true }
    });
    for upstream in [announced.await, event.await, lines.await] {
        let failed = call(&upstream.unwrap(), "x", "{}").await.unwrap_err();
        assert_eq!(failed.failure.kind, ToolFailureKind::TooLarge, "{failed:?}");
    }
}

#[tokio::test]
async fn the_hosts_credential_is_shown_to_the_server_and_never_told() {
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BaseUrl::parse(&format!("http://{}/mcp", listener.local_addr().unwrap()), false).unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            if let Some((head, _)) = read(&mut connection).await {
                sender.send(head).unwrap();
            }
            connection.write_all(&status("403 Forbidden").bytes).await.unwrap();
        }
    });
    let credential = Credential::Bearer("canary-token".into());
    let refused =
        Upstream::over_http(&crate::tests::dialer(), &address, credential, IMPATIENT).await.err().unwrap();
    assert!(heads.recv().await.unwrap().contains("authorization: Bearer canary-token"));
    assert!(refused.message.contains("credential") && !refused.message.contains("canary"), "{refused:?}");
}

#[tokio::test]
async fn a_server_whose_name_leads_to_this_machine_is_not_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move { listener.accept().await.is_ok() });
    let dialer = dial::Dialer::resolving(dial::Network::default(), Here(0.into())).unwrap();
    let address = BaseUrl::parse(&format!("http://tools.example:{port}/mcp"), true).unwrap();
    let refused = Upstream::over_http(&dialer, &address, Credential::None, IMPATIENT).await.err().unwrap();
    assert!(refused.message.contains("`tools.example` leads to what is this machine"), "{refused:?}");
    assert!(!asked.is_finished());
    asked.abort();
}
