//! The whole way: a guest's HTTP, a real door, the service, a provider over TCP, and back.

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use wire::early::{Answer, Question, VERSION};
use wire::guest::{ContainerSpec, FromGuest, GuestOpens, Protections, ToGuest};
use wire::host::{DaemonOpens, DoorReport};
use wire::mux::{MuxLimits, Opener, Side, Stream, mux};

use super::*;
use crate::tools::ToolGate;

/// A guest behind a door of its own.
pub(super) struct Cell {
    guest: Opener,
    _streams: (Stream, Stream),
}

async fn cell(rig: &Rig) -> Cell {
    cell_with(rig, Arc::clone(&rig.kept.gate) as Arc<dyn ToolGate>).await
}

/// A cell whose tools this gate decides about.
pub(super) async fn cell_with(rig: &Rig, tools: Arc<dyn ToolGate>) -> Cell {
    let (channel, mut guest) = UnixStream::pair().unwrap();
    let (doors, daemons) = UnixStream::pair().unwrap();
    tokio::spawn(door::serve(channel, doors, door::DoorLimits::default()));
    let (daemon, mut asked, driver) = mux(daemons, Side::Host, MuxLimits { streams: 256, backlog: 64 });
    tokio::spawn(driver.run());
    let (service, session) = (Arc::clone(&rig.service), Arc::clone(&rig.session));
    tokio::spawn(async move {
        while let Some(stream) = asked.next().await {
            let (service, session) = (Arc::clone(&service), Arc::clone(&session));
            let tools = Arc::clone(&tools);
            let leaves = leaves();
            tokio::spawn(async move {
                let services = Services {
                    models: &service,
                    session: &session,
                    tools: tools.as_ref(),
                    egress: &crate::egress::Closed,
                    leaves: &leaves,
                };
                drop(services.serve(stream).await);
            });
        }
    });
    let mut control = daemon.open().await.unwrap();
    let container = ContainerSpec {
        memory: 1,
        cpu_millis: 1,
        pids: 1,
        model_port: 8181,
        tools_port: 8182,
        egress: None,
        allow_guest_root: false,
    };
    let head = DaemonOpens::Control { host_name: "cell".into(), container };
    frame::write(&mut control, &head, SMALL).await.unwrap();

    let _birth: Question = frame::read(&mut guest, SMALL).await.unwrap().unwrap();
    let born = Answer::Born { version: VERSION, boot_id: "0".into() };
    frame::write(&mut guest, &born, SMALL).await.unwrap();
    let (guest, mut from_door, driver) = mux(guest, Side::Guest, MuxLimits::default());
    tokio::spawn(driver.run());
    let mut guests_control = from_door.next().await.unwrap();
    let _head: wire::guest::DoorOpens = frame::read(&mut guests_control, SMALL).await.unwrap().unwrap();
    let _order: ToGuest = frame::read(&mut guests_control, SMALL).await.unwrap().unwrap();
    frame::write(&mut guests_control, &FromGuest::Configured(Protections::default()), SMALL).await.unwrap();
    for _ in 0..2 {
        let _report: DoorReport = frame::read(&mut control, SMALL).await.unwrap().unwrap();
    }
    // The daemon's handle must live as long as the cell.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop((daemon, from_door));
    });
    Cell { guest, _streams: (control, guests_control) }
}

impl Cell {
    /// A connection of a program in the container to an endpoint.
    pub(super) async fn open(&self, endpoint: GuestOpens) -> Stream {
        let mut stream = self.guest.open().await.unwrap();
        frame::write(&mut stream, &endpoint, SMALL).await.unwrap();
        stream
    }

    /// One request of a program in the container, and all that it gets back.
    async fn send(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = self.open(GuestOpens::Model).await;
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        String::from_utf8(response).unwrap()
    }
}

