//! Sessions: started, found, stopped. One task ([`task`]) owns each; a [`Session`] is how others reach it.

mod following;
mod handle;
mod host;
mod link;
mod models;
mod process;
mod task;
mod tools;
mod workspace;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{Fake, sessions_for_tests};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{AgentRef, Folders, MAX_PROMPT, NewSession, Problem, ProblemKind, SessionView};
use domain::{AgentName, PersonName, SessionId, SessionState};
use gateway::ModelService;
use gateway::egress::Outside;
use gateway::tools::{Authors, Servers};
use oauth::Lender;
use store::{Event as Happened, Store, StoreError};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vault::Vault;
use wire::process::ToProcess;

use crate::agents::{self, Agents, Found};
use crate::applied::{self, Files};
use crate::config::Config;
use crate::error::DaemonError;
use crate::journal::{Journal, Journals, now};
use crate::keeping::{self, System};
use crate::reach::ToolServers;
use crate::server_cells::{ServerCells, Ways};
use crate::servers::KnownServers;
use crate::shelf::Shelf;

pub(crate) use handle::{Live, Session, Stops};
pub(crate) use host::{DiskOf, Host, Image, LiveCell, StartFailure, Started, Tell, Wanted};
pub(crate) use link::{Heard, Link};
use models::Behind;
pub(crate) use process::Process;
use task::Owner;
pub(crate) use task::container_spec;

/// Most sessions at once, waiting ones too.
const MAX_LIVE: usize = 64;
/// How often idle connections to tool servers are looked for.
const REST_EVERY: Duration = Duration::from_secs(5);
/// How long what requests began may take once all else has ended.
const BEGUN_WITHIN: Duration = Duration::from_secs(8);
/// Inputs that wait for a harness that has not started or doesn't read.
const INPUTS: usize = 16;

/// What is kept of this installation: what happened, and its secrets.
pub(crate) struct Kept {
    pub(crate) store: Store,
    pub(crate) lender: Arc<Lender>,
}

/// All sessions, and what they share.
pub(crate) struct Sessions {
    pub(crate) config: Config,
    pub(crate) agents: Agents,
    pub(crate) shelf: Shelf,
    pub(crate) host: Arc<dyn Host>,
    /// Cancelled when a client asks the daemon to end.
    pub(crate) end: CancellationToken,
    /// The tool servers that are known.
    pub(crate) servers: Arc<ToolServers>,
    /// The way to them.
    pub(crate) tools: Arc<Servers>,
    people: watch::Sender<BTreeSet<u32>>,
    behind: Behind,
    live: Mutex<BTreeMap<SessionId, Arc<Session>>>,
    turns: Mutex<HashMap<AgentName, Arc<Semaphore>>>,
    tasks: Tasks,
}

/// What runs until it is done.
#[derive(Default)]
struct Tasks {
    sessions: TaskTracker,
    /// What requests began.
    begun: TaskTracker,
}

impl Sessions {
    /// Opens what is kept of earlier sessions.
    pub(crate) fn open(
        folders: &Folders,
        config: Config,
        host: Arc<dyn Host>,
        (models, outside): (ModelService, Outside),
        Kept { store, lender }: Kept,
    ) -> Result<Self, DaemonError> {
        let known = KnownServers::read(&folders.config)?;
        let authority = Arc::new(keeping::authority(&folders.state.join("egress"))?);
        let ways = Ways::new(outside.clone(), Arc::clone(&authority), store.clone());
        let (emulated, logs) = (config.allow_emulation, folders.state.join("servers"));
        let cells = ServerCells::new(Arc::clone(&host), ways, emulated, logs);
        let dialer = outside.dialer.clone();
        let servers = Arc::new(ToolServers { known, cells, lender, dialer });
        let connector: Arc<dyn gateway::tools::Connector> = Arc::clone(&servers) as _;
        let tools = Arc::new(Servers::new(store, Arc::new(System), now, connector));
        servers.known.classify(&tools);
        Ok(Self {
            servers,
            tools,
            agents: Agents::new(&folders.config, &folders.state),
            shelf: Shelf::open(&folders.state).map_err(DaemonError::file(&folders.state))?,
            config,
            host,
            end: CancellationToken::new(),
            people: watch::Sender::default(),
            behind: Behind { models: Arc::new(models), authority, outside },
            live: Mutex::new(BTreeMap::new()),
            turns: Mutex::new(HashMap::new()),
            tasks: Tasks::default(),
        })
    }

