//! Every endpoint refuses a stranger, and whoever has a lesser role than it needs.

use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::http::{Method, Request};
use domain::{Integrity, Labels, Role};
use futures::FutureExt as _;
use gateway::tools::Connector as _;
use store::{About, Keeper, Person};
use tower_service::Service as _;

use super::*;
use crate::journal::now;
use crate::session::sessions_for_tests;

/// Every endpoint, with the least role that it lets through. A new one that isn't here fails the last test.
const ENDPOINTS: &[(Method, &str, Role)] = &[
    (Method::GET, "status", Role::Viewer),
    (Method::GET, "whoami", Role::Viewer),
    (Method::GET, "agents", Role::Viewer),
    (Method::GET, "agents/x", Role::Viewer),
    (Method::GET, "sessions", Role::Viewer),
    (Method::GET, "sessions/x", Role::Viewer),
    (Method::GET, "sessions/x/events", Role::Viewer),
    (Method::GET, "images", Role::Viewer),
    (Method::GET, "approvals", Role::Viewer),
    (Method::GET, "approvals/watch", Role::Viewer),
    (Method::GET, "approvals/x", Role::Viewer),
    (Method::POST, "ledger/entries", Role::Viewer),
    (Method::POST, "ledger/verify", Role::Viewer),
    (Method::GET, "people", Role::Viewer),
    (Method::GET, "labels", Role::Viewer),
    (Method::GET, "groups", Role::Viewer),
    (Method::GET, "servers", Role::Viewer),
    (Method::GET, "cells", Role::Viewer),
    (Method::GET, "agents/x/tools", Role::Approver),
    (Method::POST, "sessions", Role::Approver),
    (Method::POST, "sessions/x/stop", Role::Approver),
    (Method::GET, "sessions/x/attach", Role::Approver),
    (Method::GET, "sessions/x/exec", Role::Approver),
    (Method::GET, "sessions/x/workspace", Role::Approver),
    (Method::PUT, "sessions/x/workspace", Role::Approver),
    (Method::POST, "approvals/x/answer", Role::Approver),
    (Method::GET, "servers/x/table", Role::Approver),
    (Method::GET, "servers/x", Role::Approver),
    (Method::POST, "shutdown", Role::Owner),
    (Method::POST, "doctor", Role::Owner),
    (Method::POST, "images", Role::Owner),
    (Method::DELETE, "images", Role::Owner),
    (Method::POST, "labels/lower", Role::Owner),
    (Method::POST, "ledger/erase", Role::Owner),
    (Method::PUT, "people/x", Role::Owner),
    (Method::DELETE, "people/x", Role::Owner),
    (Method::PUT, "servers/x", Role::Owner),
    (Method::PUT, "servers/x/table", Role::Owner),
    (Method::DELETE, "servers/x", Role::Owner),
    (Method::POST, "agents/x/apply", Role::Owner),
    (Method::GET, "secrets", Role::Owner),
    (Method::PUT, "secrets/x", Role::Owner),
    (Method::DELETE, "secrets/x", Role::Owner),
    (Method::POST, "secrets/x/rotate", Role::Owner),
    (Method::POST, "secrets/x/login", Role::Owner),
    (Method::POST, "secrets/x/login/paste", Role::Owner),
    (Method::PUT, "groups/x/y", Role::Owner),
    (Method::DELETE, "groups/x/y", Role::Owner),
];

const STRANGER: u32 = 4000;

fn uid(role: Role) -> u32 {
    match role {
        Role::Viewer => 4001,
        Role::Approver => 4002,
        Role::Owner => 4003,
    }
}

async fn refuses(router: &Router, method: &Method, path: &str, uid: u32) -> bool {
    let mut request = Request::builder()
        .method(method.clone())
        .uri(format!("/{}/{path}", api::VERSION))
        .body(Body::from("null"))
        .unwrap();
    request.extensions_mut().insert(ConnectInfo(Peer(uid)));
    let response = router.clone().call(request).await.unwrap();
    response.status() == StatusCode::FORBIDDEN
}

