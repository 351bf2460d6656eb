//! The model endpoint against programs that speak HTTP badly, ask for what is not served, or go away.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::frame::LARGE;
use wire::guest::GuestOpens;
use wire::host::{DoorOpens, ModelAnswer};
use wire::model::{Dialect, FailureKind, ModelFailure};

use super::*;

/// One connection to the endpoint.
async fn connect(guest: &Guest) -> Stream {
    let mut stream = guest.opener.open().await.unwrap();
    frame::write(&mut stream, &GuestOpens::Model, SMALL).await.unwrap();
    stream
}

/// Sends bytes and reads all that comes back until the connection closes.
async fn exchange(guest: &Guest, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect(guest).await;
    // The door may close before it has read everything.
    drop(stream.write_all(request.as_ref()).await);
    drop(stream.flush().await);
    let mut response = Vec::new();
    drop(stream.read_to_end(&mut response).await);
    String::from_utf8(response).unwrap()
}

fn post(path: &str, body: &str, more: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
}

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// The next request of the door, and the stream to answer it on.
async fn asked(daemon: &mut Daemon) -> (DoorOpens, Stream) {
    let mut stream = daemon.incoming.next().await.unwrap();
    let asked = frame::read(&mut stream, LARGE).await.unwrap().unwrap();
    (asked, stream)
}

async fn answer(stream: &mut Stream, answer: ModelAnswer) {
    frame::write(stream, &answer, SMALL).await.unwrap();
}

