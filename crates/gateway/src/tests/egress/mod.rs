//! Requests that leave, from the door's stream to real HTTPS servers on loopback.

mod cases;
mod pushes;
mod secrets;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dial::{Dialer, Network};
use domain::{AgentFile, Labels, PersonName};
use policy::{AgentPolicy, Seen, Sources, Text};
use store::{About, Event, Filter, Place, Store};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use vault::Vault;
use wire::egress::{BodyLength, EgressAnswer, EgressBody, EgressRequest, MAX_ANSWER, Scheme};
use wire::frame::{self, LARGE};

pub(crate) use self::server::{GOODBYE, Here, Site};
use super::permits::Nowhere;
use crate::egress::{Bounds, Outside, SessionEgress};
use crate::tests::random;
use crate::tools::{Authors, Servers, Session, SessionGate, ToolEvent};

const NOW: u64 = 1_795_000_000_000;

const EGRESS: &str = r#"
allow = [
    "GET,HEAD https://api.example:PORT/**?*",
    "POST https://api.example:PORT/echo", "POST https://api.example:PORT/early",
    "GET https://wiki.corp.example:PORT/**", "GET https://api.example:PORT/never/listed",
]
ask = ["PUT https://api.example:PORT/**"]
deny = ["* https://api.example:PORT/secret"]
body = "1MiB"
bytes_out_per_day = "2MiB"
requests_per_minute = 60
"#;

struct Rig {
    site: Site,
    store: Store,
    gate: Arc<SessionGate>,
    egress: Arc<SessionEgress>,
    outside: Outside,
    events: mpsc::Receiver<ToolEvent>,
    owner: PersonName,
    policy: watch::Sender<Arc<AgentPolicy>>,
    pause: Pause,
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
struct Back {
    status: u16,
    headers: Vec<(String, String)>,
    /// The body, or why there is none.
    body: Vec<u8>,
    refused: bool,
    whole: bool,
}

impl Back {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Holds the next commit between its decision and the store: says when it is there, and waits for a word.
#[derive(Clone, Default)]
struct Pause(Arc<std::sync::Mutex<Option<Armed>>>);

type Armed = (oneshot::Sender<()>, std::sync::mpsc::Receiver<()>);

impl Pause {
    fn arm(&self) -> (oneshot::Receiver<()>, std::sync::mpsc::Sender<()>) {
        let (there, is_there) = oneshot::channel();
        let (go, goes) = std::sync::mpsc::channel();
        *self.0.lock().unwrap() = Some((there, goes));
        (is_there, go)
    }

    fn here(&self) {
        let armed = self.0.lock().unwrap().take();
        if let Some((there, goes)) = armed {
            there.send(()).unwrap();
            goes.recv().unwrap();
        }
    }
}

fn agent(egress: &str, port: u16) -> AgentFile {
    let head = "name = \"clerk\"\nteam = \"sales\"\nharness = { command = [\"true\"] }\n[egress]\n";
    AgentFile::parse(&format!("{head}{}", egress.replace("PORT", &port.to_string()))).unwrap()
}

fn compiled(agent: &AgentFile) -> Arc<AgentPolicy> {
    compiled_beside(agent, None)
}

/// The same, with this policy beside the agent.
fn compiled_beside(agent: &AgentFile, own: Option<&str>) -> Arc<AgentPolicy> {
    let own = own.map(|text| Text { name: "policy.cedar", text });
    let from = Sources { agent, file: "agent.toml", own, organisation: &[], tools: &[], models: &[] };
    Arc::new(AgentPolicy::compile(&from).unwrap())
}

impl Rig {
    async fn new() -> Self {
        Self::with(EGRESS, false, Bounds::default(), None).await
    }

    /// From now on, it is a cell of this tool server that makes requests.
    fn be_server(&mut self, name: &str) {
        let (gate, outside) = (Arc::clone(&self.gate), self.outside.clone());
        self.egress = Arc::new(SessionEgress::of_server(name.parse().unwrap(), gate, outside));
    }

    /// The same for a cell that no session is of.
    async fn be_cell(&mut self, name: &str) {
        let about = About { agent: None, team: Some("sales".parse().unwrap()), session: None };
        let session =
            Session { about, by: Authors::default(), disk: None, tokens_per_day: 0, usd_per_day: None };
        let servers = Servers::new(self.store.clone(), Arc::new(random), || NOW, Arc::new(Nowhere));
        let (seen, (events, _)) = (Seen::new([7; 32]), mpsc::channel(1));
        let gate = SessionGate::open(Arc::new(servers), session, self.policy.subscribe(), seen, events);
        self.gate = Arc::new(gate.await.unwrap());
        self.be_server(name);
    }