    /// Starts a session.
    pub(crate) async fn start(
        self: &Arc<Self>,
        request: NewSession,
        by: Option<PersonName>,
    ) -> Result<SessionView, Problem> {
        let (Found { file: agent, text, cedar, source }, named) = self.agent(&request)?;
        let internal =
            |e: std::io::Error| Problem::new(ProblemKind::Internal, format!("the session's folder: {e}"));
        let view = SessionView {
            id: new_id().map_err(internal)?,
            agent: agent.name.clone(),
            state: SessionState::Queued,
            isolation: None,
            created: now(),
            ended: None,
        };
        if self.live().len() >= MAX_LIVE {
            return Err(Problem::new(ProblemKind::Busy, format!("{MAX_LIVE} sessions run or wait already"))
                .hint("`lazaret ps` lists them, `lazaret stop` stops one"));
        }
        self.shelf.make(&view).map_err(internal)?;
        let (journal, journals) = Journal::create(&self.shelf.events(view.id)).await.map_err(internal)?;
        let (input, inputs) = mpsc::channel(INPUTS);
        if !request.stdin {
            // There is room: the channel is new.
            drop(input.try_send(ToProcess::StdinEnd));
        }
        let (workspace, put) = oneshot::channel();
        let (seen, viewed) = watch::channel(view.clone());
        let (live, lives) = watch::channel(None);
        let (stops, authors) = (Stops::default(), Authors::new(by.clone()));
        let session = Session::new(viewed, journals, input, workspace, lives, stops.clone(), authors.clone());
        self.live().insert(view.id, Arc::new(session));
        let owner = Owner {
            sessions: Arc::clone(self),
            agent,
            files: Files { digest: applied::digest(&text, cedar.as_deref()), cedar, source },
            by,
            authors,
            named,
            request,
            journal,
            view: seen,
            inputs,
            live,
            stops,
        };
        self.tasks.sessions.spawn(owner.run(put));
        Ok(view)
    }

    /// The agent that is meant, and whether it is one of the host's own (which has a disk that lasts).
    fn agent(&self, request: &NewSession) -> Result<(Found, bool), Problem> {
        if request.prompt.as_ref().is_some_and(|prompt| prompt.len() > MAX_PROMPT || prompt.contains('\0')) {
            let message = format!("the prompt has more than {MAX_PROMPT} bytes, or a zero byte");
            return Err(
                Problem::new(ProblemKind::Invalid, message).hint("send what is long to standard input")
            );
        }
        let (mut found, named) = match &request.agent {
            AgentRef::Name(name) => (self.agents.find(name)?, true),
            AgentRef::Files(files) => (agents::of_files(files.clone())?, false),
        };
        let agent = &mut found.file;
        if let Some(model) = &request.options.model {
            let Some(at) = agent.models.iter().position(|known| known == model) else {
                let known: Vec<String> = agent.models.iter().map(ToString::to_string).collect();
                let message = format!("`{}` may not use the model `{model}`", agent.name);
                return Err(Problem::new(ProblemKind::Refused, message)
                    .hint(format!("its agent.toml lists: {}", known.join(", "))));
            };
            agent.models.swap(0, at);
        }
        for model in &agent.models {
            if self.config.api(model.provider()).is_none() {
                let message =
                    format!("`{}` is no provider known here (of the model `{model}`)", model.provider());
                return Err(Problem::new(ProblemKind::Invalid, message).hint(format!(
                    "add [providers.{}] to config.toml and start the daemon anew",
                    model.provider()
                )));
            }
        }
        Ok((found, named))
    }

    /// A session that has not ended.
    pub(crate) fn live_one(&self, id: SessionId) -> Option<Arc<Session>> {
        self.live().get(&id).cloned()
    }

    /// Writes down that a person tells a session something, if they are none of its authors, and makes them one: before the
    /// session hears of it.
    pub(crate) async fn steered(&self, session: &Session, by: &PersonName) -> Result<(), StoreError> {
        if session.authors().all().contains(by) {
            return Ok(());
        }
        self.record_of(session, &Happened::SessionSteered { by: by.clone() }, None).await?;
        session.authors().join(by.clone());
        Ok(())
    }

    /// Writes down that a person runs a program in a session's cell, and makes them one of its authors.
    pub(crate) async fn ran(
        &self,
        session: &Session,
        by: &PersonName,
        program: &[String],
    ) -> Result<(), StoreError> {
        let program = store::Private::new(serde_json::Value::from(program).to_string());
        self.record_of(session, &Happened::ProgramRun { by: by.clone() }, Some(&program)).await?;
        session.authors().join(by.clone());
        Ok(())
    }

