//! A session's tools without its cell: the real door, gate, policy and store, with a listener on loopback in place of the
//! guest's relay. What is left out is the machine, not the way of a call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dial::{Dialer, Network};
use domain::{AgentFile, Confidentiality, ModelName, PersonName, ServerName, SessionId, TeamName};
use futures::future::BoxFuture;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::tools::{Authors, Connector, Servers, Session, SessionGate, ToolEvent};
use gateway::{BaseUrl, Credential};
use policy::{AgentPolicy, KnownModel, Seen, Sources, Table};
use store::{About, Answer, Keeper, Place, Store};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wire::early::{Answer as Born, Question as Birth, VERSION};
use wire::frame::{self, CHUNK, LARGE, SMALL};
use wire::guest::{ContainerSpec, FromGuest, GuestOpens, Protections, ToGuest};
use wire::host::{DaemonOpens, DoorOpens, DoorReport};
use wire::mux::{Incoming, MuxLimits, Opener, Side, Stream, mux};
use wire::tools::ToolFailure;

/// The name under which the one tool server is known.
pub const SERVER: &str = "env";

/// What the session is given.
pub struct Given<'a> {
    /// The way to its tool server.
    pub server: Arc<dyn Connector>,
    /// What is said of the server's tools.
    pub table: Table,
    /// The agent's file.
    pub agent: &'a str,
    /// What the person typed.
    pub prompt: &'a str,
    /// Today's year.
    pub year: u16,
}

/// A session's tools. Dropping it ends it.
pub struct CellLess {
    /// Its MCP endpoint, as on the guest's loopback.
    pub endpoint: String,
    /// Where its questions and its ledger are.
    pub store: Store,
    /// Who answers.
    pub person: PersonName,
    /// What people are told: questions that wait, calls that were refused.
    pub events: mpsc::Receiver<ToolEvent>,
    tasks: JoinSet<()>,
    _policy: watch::Sender<Arc<AgentPolicy>>,
    _folder: tempfile::TempDir,
}

/// The gate of an agent without tools that may ask these models, which are cleared for all.
pub(crate) async fn models_only(models: &[ModelName]) -> (Arc<SessionGate>, tempfile::TempDir) {
    let (folder, store) = fresh_store().await;
    let servers = Servers::new(store, Arc::new(random), now, at("http://127.0.0.1:9"));
    let names: Vec<String> = models.iter().map(|model| format!("\"{model}\"")).collect();
    let file = format!("name = \"clerk\"\nmodels = [{}]\n", names.join(", "));
    let file = AgentFile::parse(&file).expect("the agent's file");
    let clearance = Confidentiality::Secret;
    let known: Vec<KnownModel> =
        models.iter().map(|model| KnownModel { model: model.clone(), clearance }).collect();
    let from = Sources {
        agent: &file,
        file: "agent.toml",
        own: None,
        organisation: &[],
        tools: &[],
        models: &known,
    };
    let (_, policy) = watch::channel(Arc::new(AgentPolicy::compile(&from).expect("a policy")));
    let (events, _) = mpsc::channel(8);
    let session = session(&file, None);
    let gate = SessionGate::open(Arc::new(servers), session, policy, Seen::new([0; 32]), events).await;
    (Arc::new(gate.expect("a gate")), folder)
}

/// Random bytes of the system.
///
/// # Errors
/// It has none.
pub fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, bytes)
}

pub(crate) async fn fresh_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::Builder::new().prefix("lazaret-cell-less-").tempdir().expect("a folder");
    let place = Place::File(folder.path().join("store/store.db"));
    let key = folder.path().join("store/store.key");
    let store = Store::open(&place, &key, Arc::new(random)).await.expect("a store");
    (folder, store)
}

pub(crate) fn session(file: &AgentFile, by: Option<PersonName>) -> Session {
    let about = About {
        agent: Some(file.name.clone()),
        team: Some(file.team.clone()),
        session: Some(SessionId::from_parts(now(), u128::from(std::process::id()))),
    };
    Session {
        about,
        by: Authors::new(by),
        disk: Some(Keeper::Disk(file.name.clone())),
        tokens_per_day: u64::from(u32::MAX),
        usd_per_day: None,
    }
}

/// The system's clock, in milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The dialer of a host where nobody configured anything.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn dialer() -> Dialer {
    Dialer::new(Network::default()).expect("a dialer")
}

/// The way to a tool server at this address.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn at(address: &str) -> Arc<dyn Connector> {
    Arc::new(OneServer(BaseUrl::parse(address, false).expect("the server's address")))
}

struct OneServer(BaseUrl);

impl Connector for OneServer {
    fn connect<'s>(
        &'s self,
        _team: &'s TeamName,
        _server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        Box::pin(async {
            Upstream::over_http(&dialer(), &self.0, Credential::None, UpstreamLimits::default()).await
        })
    }
}