#[tokio::test]
async fn every_dialect_works_and_the_hosts_key_stays_on_the_host() {
    let rig = Rig::new(1_000_000).await;
    let cell = cell(&rig).await;
    let placeholder = "x-api-key: placeholder\r\nauthorization: Bearer placeholder\r\n";
    let whole = |body: &str| body.replace(r#","stream":true"#, "");
    for (path, body, sign) in [
        ("/v1/messages?beta=true", ANTHROPIC.to_owned(), "event: message_stop"),
        ("/v1/messages", whole(ANTHROPIC), "end_turn"),
        ("/v1/responses", RESPONSES.to_owned(), "event: response.completed"),
        ("/v1/responses", whole(RESPONSES), "completed"),
        ("/v1/chat/completions", CHAT.to_owned(), "data: [DONE]"),
        ("/v1/chat/completions", whole(CHAT), "chat.completion"),
    ] {
        let response = cell.send(&format!("POST {path}"), placeholder, &body).await;
        assert!(response.starts_with("HTTP/1.1 200") && response.contains(sign), "{path}: {response}");
        assert!(!response.contains(KEY));
        let recorded = rig.model.recorded();
        let shown = format!("{:?}", recorded.last().unwrap());
        assert!(shown.contains(KEY) && !shown.contains("placeholder"), "{shown}");
    }
    let count = r#"{"model":"reviewer","messages":[{"role":"user","content":"Review."}]}"#;
    let response = cell.send("POST /v1/messages/count_tokens", placeholder, count).await;
    assert!(response.contains("input_tokens"), "{response}");
}

#[tokio::test]
async fn what_is_to_leave_is_refused_with_a_reason_while_egress_is_closed() {
    let rig = Rig::new(1_000_000).await;
    let cell = cell(&rig).await;
    let mut stream = cell.open(GuestOpens::Egress).await;
    stream.write_all(b"GET http://example.com/ HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 403") && response.contains("egress is closed"), "{response}");
    // A tunnel stands, so that its requests can be refused one by one.
    let mut stream = cell.open(GuestOpens::Egress).await;
    stream.write_all(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn the_agents_models_are_listed() {
    let rig = Rig::new(1_000_000).await;
    let response = cell(&rig).await.send("GET /v1/models", "", "").await;
    let json = response.lines().find(|line| line.starts_with('{')).unwrap();
    let list: Value = serde_json::from_str(json).unwrap();
    assert_eq!(list["data"][0]["id"], "reviewer");
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    assert!(rig.model.recorded().is_empty());
}

#[tokio::test]
async fn another_model_or_a_hosted_tool_is_refused_with_a_reason() {
    let rig = Rig::new(1_000_000).await;
    let cell = cell(&rig).await;
    let other = cell.send("POST /v1/chat/completions", "", &CHAT.replace("reviewer", "fixer")).await;
    assert!(other.starts_with("HTTP/1.1 403") && other.contains("models"), "{other}");
    let hosted = r#"{"model":"reviewer","input":"x","tools":[{"type":"web_search"}]}"#;
    let hosted = cell.send("POST /v1/responses", "", hosted).await;
    assert!(hosted.starts_with("HTTP/1.1 403") && hosted.contains("$.tools[0].type"), "{hosted}");
    assert!(rig.model.recorded().is_empty());
}

#[tokio::test]
async fn a_program_that_goes_away_ends_the_call_at_the_provider() {
    let mut rig = Rig::new(1_000_000).await;
    let cell = cell(&rig).await;
    rig.model.fail_next(demo::scripted::Fault::Slow(Duration::from_secs(600)));
    let mut stream = cell.open(GuestOpens::Model).await;
    let head =
        format!("POST /v1/messages HTTP/1.1\r\ncontent-length: {}\r\n\r\n{ANTHROPIC}", ANTHROPIC.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    drop(stream);
    let (counted, declared) = counted(&rig.events().await);
    assert!(!declared && counted > 1000, "{counted}");
}