#[tokio::test]
async fn every_endpoint_refuses_strangers_and_lesser_roles() {
    let (sessions, _folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0).name;
    for role in [Role::Viewer, Role::Approver, Role::Owner] {
        let name = format!("test-{role}").parse().unwrap();
        let person = Person { name, uid: Some(uid(role)), role };
        sessions.store().put_person(&person, &owner, now()).await.unwrap();
    }
    let router = router(&sessions);
    for (method, path, least) in ENDPOINTS {
        assert!(refuses(&router, method, path, STRANGER).await, "{method} {path} lets a stranger in");
        for role in [Role::Viewer, Role::Approver, Role::Owner].into_iter().filter(|role| role < least) {
            assert!(refuses(&router, method, path, uid(role)).await, "{method} {path} lets {role} in");
        }
        if *method == Method::GET && *path != "approvals/watch" {
            assert!(!refuses(&router, method, path, uid(*least)).await, "{method} {path} refuses {least}");
        }
    }
    assert!(!sessions.end.is_cancelled());
}

#[tokio::test]
async fn what_is_said_of_a_tool_is_on_the_ledger_once() {
    let (sessions, _folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0).uid.unwrap();
    let put = async |path: &str, body: String| {
        let request = Request::builder().method(Method::PUT).uri(format!("/{}/{path}", api::VERSION));
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer(owner)));
        router(&sessions).call(request).await.unwrap().status()
    };
    let said = |text: &str| serde_json::to_string(text).unwrap();
    let table = "[tools.look]\neffects = [\"read\"]\n[tools.send]\neffects = [\"communicate\"]\n";
    assert_eq!(put("servers/crm/table", said(table)).await, StatusCode::NOT_FOUND);
    let server = r#"{"name":"crm","url":"http://127.0.0.1:9/mcp"}"#;
    assert_eq!(put("servers/crm", server.to_owned()).await, StatusCode::OK);
    assert_eq!(put("servers/crm/table", said("[tools.look]\neffects = []")).await, StatusCode::BAD_REQUEST);
    let count = async || {
        let filter = store::Filter { kind: Some("tool-classified".to_owned()), ..store::Filter::default() };
        sessions.store().tail(10, &filter).await.unwrap().len()
    };
    assert_eq!(count().await, 0);
    for _ in 0..2 {
        assert_eq!(put("servers/crm/table", said(table)).await, StatusCode::OK);
        assert_eq!(count().await, 2, "what was said already is not said again");
    }
    let other = table.replace("communicate", "irreversible");
    assert_eq!(put("servers/crm/table", said(&other)).await, StatusCode::OK);
    assert_eq!(count().await, 3);
}

#[tokio::test]
async fn a_tool_servers_entry_that_changes_or_goes_closes_its_cells_ways_out_and_stops_one_that_starts() {
    let (sessions, _folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0).uid.unwrap();
    let ask = async |method: Method, body: &str| {
        let request = Request::builder().method(method).uri(format!("/{}/servers/crm", api::VERSION));
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer(owner)));
        assert_eq!(router(&sessions).call(request).await.unwrap().status(), StatusCode::OK);
    };
    let (team, crm) = ("sales".parse().unwrap(), "crm".parse().unwrap());
    let entry = r#"{"name":"crm","cell":{"image":"base","command":["mcp"],"egress":["GET https://api.example/*"],"allow_emulation":true}}"#;
    let narrower = entry.replace("/*", "/y");
    for (method, body) in [(Method::PUT, narrower.as_str()), (Method::DELETE, "")] {
        ask(Method::PUT, entry).await;
        let cell = sessions.servers.known.one(&crm).unwrap().cell.unwrap();
        let way = crate::server_cells::way(&sessions.servers.cells, &team, &crm, &cell).await;
        assert_eq!(way(), None);
        let mut starting = sessions.servers.connect(&team, &crm);
        assert!((&mut starting).now_or_never().is_none(), "its entry is read, and it starts");
        ask(method, body).await;
        assert!(way().unwrap().contains("tool server crm was changed or removed"));
        let told = starting.await.err().unwrap().message;
        assert!(
            told.contains("was changed while it started") || told.contains("there is no tool server"),
            "{told}"
        );
    }
    ask(Method::PUT, entry).await;
    assert!(sessions.servers.connect(&team, &crm).await.is_ok());
    sessions.servers.cells.stop_all().await;
}