    async fn with(egress: &str, http2: bool, bounds: Bounds, vault: Option<Arc<Vault>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::start(folder.path(), http2).await;
        let place = Place::File(folder.path().join("store/store.db"));
        let key = folder.path().join("store/store.key");
        let store = Store::open(&place, &key, Arc::new(random)).await.unwrap();
        let owner: PersonName = "ada".parse().unwrap();
        store.install_owner(&owner, 1000, NOW).await.unwrap();
        let pause = Pause::default();
        let paused = pause.clone();
        let random_when_free = move |bytes: &mut [u8]| {
            paused.here();
            random(bytes)
        };
        let servers = Servers::new(store.clone(), Arc::new(random_when_free), || NOW, Arc::new(Nowhere));
        let file = agent(egress, site.port);
        let session = domain::SessionId::from_parts(NOW, 1);
        let about =
            About { agent: Some(file.name.clone()), team: Some(file.team.clone()), session: Some(session) };
        let session = Session {
            about,
            by: Authors::new(Some(owner.clone())),
            disk: None,
            tokens_per_day: 0,
            usd_per_day: None,
        };
        let (policy, told) = watch::channel(compiled(&file));
        let (sender, events) = mpsc::channel(64);
        let mut seen = Seen::new([7; 32]);
        seen.person(&format!("Look at https://api.example:{}/typed?by=me please.", site.port));
        let gate = SessionGate::open(Arc::new(servers), session, told, seen, sender).await.unwrap();
        let gate = Arc::new(gate);
        let named = ["api.example", "wiki.corp.example"];
        let network = Network {
            private: named.iter().map(|host| format!("{host}:{}", site.port).parse().unwrap()).collect(),
            ca: Some(site.ca.clone()),
            proxy: None,
        };
        let dialer = Dialer::resolving(network, Here(AtomicUsize::new(0))).unwrap();
        let own = Arc::from(["*.corp.example".parse().unwrap()]);
        let lender = vault.as_ref().map(super::vault::lender);
        let outside = Outside { dialer, own, lender, bounds };
        let egress = Arc::new(SessionEgress::new(Arc::clone(&gate), outside.clone()));
        Self { site, store, gate, egress, outside, events, owner, policy, pause, _folder: folder }
    }

    fn request(&self, text: &str) -> EgressRequest {
        let (method, url) = text.split_once(' ').unwrap();
        let (host, path) = url.split_once('/').unwrap();
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        EgressRequest {
            method: method.to_owned(),
            scheme: Scheme::Https,
            host: host.to_owned(),
            port: self.site.port,
            path: format!("/{path}"),
            query,
            headers: vec![("accept".to_owned(), "*/*".to_owned())],
            push: None,
            body: BodyLength::None,
        }
    }

    /// Sends a request and waits for all that comes back.
    async fn ask(&self, text: &str) -> Back {
        self.send(self.request(text), Vec::new()).await
    }

    async fn post(&self, text: &str, body: &[u8]) -> Back {
        let request = EgressRequest { body: BodyLength::Unknown, ..self.request(text) };
        self.send(request, body.chunks(8 << 10).map(<[u8]>::to_vec).collect()).await
    }

    async fn send(&self, request: EgressRequest, body: Vec<Vec<u8>>) -> Back {
        self.begun(request, body).await.unwrap()
    }

    /// Begins a request.
    fn begun(&self, request: EgressRequest, body: Vec<Vec<u8>>) -> tokio::task::JoinHandle<Back> {
        let egress = Arc::clone(&self.egress);
        tokio::spawn(async move {
            let (door, daemon) = tokio::io::duplex(1 << 16);
            let (mut read, mut write) = tokio::io::split(door);
            let length = request.body;
            tokio::spawn(async move { crate::egress::serve(request, daemon, egress.as_ref()).await });
            let sending = async {
                if length != BodyLength::None {
                    for piece in body {
                        drop(frame::write(&mut write, &EgressBody::Bytes(piece), LARGE).await);
                    }
                    drop(frame::write(&mut write, &EgressBody::End, LARGE).await);
                }
                write
            };
            let (_write, back) = tokio::join!(sending, received(&mut read));
            back
        })
    }

    /// Answers the question that a request leads to.
    async fn answer(&mut self, yes: bool) {
        let approval = loop {
            match self.events.recv().await.unwrap() {
                ToolEvent::Waits { approval, .. } => break approval,
                ToolEvent::Refused { .. } => {}
            }
        };
        let why = Some(store::Private::new("not that one".to_owned()));
        let answer = store::Answer { person: self.owner.clone(), yes, for_session: false, why };
        self.store.answer(approval, &answer, NOW).await.unwrap();
    }

    fn hits(&self) -> usize {
        self.site.hits.load(Ordering::SeqCst)
    }

    async fn meet(&self, labels: Labels) {
        self.gate.met(&labels).await.unwrap();
    }

    async fn labels(&self) -> Labels {
        self.gate.state.lock().await.labels.clone()
    }

    fn narrow(&self, egress: &str) {
        self.policy.send_replace(compiled(&agent(egress, self.site.port)));
    }

    async fn ledger(&self) -> Vec<Event> {
        self.gate.concluded().await;
        self.store.verify(None).await.unwrap();
        let entries = self.store.tail(1000, &Filter::default()).await.unwrap();
        entries.into_iter().map(|entry| entry.event).collect()
    }
}

async fn received(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Back {
    let mut back = Back { status: 0, headers: Vec::new(), body: Vec::new(), refused: false, whole: false };
    loop {
        let answer = tokio::time::timeout(Duration::from_secs(60), frame::read(from, MAX_ANSWER)).await;
        match answer.expect("an answer in time") {
            Ok(Some(EgressAnswer::Head { status, headers })) => {
                (back.status, back.headers) = (status, headers)
            }
            Ok(Some(EgressAnswer::Body(bytes))) => back.body.extend(bytes),
            Ok(Some(EgressAnswer::End)) => {
                back.whole = true;
                return back;
            }
            Ok(Some(EgressAnswer::Refused { status, why, hint })) => {
                let told = [why, hint.unwrap_or_default()].join("\n");
                return Back { status, body: told.into_bytes(), refused: true, ..back };
            }
            Ok(None) | Err(_) => {
                let mut rest = Vec::new();
                drop(from.read_to_end(&mut rest).await);
                return back;
            }
        }
    }
}