fn head(status: u16) -> ModelAnswer {
    let headers = vec![("request-id".into(), "r1".into())];
    ModelAnswer::Head { status, content_type: "text/event-stream".into(), headers }
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_the_door_alone() {
    let (_daemon, guest) = born(DoorLimits::default()).await;
    let many = "a: b\r\n".repeat(100);
    let long = format!("a: {}\r\n", "b".repeat(200_000));
    let hosted = r#"{"model":"m","messages":[],"web_search_options":{}}"#;
    let searching = r#"{"model":"m","input":[],"tools":[{"type":"web_search"}]}"#;
    let remote = r#"{"model":"m","max_tokens":1,"messages":[],"mcp_servers":[]}"#;
    for (request, status, why) in [
        (post("/v1/files", CHAT, ""), "404", "not served"),
        (post("/v1/responses/resp_1/cancel", CHAT, ""), "404", "not served"),
        (post("/v1/messages/batches", CHAT, ""), "404", "not served"),
        (post("//evil.example/v1/messages", CHAT, ""), "404", "not served"),
        ("DELETE /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n".into(), "404", "not served"),
        ("GET /v1/messages HTTP/1.1\r\nconnection: close\r\n\r\n".into(), "405", "POST"),
        (post("/v1/chat/completions", CHAT, "content-encoding: gzip\r\n"), "415", "content-encoding"),
        (post("/v1/chat/completions", "{", ""), "400", "JSON"),
        (post("/v1/chat/completions", hosted, ""), "403", "web_search_options"),
        (post("/v1/responses", searching, ""), "403", "$.tools[0].type"),
        (post("/v1/messages", remote, ""), "403", "mcp_servers"),
        (post("/v1/chat/completions", CHAT, &many), "431", ""),
        (post("/v1/chat/completions", CHAT, &long), "431", ""),
        ("not http at all\r\n\r\n".into(), "400", ""),
        (
            "POST /v1/messages HTTP/1.1\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n".into(),
            "413",
            "larger",
        ),
        ("POST /v1/messages HTTP/1.1\r\ncontent-length: -1\r\n\r\n".into(), "400", ""),
        ("POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".into(), "413", ""),
    ] {
        let response = exchange(&guest, &request).await;
        let shown = &request[..request.len().min(60)];
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {response}");
        assert!(response.contains(why), "{shown}: {response}");
    }
}

#[tokio::test]
async fn a_program_that_is_still_writing_gets_to_read_why_it_is_refused() {
    let (_daemon, guest) = born(DoorLimits::default()).await;
    let large = format!("{{\"model\":\"{}\"}}", "m".repeat(31 << 20));
    let stream = connect(&guest).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let request = post("/v1/messages", &large, "");
    let mut response = Vec::new();
    let (written, received) = tokio::join!(
        async {
            write.write_all(request.as_bytes()).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut response)
    );
    received.unwrap();
    assert!(String::from_utf8(response).unwrap().starts_with("HTTP/1.1 413"));
    assert!(written.is_ok(), "the rest of the body is taken, and thrown away");
}

#[tokio::test]
async fn each_dialect_is_refused_in_its_own_form() {
    let (_daemon, guest) = born(DoorLimits::default()).await;
    let body = |response: &str| -> Value {
        serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let anthropic = exchange(&guest, post("/v1/messages", "{}", "")).await;
    assert_eq!(body(&anthropic)["type"], "error");
    assert_eq!(body(&anthropic)["error"]["type"], "invalid_request_error");
    let openai = exchange(&guest, post("/v1/responses", r#"{"model":"m","input":[],"x":1}"#, "")).await;
    assert_eq!(body(&openai)["error"]["type"], "permission_error");
    assert_eq!(body(&openai)["error"]["code"], "not-granted");
    assert!(openai.contains("x-should-retry: false"), "{openai}");
}

#[tokio::test]
async fn a_request_reaches_the_daemon_rebuilt_and_its_answer_streams_back() {
    let (mut daemon, guest) = born(DoorLimits::default()).await;
    let sent = json!({"model": "m", "max_tokens": 5, "messages": [], "stream": true});
    let more =
        "x-api-key: placeholder\r\nanthropic-beta: effort-2025-11-24,files-api-2025-04-14\r\nx-evil: 1\r\n";
    let mut connection = connect(&guest).await;
    let request = post("/v1/messages?beta=true", &sent.to_string(), more);
    connection.write_all(request.as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    let (question, mut stream) = asked(&mut daemon).await;
    let DoorOpens::Model(request) = question else { panic!("{question:?}") };
    assert_eq!(request.dialect, Dialect::AnthropicMessages);
    assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap(), sent);
    assert_eq!(request.headers, [("anthropic-beta".to_owned(), "effort-2025-11-24".to_owned())]);

    answer(&mut stream, head(200)).await;
    answer(&mut stream, ModelAnswer::Body(b"first".to_vec())).await;
    let mut got = Vec::new();
    while !got.ends_with(b"first\r\n") {
        got.push(connection.read_u8().await.unwrap());
    }
    let text = String::from_utf8_lossy(&got);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("request-id: r1"), "{text}");
    answer(&mut stream, ModelAnswer::Body(b"second".to_vec())).await;
    answer(&mut stream, ModelAnswer::End).await;
    connection.read_to_end(&mut got).await.unwrap();
    assert!(got.ends_with(b"second\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&got));
}

#[tokio::test]
async fn the_list_of_models_is_the_daemons() {
    let (mut daemon, guest) = born(DoorLimits::default()).await;
    let get = async { exchange(&guest, "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await };
    let serve = async {
        let (question, mut stream) = asked(&mut daemon).await;
        assert_eq!(question, DoorOpens::Models);
        answer(&mut stream, head(200)).await;
        answer(&mut stream, ModelAnswer::End).await;
    };
    let (response, ()) = tokio::join!(get, serve);
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn a_failure_of_the_daemon_has_its_status_and_reason() {
    let (mut daemon, guest) = born(DoorLimits::default()).await;
    let ask = async { exchange(&guest, post("/v1/chat/completions", CHAT, "")).await };
    let serve = async {
        let (_, mut stream) = asked(&mut daemon).await;
        let failure = ModelFailure { kind: FailureKind::LimitReached, message: "no tokens left".into() };
        answer(&mut stream, ModelAnswer::Failed(failure)).await;
    };
    let (response, ()) = tokio::join!(ask, serve);
    assert!(response.starts_with("HTTP/1.1 403") && response.contains("no tokens left"), "{response}");
}

#[tokio::test]
async fn an_answer_that_is_cut_does_not_look_whole() {
    let (mut daemon, guest) = born(DoorLimits::default()).await;
    let ask = async { exchange(&guest, post("/v1/chat/completions", CHAT, "")).await };
    let serve = async {
        let (_, mut stream) = asked(&mut daemon).await;
        answer(&mut stream, head(200)).await;
        answer(&mut stream, ModelAnswer::Body(b"half".to_vec())).await;
    };
    let (response, ()) = tokio::join!(ask, serve);
    assert!(!response.contains("\r\n0\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn a_program_that_goes_away_ends_its_request_at_the_daemon() {
    let (mut daemon, guest) = born(DoorLimits::default()).await;
    // Before there is an answer, and in the middle of one.
    for answered in [false, true] {
        let mut connection = connect(&guest).await;
        let request = post("/v1/chat/completions", CHAT, "");
        connection.write_all(request.as_bytes()).await.unwrap();
        connection.flush().await.unwrap();
        let (_, mut stream) = asked(&mut daemon).await;
        if answered {
            answer(&mut stream, head(200)).await;
        }
        drop(connection);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "answered: {answered}");
    }
}

#[tokio::test]
async fn an_answer_waits_for_the_program_that_reads_it() {
    let (mut daemon, guest) = born(DoorLimits::default()).await;
    let mut connection = connect(&guest).await;
    connection.write_all(post("/v1/chat/completions", CHAT, "").as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    let (_, mut stream) = asked(&mut daemon).await;
    answer(&mut stream, head(200)).await;
    let mut sent = 0_usize;
    let body = ModelAnswer::Body(vec![b'x'; 16 * 1024]);
    while sent < (64 << 20) {
        let write = frame::write(&mut stream, &body, SMALL);
        if tokio::time::timeout(Duration::from_secs(2), write).await.is_err() {
            break;
        }
        sent += 16 * 1024;
    }
    assert!(sent < (8 << 20), "{sent} bytes were taken though nobody reads them");
}

#[tokio::test]
async fn programs_that_dawdle_lose_their_connection_and_nothing_else() {
    let limits = DoorLimits { http_head: SHORT, http_body: SHORT, stall: SHORT, ..DoorLimits::default() };
    let (mut daemon, guest) = born(limits).await;
    assert_eq!(exchange(&guest, "POST /v1/mess").await, "", "half a head");
    let half = "POST /v1/messages HTTP/1.1\r\ncontent-length: 50\r\nconnection: close\r\n\r\n{";
    assert!(exchange(&guest, half).await.starts_with("HTTP/1.1 408"), "half a body");
    // Nothing of the answer is read: the daemon's stream ends, for the answer can't be delivered.
    let mut connection = connect(&guest).await;
    connection.write_all(post("/v1/chat/completions", CHAT, "").as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    let (_, stream) = asked(&mut daemon).await;
    let (mut read, mut write) = tokio::io::split(stream);
    frame::write(&mut write, &head(200), SMALL).await.unwrap();
    let flood = async {
        let body = ModelAnswer::Body(vec![b'x'; 16 * 1024]);
        while frame::write(&mut write, &body, SMALL).await.is_ok() {}
    };
    let ended = async { read.read(&mut [0]).await.unwrap_or(0) };
    let ((), read) = tokio::join!(flood, ended);
    assert_eq!(read, 0);
    drop(connection);
    daemon.order(ToGuest::Health).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let (_daemon, guest) = born(DoorLimits { connections: 2, ..DoorLimits::default() }).await;
    let mut first = connect(&guest).await;
    let second = connect(&guest).await;
    // The door has taken both: it answers on the first.
    first.write_all(b"GET /nothing HTTP/1.1\r\n\r\n").await.unwrap();
    first.flush().await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), b'H');
    let mut third = connect(&guest).await;
    assert_eq!(third.read(&mut [0]).await.unwrap_or(0), 0);
    drop((first, second));
}