#[tokio::test]
async fn a_secret_is_stored_rotated_and_removed_and_the_ledger_has_its_name_alone() {
    let (sessions, folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0).uid.unwrap();
    let ask = async |method: Method, path: &str, body: &str| {
        let request = Request::builder().method(method).uri(format!("/{}/{path}", api::VERSION));
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer(owner)));
        let response = router(&sessions).call(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let binding = r#"[{"to":"https://api.github.com","methods":["GET"],"how":"bearer"}]"#;
    let new = format!(r#"{{"value":"canary-4f9d1c7b","bindings":{binding}}}"#);
    assert_eq!(ask(Method::PUT, "secrets/github", &new).await.0, StatusCode::OK);
    assert_eq!(
        ask(Method::POST, "secrets/github/rotate", r#"{"value":"canary-e2a86035"}"#).await.0,
        StatusCode::OK
    );
    let (status, listed) = ask(Method::GET, "secrets", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(listed.contains("https://api.github.com") && !listed.contains("canary"), "{listed}");
    for (method, path, body, status) in [
        (Method::PUT, "secrets/Git", new.as_str(), StatusCode::BAD_REQUEST),
        (Method::PUT, "secrets/a", r#"{"value":"canary-1","bindings":[]}"#, StatusCode::BAD_REQUEST),
        (Method::PUT, "secrets/a", r#"{"value":"short","bindings":[]}"#, StatusCode::BAD_REQUEST),
        (Method::PUT, "secrets/a", r#"{"value":123456789,"bindings":[]}"#, StatusCode::BAD_REQUEST),
        (Method::POST, "secrets/a/rotate", r#"{"value":"canary-1"}"#, StatusCode::NOT_FOUND),
        (Method::DELETE, "secrets/a", "", StatusCode::NOT_FOUND),
    ] {
        let (found, told) = ask(method, path, body).await;
        assert_eq!(found, status, "{path} {body}: {told}");
        assert!(!told.contains("canary") && !told.contains("123456789"), "{told}");
    }
    assert_eq!(ask(Method::DELETE, "secrets/github", "").await.0, StatusCode::OK);
    assert!(sessions.vault().list().is_empty());
    let ledger = sessions.store().tail(100, &store::Filter::default()).await.unwrap();
    let ledger = serde_json::to_string(&ledger).unwrap();
    for kind in ["secret-set", "secret-rotated", "secret-removed"] {
        assert_eq!(ledger.matches(&format!("\"kind\":\"{kind}\"")).count(), 1, "{ledger}");
    }
    assert!(
        ledger.contains("GET https://api.github.com as bearer") && !ledger.contains("canary"),
        "{ledger}"
    );
    drop(folder);
}

#[tokio::test]
async fn what_an_owner_erases_is_gone_from_every_answer_and_the_ledger_says_who_and_why() {
    let (sessions, _folder) = sessions_for_tests().await;
    let store = sessions.store();
    let owner = store.people().await.unwrap().remove(0);
    let act = store::Act::Connect("GET https://api.example:443".to_owned());
    let refused = store::Event::Refused { act, why: "no".to_owned() };
    let sealed = store::Private::new("canary-of-a-person".to_owned());
    let seq = store.record(&About::default(), &refused, Some(&sealed), now()).await.unwrap();
    let ask = async |path: &str, body: String| {
        let request = Request::builder().method(Method::POST).uri(format!("/{}/{path}", api::VERSION));
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer(owner.uid.unwrap())));
        let response = router(&sessions).call(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    // As `lazaret ledger export` asks.
    let export = async || ask("ledger/entries", r#"{"count":1000,"after":0}"#.to_owned()).await.1;
    assert!(export().await.contains("canary-of-a-person"));
    let erase =
        async |seq: u64, why: &str| ask("ledger/erase", format!(r#"{{"seq":{seq},"why":"{why}"}}"#)).await.0;
    assert_eq!(erase(seq, " ").await, StatusCode::BAD_REQUEST);
    assert_eq!(erase(seq + 100, "not there").await, StatusCode::NOT_FOUND);
    assert!(export().await.contains("canary-of-a-person"));
    assert_eq!(erase(seq, "asked for by its subject").await, StatusCode::OK);
    let all = export().await;
    assert!(!all.contains("canary-of-a-person") && all.contains(r#""sealed":"gone""#), "{all}");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&all).unwrap();
    let erased = entries.iter().find(|entry| entry["event"]["kind"] == "erased").unwrap();
    assert_eq!(erased["event"]["seq"], seq);
    assert_eq!(erased["event"]["by"], owner.name.as_str());
    assert_eq!(erased["event"]["why"], "asked for by its subject");
    assert_eq!(erase(seq, "again").await, StatusCode::OK, "it is as gone as can be");
    let (_, verdict) = ask("ledger/verify", "null".to_owned()).await;
    assert!(verdict.contains(r#""erased":1"#) && verdict.contains(r#""fault":null"#), "{verdict}");
}

/// Whoever asked goes away as soon as this is so.
async fn left(asked: impl Future<Output = Response>, so: impl Fn() -> bool) {
    let so = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = so => {}
        _ = asked => {}
    }
}

#[tokio::test]
async fn what_was_begun_is_done_and_written_down_though_whoever_asked_goes_away() {
    let (sessions, folder) = sessions_for_tests().await;
    let store = sessions.store();
    let owner = store.people().await.unwrap().remove(0).uid.unwrap();
    let ask = |method: Method, path: &str, body: &str| {
        let request = Request::builder().method(method).uri(format!("/{}/{path}", api::VERSION));
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer(owner)));
        let mut router = router(&sessions);
        async move { router.call(request).await.unwrap() }
    };
    let written = async |kind: &str| {
        let filter = store::Filter { kind: Some(kind.to_owned()), ..store::Filter::default() };
        let all = async {
            while store.tail(10, &filter).await.unwrap().is_empty() {
                store.changed().await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), all).await;
        assert!(waited.is_ok(), "no {kind} is on the ledger");
    };
    let secret = r#"{"value":"canary-4f9d1c7b","bindings":[{"to":"https://api.github.com","methods":["GET"],"how":"bearer"}]}"#;
    assert_eq!(ask(Method::PUT, "secrets/github", secret).await.status(), StatusCode::OK);
    let rotate = ask(Method::POST, "secrets/github/rotate", r#"{"value":"canary-e2a86035"}"#);
    let set = sessions.vault().list()[0].rotated;
    while now() == set {
        tokio::task::yield_now().await;
    }
    left(rotate, || sessions.vault().list()[0].rotated != set).await;
    written("secret-rotated").await;

    let server = r#"{"name":"crm","url":"http://127.0.0.1:9/mcp"}"#;
    let crm = "crm".parse().unwrap();
    left(ask(Method::PUT, "servers/crm", server), || sessions.servers.known.one(&crm).is_some()).await;
    written("server-added").await;
    let table = serde_json::to_string("[tools.look]\neffects = [\"read\"]\n").unwrap();
    let said = || !sessions.servers.known.table_of(&crm).unwrap().tools.is_empty();
    left(ask(Method::PUT, "servers/crm/table", &table), said).await;
    written("tool-classified").await;
    let gone = || sessions.servers.known.one(&crm).is_none();
    left(ask(Method::DELETE, "servers/crm", ""), gone).await;
    written("server-removed").await;
    drop(folder);
}

/// What is logged as an error.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<String>>);

impl tracing::Subscriber for Logged {
    fn enabled(&self, of: &tracing::Metadata<'_>) -> bool {
        *of.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text<'a>(&'a mut String);
        impl tracing::field::Visit for Text<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn the_daemons_end_waits_for_what_was_begun_and_what_fails_unheard_is_logged() {
    let (sessions, _folder) = sessions_for_tests().await;
    let logged = Logged::default();
    let _logging = tracing::subscriber::set_default(logged.clone());
    let refused = || Err::<(), _>(Failed(Problem::new(ProblemKind::Refused, "canary of a failure")));
    assert!(to_its_end(Arc::clone(&sessions), |_| async move { refused() }).await.is_err());
    assert_eq!(*logged.0.lock().unwrap(), "", "whoever asked was told");

    let (open, gate) = oneshot::channel::<()>();
    let (done, kept) = oneshot::channel();
    let work = |sessions: Arc<Sessions>| async move {
        gate.await.unwrap();
        let event = store::Event::DaemonStopped {};
        done.send(sessions.store().record(&About::default(), &event, None, now()).await).unwrap();
        refused()
    };
    // Whoever asks goes away.
    assert!(to_its_end(Arc::clone(&sessions), work).now_or_never().is_none());
    let ending = tokio::spawn({
        let sessions = Arc::clone(&sessions);
        async move { sessions.close().await }
    });
    for _ in 0..20 {
        assert!(sessions.store().people().await.is_ok(), "the store is closed while something is under way");
    }
    let late = to_its_end(Arc::clone(&sessions), |_| async { panic!("begun after the end began") });
    let late: super::Answer<()> = late.await;
    assert!(late.is_err_and(|Failed(problem)| problem.message.contains("nothing was changed")));
    open.send(()).unwrap();
    ending.await.unwrap().unwrap();
    assert!(kept.await.unwrap().is_ok());
    assert!(sessions.store().people().await.is_err());
    let logged = logged.0.lock().unwrap().clone();
    assert!(logged.contains("canary of a failure") && logged.contains("whoever asked had gone"), "{logged}");
}

#[tokio::test]
async fn whoever_only_looks_at_an_agent_starts_no_tool_server() {
    let (sessions, folder) = sessions_for_tests().await;
    let store = sessions.store();
    let owner = store.people().await.unwrap().remove(0);
    let (eve, uid) = ("eve".parse().unwrap(), owner.uid.map(|uid| uid + 1));
    let eve = Person { name: eve, uid, role: Role::Viewer };
    store.put_person(&eve, &owner.name, now()).await.unwrap();
    // It never answers.
    let server = r#"{"name":"crm","cell":{"image":"base","command":["deaf"],"allow_emulation":true}}"#;
    sessions.servers.known.put(serde_json::from_str(server).unwrap()).unwrap();
    let agent: AgentName = "a".parse().unwrap();
    let file = |allowed: &str| {
        format!("name = \"a\"\nharness = {{ command = [\"echo\"] }}\n[tools.crm]\nallow = [{allowed}]\n")
    };
    let (before, at) = (file("\"look\", \"send\""), folder.path().join("c/agents/a"));
    sessions.agents.applied.keep(&agent, &before, None).unwrap();
    let (digest, scope) = (applied::digest(&before, None), store::Scope::New);
    let about = About { agent: Some(agent.clone()), ..About::default() };
    let event = store::Event::AgentApplied { digest, scope, by: owner.name.clone() };
    store.record(&about, &event, None, now()).await.unwrap();
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(at.join("agent.toml"), file("\"look\"")).unwrap();

    let of_eve = client(&sessions, folder.path(), uid.unwrap());
    let starts = async {
        while sessions.servers.cells.running().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let details = tokio::select! {
        biased;
        () = starts => panic!("a cell starts for who only looks"),
        details = of_eve.agent(&agent) => details.unwrap(),
    };
    assert_eq!(details.counts, api::FilesCount::Waiting);
    let refused = of_eve.agent_tools(&agent).await.unwrap_err().to_string();
    assert!(refused.contains("eve is viewer, and this needs approver"), "{refused}");
}

#[tokio::test]
async fn an_agent_whose_lines_are_too_many_to_show_is_refused_with_why() {
    let (sessions, folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0).uid.unwrap();
    let (at, agent) = (folder.path().join("c/agents/a"), "a".parse().unwrap());
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(at.join("agent.toml"), "name = \"a\"\nharness = { command = [\"echo\"] }\n").unwrap();
    let client = client(&sessions, folder.path(), owner);
    for (lines, shown) in [(60_000, true), (87_000, false)] {
        std::fs::write(at.join("policy.cedar"), "//\n".repeat(lines)).unwrap();
        let told = [
            client.agent(&agent).await.map(drop).map_err(|e| e.to_string()),
            client.agent_tools(&agent).await.map(drop).map_err(|e| e.to_string()),
        ];
        for told in told {
            assert_eq!(told.is_ok(), shown, "{told:?}");
            assert!(
                told.is_ok() || told.as_ref().is_err_and(|why| why.contains("bytes to show")),
                "{told:?}"
            );
        }
    }
}

/// A question with arguments of that size.
fn large_question(owner: &domain::PersonName, bytes: usize, n: u8) -> store::Question {
    let about = About { agent: Some("clerk".parse().unwrap()), ..About::default() };
    let arguments = store::Private::new("x".repeat(bytes));
    let content = store::Private::new(String::new());
    store::Question {
        agent: "clerk".parse().unwrap(),
        about,
        act: store::Act::Tool("crm__send".parse().unwrap()),
        binding: domain::Digest::from_bytes([n; 32]),
        shown: store::Shown { arguments, content, origins: Vec::new(), consequences: Vec::new() },
        effects: domain::Effects::UNKNOWN,
        ceiling: Labels::default(),
        reasons: Vec::new(),
        quorum: domain::Quorum {
            people: [owner.clone()].into(),
            need: 1,
            excluded: [].into(),
            until: u64::MAX,
        },
    }
}

#[tokio::test]
async fn what_agents_make_large_hides_nothing_from_people() {
    let (sessions, folder) = sessions_for_tests().await;
    let store = sessions.store();
    let owner = store.people().await.unwrap().remove(0);
    let client = client(&sessions, folder.path(), owner.uid.unwrap());

    let act = store::Act::Connect("GET https://api.example:443".to_owned());
    let refused = store::Event::Refused { act, why: "no".to_owned() };
    // The largest that there can be, of what JSON makes the most of.
    for text in ["x".repeat(1 << 20), "\u{1}".repeat(store::MAX_SEALED), "x".repeat(1 << 20)] {
        store.record(&About::default(), &refused, Some(&store::Private::new(text)), now()).await.unwrap();
    }
    let asked = [700 << 10, 900 << 10, 900 << 10, 900 << 10, store::MAX_SHOWN - 1000];
    for (n, bytes) in (0..).zip(asked) {
        let id = domain::ApprovalId::from_parts(2, n.into());
        store.ask(id, &large_question(&owner.name, bytes, n), now()).await.unwrap();
    }

    let last = store.head().await.unwrap().unwrap().seq;
    let seq = |entry: api::LedgerEntry| entry["seq"].as_u64().unwrap();
    let all = api::LedgerQuery { count: 1000, ..api::LedgerQuery::default() };
    assert_eq!(client.newest(&all, seq).await.unwrap(), (1..=last).collect::<Vec<_>>());
    let few = api::LedgerQuery { count: 7, ..all.clone() };
    assert_eq!(client.newest(&few, seq).await.unwrap(), (last - 6..=last).collect::<Vec<_>>());
    let mut after = Some(0);
    while let Some(from) = after.filter(|from| *from < last) {
        let on = api::LedgerQuery { after, ..all.clone() };
        after = client.ledger(&on).await.unwrap().pop().map(seq);
        assert!(after > Some(from), "{after:?}");
    }

    let mut waiting = client.approvals().await.unwrap();
    for bytes in asked {
        let question = waiting.next().await.unwrap().unwrap();
        assert_eq!(question.shown.as_ref().unwrap().arguments.len(), bytes);
        assert_eq!(client.approval(question.id).await.unwrap(), question);
    }
    assert!(waiting.next().await.unwrap().is_none());
}

/// What this user reaches.
fn client(sessions: &Arc<Sessions>, folder: &std::path::Path, uid: u32) -> api::Client {
    let socket = folder.join(format!("api-{uid}"));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let peer = axum::Extension(ConnectInfo(Peer(uid)));
    let served = axum::serve(listener, router(sessions).layer(peer).into_make_service());
    tokio::spawn(async move { served.await });
    api::Client::new(&socket)
}

#[tokio::test]
async fn whoever_tells_a_session_something_is_on_the_ledger_and_one_of_its_authors() {
    let (sessions, folder) = sessions_for_tests().await;
    let store = sessions.store();
    let owner = store.people().await.unwrap().remove(0);
    let bob =
        Person { name: "bob".parse().unwrap(), uid: owner.uid.map(|uid| uid + 1), role: Role::Approver };
    store.put_person(&bob, &owner.name, now()).await.unwrap();
    let [of_owner, of_bob] = [&owner, &bob].map(|who| client(&sessions, folder.path(), who.uid.unwrap()));
    let file = "name = \"a\"\nharness = { command = [\"echo\"] }\n".to_owned();
    let (options, prompt) = (api::StartOptions::default(), None);
    let agent = api::AgentRef::Files(api::AgentFiles { text: file, cedar: None });
    let new = NewSession { agent, prompt, terminal: None, stdin: true, workspace: false, options };
    let id = of_owner.start(&new).await.unwrap().id;
    let authors = || sessions.live_one(id).unwrap().authors().all();
    let written = async |kind: &str| {
        let filter = store::Filter { kind: Some(kind.to_owned()), ..store::Filter::default() };
        store.tail(10, &filter).await.unwrap()
    };
    let echoed = async |client: &api::Client, text: &str| {
        let mut attached = client.attach(id, false).await.unwrap();
        let data = api::Data(text.as_bytes().to_vec());
        attached.input.send(&api::Input::Stdin { data }).await.unwrap();
        while let Some(told) = attached.events.next().await.unwrap() {
            if matches!(&told.event, api::Event::Output { data, .. } if data.0 == text.as_bytes()) {
                return;
            }
        }
        panic!("{text} didn't come back");
    };
    echoed(&of_owner, "from its author").await;
    assert!(written("session-steered").await.is_empty());
    assert_eq!(authors(), [owner.name.clone()].into());
    for again in ["from another", "once more"] {
        echoed(&of_bob, again).await;
        let steered = written("session-steered").await;
        assert_eq!(steered.len(), 1);
        assert_eq!(steered[0].event, store::Event::SessionSteered { by: bob.name.clone() });
        assert_eq!(steered[0].about.session, Some(id));
        assert_eq!(authors(), [owner.name.clone(), bob.name.clone()].into());
    }

    let other = of_owner.start(&new).await.unwrap().id;
    let live = sessions.live_one(other).unwrap();
    while live.live().is_none() {
        tokio::task::yield_now().await;
    }
    let argv = vec!["hello".to_owned(), "canary".to_owned()];
    let program = api::ExecRequest { argv, terminal: None, guest_root: false };
    let mut ran = of_bob.exec(other, &program).await.unwrap();
    while ran.events.next().await.unwrap().is_some() {}
    let entries = written("program-run").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].event, store::Event::ProgramRun { by: bob.name.clone() });
    assert_eq!(
        entries[0].sealed,
        store::Sealed::Open(store::Private::new(r#"["hello","canary"]"#.to_owned()))
    );
    assert!(live.authors().all().contains(&bob.name));
    for id in [id, other] {
        of_owner.stop(id, StopRequest { now: true }).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_is_removed_or_gets_a_lesser_role_keeps_nothing_open() {
    let (sessions, folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0);
    let uid = owner.uid.map(|uid| uid + 1);
    let bob = |role| Person { name: "bob".parse().unwrap(), uid, role };
    let becomes = async |role| {
        sessions.store().put_person(&bob(role), &owner.name, now()).await.unwrap();
        sessions.know_people().await.unwrap();
    };
    becomes(Role::Approver).await;
    let [of_owner, of_bob] = [owner.uid, uid].map(|uid| client(&sessions, folder.path(), uid.unwrap()));
    let file = "name = \"a\"\nharness = { command = [\"echo\"] }\n".to_owned();
    let agent = api::AgentRef::Files(api::AgentFiles { text: file, cedar: None });
    let options = api::StartOptions::default();
    let new = NewSession { agent, prompt: None, terminal: None, stdin: true, workspace: false, options };
    let id = of_owner.start(&new).await.unwrap().id;
    let session = sessions.live_one(id).unwrap();
    while session.live().is_none() {
        tokio::task::yield_now().await;
    }
    let argv = vec!["deaf".to_owned()];
    let program = api::ExecRequest { argv, terminal: None, guest_root: false };
    let mut attached = of_bob.attach(id, false).await.unwrap();
    attached.events.next().await.unwrap();
    let mut watched = of_bob.watch_approvals().await.unwrap();
    let mut ran = of_bob.exec(id, &program).await.unwrap();
    let written = async |count| {
        let filter = store::Filter { kind: Some("program-run".to_owned()), ..store::Filter::default() };
        while sessions.store().tail(9, &filter).await.unwrap().len() < count {
            sessions.store().changed().await;
        }
    };
    written(1).await;

    becomes(Role::Viewer).await;
    closes(attached).await;
    closes(ran).await;
    assert!(sessions.live_one(id).is_some(), "the session itself goes on");
    // Who only looks still may.
    let question = domain::ApprovalId::from_parts(2, 1);
    sessions.store().ask(question, &large_question(&owner.name, 9, 1), now()).await.unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap().id, question);

    becomes(Role::Approver).await;
    ran = of_bob.exec(id, &program).await.unwrap();
    written(2).await;
    sessions.store().remove_person(&bob(Role::Viewer).name, &owner.name, now()).await.unwrap();
    sessions.know_people().await.unwrap();
    closes(ran).await;
    assert!(watched.next().await.is_err(), "nobody takes it for whole");
    of_owner.stop(id, StopRequest { now: true }).await.unwrap();
}

/// Waits until nothing more comes; the last that came.
async fn closes(mut open: api::Attachment) -> Option<api::Event> {
    let mut last = None;
    let all = async {
        while let Ok(Some(told)) = open.events.next().await {
            last = Some(told.event);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("it stays open");
    last
}

#[tokio::test]
async fn whoever_loses_their_role_reads_no_further_in_a_session_that_has_ended() {
    let (sessions, folder) = sessions_for_tests().await;
    let owner = sessions.store().people().await.unwrap().remove(0);
    let uid = owner.uid.map(|uid| uid + 1);
    let becomes = async |role| {
        let bob = Person { name: "bob".parse().unwrap(), uid, role };
        sessions.store().put_person(&bob, &owner.name, now()).await.unwrap();
        sessions.know_people().await.unwrap();
    };
    becomes(Role::Approver).await;
    let [of_owner, of_bob] = [owner.uid, uid].map(|uid| client(&sessions, folder.path(), uid.unwrap()));
    let file = "name = \"a\"\nharness = { command = [\"drip\"] }\n".to_owned();
    let agent = api::AgentRef::Files(api::AgentFiles { text: file, cedar: None });
    let options = api::StartOptions::default();
    let new = NewSession { agent, prompt: None, terminal: None, stdin: false, workspace: false, options };
    let id = of_owner.start(&new).await.unwrap().id;
    let drips = async || {
        let mut lines = of_owner.events(id, true).await.unwrap();
        for _ in 0..20_000 {
            lines.next().await.unwrap();
        }
    };
    drips().await;
    of_owner.stop(id, StopRequest { now: true }).await.unwrap();
    while sessions.live_one(id).is_some() {
        tokio::task::yield_now().await;
    }
    let whole = of_bob.attach(id, false).await.unwrap();
    assert!(matches!(closes(whole).await, Some(api::Event::Ended { .. })));

    // More than is under way at once.
    let mut attached = of_bob.attach(id, false).await.unwrap();
    attached.events.next().await.unwrap();
    becomes(Role::Viewer).await;
    for _ in 0..5 {
        sessions.store().people().await.unwrap();
    }
    assert!(matches!(closes(attached).await, Some(api::Event::Output { .. })));
}

#[tokio::test]
async fn labels_come_down_by_an_owners_word_and_a_reason_alone() {
    let (sessions, _folder) = sessions_for_tests().await;
    let store = sessions.store();
    let disk: Keeper = "disk:clerk".parse().unwrap();
    let web = Labels { integrity: Integrity::Web, ..Labels::default() };
    store.raise(&disk, &web, &About::default(), now()).await.unwrap();
    let owner = store.people().await.unwrap().remove(0).uid.unwrap();
    let lower = async |body: &str| {
        let request = Request::builder().method(Method::POST).uri(format!("/{}/labels/lower", api::VERSION));
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(Peer(owner)));
        router(&sessions).call(request).await.unwrap().status()
    };
    let request = |keeper: &str, labels: &str, why: &str| {
        format!(r#"{{"keeper":"{keeper}","labels":{labels},"why":"{why}"}}"#)
    };
    for (bad, status) in [
        (request("disk:clerk", "{}", " "), StatusCode::BAD_REQUEST),
        (request("disk:clerk", "{}", &"x".repeat(api::MAX_WHY + 1)), StatusCode::BAD_REQUEST),
        (request("disk:clerk", r#"{"confidentiality":"secret"}"#, "x"), StatusCode::BAD_REQUEST),
        (request("disk:clerk", r#"{"confidentiality":"huge"}"#, "x"), StatusCode::BAD_REQUEST),
        (request("disk:", "{}", "x"), StatusCode::BAD_REQUEST),
        (request("session:00000000000000000000000000", "{}", "x"), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(lower(&bad).await, status, "{bad}");
    }
    assert_eq!(store.labels(&disk).await.unwrap(), web);
    assert_eq!(lower(&request("disk:clerk", "{}", "wiped")).await, StatusCode::OK);
    assert_eq!(store.labels(&disk).await.unwrap(), Labels::default());
}

#[test]
fn every_endpoint_is_in_the_list() {
    let source = include_str!("mod.rs");
    let methods = ["get(", "post(", "put(", "delete("].map(|method| source.matches(method).count());
    assert_eq!(methods.iter().sum::<usize>(), ENDPOINTS.len(), "a route is missing in ENDPOINTS");
}