impl CellLess {
    /// Pins the server's tools as they are, and opens the session.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    pub async fn open(given: Given<'_>) -> Self {
        let (folder, store) = fresh_store().await;
        let person: PersonName = "ada".parse().expect("a name");
        store.install_owner(&person, 1000, now()).await.expect("its owner");
        let servers = Servers::new(store.clone(), Arc::new(random), now, given.server);
        let server: ServerName = SERVER.parse().expect("a name");
        servers.classify(BTreeMap::from([(server.clone(), Arc::new(given.table))]));
        let file = AgentFile::parse(given.agent).expect("the agent's file");
        let policy = applied(&servers, &file, &server, &person).await;
        let (told, policy) = watch::channel(Arc::new(policy));
        let mut salt = [0; 32];
        random(&mut salt).expect("random bytes");
        let mut seen = Seen::new(salt);
        seen.person(given.prompt);
        seen.year(given.year);
        let session = session(&file, Some(person.clone()));
        let (tell, events) = mpsc::channel(64);
        let gate = SessionGate::open(Arc::new(servers), session, policy, seen, tell).await.expect("a gate");
        let mut tasks = JoinSet::new();
        let gate = Arc::new(gate);
        let answer = move |mut stream: Stream| {
            let gate = Arc::clone(&gate);
            async move {
                if let Ok(Some(DoorOpens::Tools(ask))) = frame::read(&mut stream, LARGE).await {
                    drop(gateway::tools::serve(ask, stream, gate.as_ref()).await);
                }
            }
        };
        let endpoint = format!("http://{}/mcp", door(GuestOpens::Tools, answer, &mut tasks).await);
        Self { endpoint, store, person, events, tasks, _policy: told, _folder: folder }
    }

    /// Answers a question as the person.
    ///
    /// # Errors
    /// The answer does nothing.
    pub async fn answer(&self, id: domain::ApprovalId, yes: bool) -> Result<(), store::ApprovalError> {
        let answer = Answer { person: self.person.clone(), yes, for_session: false, why: None };
        self.store.answer(id, &answer, now()).await.map(drop)
    }

    /// Ends the session.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
        self.store.close().await;
    }
}

/// The agent's policy, with all tools pinned as the server offers them now.
async fn applied(servers: &Servers, file: &AgentFile, server: &ServerName, by: &PersonName) -> AgentPolicy {
    let candidates = servers.candidates(&file.team, server).await.expect("the server's tools");
    let pins = candidates.into_iter().map(|one| (one.pin.tool, one.digest)).collect();
    servers.store().pin(&file.name, &pins, by, now()).await.expect("its pins");
    let tools = servers.known(&file.name, &file.team, server).await.expect("its tools");
    let from =
        Sources { agent: file, file: "agent.toml", own: None, organisation: &[], tools: &tools, models: &[] };
    AgentPolicy::compile(&from).expect("a policy")
}

/// Puts a door before what answers its streams, and gives the address at which a program reaches a service of it.
pub(crate) async fn door<F, A>(service: GuestOpens, answer: F, tasks: &mut JoinSet<()>) -> SocketAddr
where
    F: Fn(Stream) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let (channel, guest) = UnixStream::pair().expect("a channel");
    let (doors, daemons) = UnixStream::pair().expect("a link");
    tasks.spawn(async move {
        drop(door::serve(channel, doors, door::DoorLimits::default()).await);
    });
    let (daemon, asked, driver) = mux(daemons, Side::Host, MuxLimits { streams: 256, backlog: 64 });
    tasks.spawn(async move { drop(driver.run().await) });
    tasks.spawn(serve(asked, answer));
    let (guest, control) = born(daemon, guest, tasks).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tasks.spawn(relay(listener, service, guest, control));
    address
}

/// The daemon's side: every stream is answered in a task of its own.
async fn serve<F, A>(mut asked: Incoming, answer: F)
where
    F: Fn(Stream) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let mut served = JoinSet::new();
    while let Some(stream) = asked.next().await {
        while served.try_join_next().is_some() {}
        served.spawn(answer(stream));
    }
}

/// What must live as long as the session.
type Control = (Opener, Stream, Stream, Incoming);

/// The guest's side up to where its programs may speak.
async fn born(daemon: Opener, mut guest: UnixStream, tasks: &mut JoinSet<()>) -> (Opener, Control) {
    let mut control = daemon.open().await.expect("a control stream");
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
    frame::write(&mut control, &head, SMALL).await.expect("the door's orders");
    let _birth: Option<Birth> = frame::read(&mut guest, SMALL).await.expect("a birth");
    let born = Born::Born { version: VERSION, boot_id: "0".into() };
    frame::write(&mut guest, &born, SMALL).await.expect("a birth");
    let (guest, mut from_door, driver) = mux(guest, Side::Guest, MuxLimits::default());
    tasks.spawn(async move { drop(driver.run().await) });
    let mut guests_control = from_door.next().await.expect("the guest's control stream");
    let _head: Option<wire::guest::DoorOpens> =
        frame::read(&mut guests_control, SMALL).await.expect("its head");
    let _order: Option<ToGuest> = frame::read(&mut guests_control, SMALL).await.expect("its order");
    let configured = FromGuest::Configured(Protections::default());
    frame::write(&mut guests_control, &configured, SMALL).await.expect("its word");
    for _ in 0..2 {
        let _report: Option<DoorReport> = frame::read(&mut control, SMALL).await.expect("a report");
    }
    (guest, (daemon, control, guests_control, from_door))
}

/// The guest's relay: each connection is a stream to the service.
async fn relay(listener: TcpListener, service: GuestOpens, guest: Opener, control: Control) {
    let _control = control;
    let mut relayed = JoinSet::new();
    while let Ok((mut connection, _)) = listener.accept().await {
        while relayed.try_join_next().is_some() {}
        let guest = guest.clone();
        relayed.spawn(async move {
            let Ok(mut stream) = guest.open().await else { return };
            if frame::write(&mut stream, &service, SMALL).await.is_ok() {
                // In pieces as large as in a guest.
                drop(copy_bidirectional_with_sizes(&mut connection, &mut stream, CHUNK, CHUNK).await);
            }
        });
    }
}