    async fn record_of(
        &self,
        session: &Session,
        event: &Happened,
        sealed: Option<&store::Private>,
    ) -> Result<(), StoreError> {
        let view = session.view();
        let about = store::About { agent: Some(view.agent), team: None, session: Some(view.id) };
        self.store().record(&about, event, sealed, now()).await.map(drop)
    }

    /// A session that has not ended, or why there is none.
    pub(crate) fn running(&self, id: SessionId) -> Result<Arc<Session>, Problem> {
        self.live_one(id).ok_or_else(|| match self.shelf.view(id) {
            Some(_) => Problem::new(ProblemKind::Conflict, format!("session {id} has ended")),
            None => unknown(id),
        })
    }

    /// A session as it is now.
    pub(crate) fn view(&self, id: SessionId) -> Result<SessionView, Problem> {
        let live = self.live_one(id).map(|session| session.view());
        live.or_else(|| self.shelf.view(id)).ok_or_else(|| unknown(id))
    }

    /// Every session, the oldest first.
    pub(crate) fn views(&self) -> Vec<SessionView> {
        let mut views: BTreeMap<SessionId, SessionView> =
            self.shelf.views().into_iter().map(|view| (view.id, view)).collect();
        views.extend(self.live().values().map(|session| (session.id(), session.view())));
        views.into_values().collect()
    }

    /// What happened in a session.
    pub(crate) fn journals(&self, id: SessionId) -> Result<Journals, Problem> {
        match self.live_one(id) {
            Some(session) => Ok(session.journals()),
            None => self.shelf.view(id).map(|_| self.shelf.journals(id)).ok_or_else(|| unknown(id)),
        }
    }

    /// Sessions that have not ended.
    pub(crate) fn count(&self) -> usize {
        self.live().len()
    }

    /// Stops all in order, and waits for them.
    pub(crate) async fn stop_all(&self) {
        for session in self.live().values() {
            session.stop(false);
        }
        self.tasks.sessions.close();
        self.tasks.sessions.wait().await;
        self.servers.cells.stop_all().await;
    }

    /// Lets go of connections to tool servers that nobody uses, now and then, until the daemon ends.
    pub(crate) async fn rest_servers(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.servers.cells.ending() => return,
                () = tokio::time::sleep(REST_EVERY) => self.tools.rest(),
            }
        }
    }

    /// What is kept, and the ledger.
    pub(crate) fn store(&self) -> &Store {
        self.tools.store()
    }

    /// The secrets.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        self.servers.lender.vault()
    }

    /// The users of this machine that are people here, as they change.
    pub(crate) fn people(&self) -> watch::Receiver<BTreeSet<u32>> {
        self.people.subscribe()
    }

    /// Takes the people of the store for those who may connect.
    pub(crate) async fn know_people(&self) -> Result<(), StoreError> {
        let people = self.store().people().await?;
        self.people.send_replace(people.iter().filter_map(|person| person.uid).collect());
        Ok(())
    }

    /// Does this to its end, whoever waits for it. False at the daemon's end: then nothing of it is done.
    pub(crate) fn begun(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let begun = &self.tasks.begun;
        // Counted before it is looked: whoever closes waits for it, or it finds that.
        let work = begun.track_future(work);
        if begun.is_closed() {
            return false;
        }
        drop(tokio::spawn(work));
        true
    }

    /// Waits for what was begun, though not without end, and lets go of the store, the last thing of all.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let begun = &self.tasks.begun;
        begun.close();
        if tokio::time::timeout(BEGUN_WITHIN, begun.wait()).await.is_err() {
            tracing::error!(left = begun.len(), "what was begun did not end in time: the ledger may lack it");
        }
        let ended = Happened::DaemonStopped {};
        self.store().record(&store::About::default(), &ended, None, now()).await?;
        self.store().close().await;
        Ok(())
    }

    /// An agent's sessions take turns: it has one disk.
    fn turn(&self, agent: &AgentName) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds or waits for are made anew when they are needed.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(agent.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    fn forget(&self, id: SessionId) {
        self.live().remove(&id);
        self.shelf.make_room();
    }

    fn live(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Arc<Session>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: SessionId) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no session {id}"))
        .hint("`lazaret ps -a` lists them all")
}

fn new_id() -> std::io::Result<SessionId> {
    let mut random = [0_u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(SessionId::from_parts(now(), u128::from_le_bytes(random)))
}
