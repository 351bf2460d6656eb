//! The tool servers behind the gates: connected once per team, and their tools as they list them now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use domain::{
    AgentName, ApprovalId, CommitId, Confidentiality, Digest, Effects, GrantId, GroupName, Labels,
    PersonName, Role, SecretName, ServerName, TeamName, ToolName, ToolRef,
};
use futures::future::BoxFuture;
use policy::{Hints, KnownTool, Pin, Row, Table};
use serde_json::Value;
use store::{About, Definition, Event, Keeper, Outcome, Randomness, Store, StoreError};
use tokio::sync::{Mutex, watch};
use wire::tools::{Prompt, Resource, ResourceTemplate, Tool, ToolFailure, ToolFailureKind, ToolResult};

use super::CallContext;
use super::gate::internal;
use super::hourly::Hourly;
use super::readings;
use super::turns::Turns;
use super::upstream::{Acted, CallFailed, ToolDescription, ToolList, Upstream, Withheld};
use crate::permit::Permit;

/// Most connections of one team to one server that show a secret, within an hour: one that is well and used now and then is made
/// four times.
const GREETINGS: u32 = 100;
/// Most of them that one agent's calls may break.
const BREAKS: u32 = 20;
const BROKEN: &str = "a person can look at the server; it may be called again in the next hour";

/// How long a list is believed when its server says nothing of changes, and no tool does more than read.
pub(super) const FRESH: Duration = Duration::from_secs(60);

/// How long a connection is kept that nobody uses.
pub const IDLE: Duration = Duration::from_secs(15 * 60);

/// Connects to tool servers; the daemon knows where they are.
pub trait Connector: Send + Sync {
    /// A connection for this team's use.
    fn connect<'s>(
        &'s self,
        team: &'s TeamName,
        server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>>;

    /// The secrets of the vault that a call of this tool shows, and where.
    fn shows(&self, _tool: &ToolRef) -> Vec<(SecretName, String)> {
        Vec::new()
    }

    /// The secret of the vault that a connection itself shows, to greet the server and to hear what it offers, and where.
    fn greets_with(&self, _server: &ServerName) -> Option<(SecretName, String)> {
        None
    }

    /// How long a connection to the server is kept that nobody uses.
    fn idle(&self, _server: &ServerName) -> Duration {
        IDLE
    }
}

/// A team's connection to a server, or the place of one. Whoever holds it connects; others wait.
type Slot = Arc<Mutex<Option<Arc<Live>>>>;

/// Every tool server of this installation, and what gates share.
pub struct Servers {
    store: Store,
    random: Arc<dyn Randomness>,
    clock: fn() -> u64,
    connector: Arc<dyn Connector>,
    tables: RwLock<BTreeMap<ServerName, Arc<Table>>>,
    live: std::sync::Mutex<HashMap<(TeamName, ServerName), Slot>>,
    /// Connections that show a secret: each is on the ledger, so they are bounded.
    greetings: Hourly<(TeamName, ServerName)>,
    /// Whose calls broke a connection, which the whole team has: so that one agent can't take it from the others.
    breaks: Hourly<(Option<AgentName>, ServerName)>,
    /// Who decides next, where policies count.
    turns: Turns,
}

struct Live {
    upstream: Upstream,
    /// When it was last wanted.
    used: std::sync::Mutex<Instant>,
    changes: watch::Receiver<u64>,
    listed: Mutex<Option<Listed>>,
    /// Whether somebody was found to have broken it.
    blamed: AtomicBool,
}

#[derive(Clone)]
struct Listed {
    list: Arc<ToolList>,
    at: Instant,
    change: u64,
}

/// A tool as its server lists it now.
pub(super) struct Known {
    pub(super) pin: Digest,
    pub(super) input_schema: jsonschema::Validator,
    pub(super) offered: Tool,
    pub(super) idempotent: bool,
}

/// A tool for people to approve: what is pinned of it, and whether the agent has it pinned so.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What would be pinned.
    pub pin: Pin,
    /// Its digest.
    pub digest: Digest,
    /// Whether a table classifies it; else the worst is assumed.
    pub classified: bool,
}

/// What a server offers, for people.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Its tools.
    pub tools: Vec<Listing>,
    /// Those that can't be offered, each with why.
    pub withheld: Vec<Withheld>,
}

/// A tool of a catalogue.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Its name.
    pub name: ToolName,
    /// What the model is told about it.
    pub description: String,
    /// What it does.
    pub effects: Effects,
    /// Whether a table says so; else the worst is assumed.
    pub classified: bool,
    /// Bytes in the schema of its arguments.
    pub schema_bytes: usize,
    /// What its server says that it does. Nobody has checked it.
    pub suggested: Effects,
    /// The names of its arguments.
    pub arguments: Vec<String>,
}

impl Servers {
    /// The servers that the connector reaches, with the tables that classify their tools.
    #[must_use]
    pub fn new(
        store: Store,
        random: Arc<dyn Randomness>,
        clock: fn() -> u64,
        connector: Arc<dyn Connector>,
    ) -> Self {
        let (tables, live) = (RwLock::default(), std::sync::Mutex::default());
        Self {
            store,
            random,
            clock,
            connector,
            tables,
            live,
            greetings: Hourly::new(GREETINGS),
            breaks: Hourly::new(BREAKS),
            turns: Turns::default(),
        }
    }

    /// Takes these tables from now on, for sessions that start.
    pub fn classify(&self, tables: BTreeMap<ServerName, Arc<Table>>) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    pub(super) fn clock(&self) -> fn() -> u64 {
        self.clock
    }

    fn random(&self) -> std::io::Result<u128> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes)?;
        Ok(u128::from_le_bytes(bytes))
    }

    pub(crate) fn commit_id(&self) -> std::io::Result<(u64, CommitId)> {
        let now = self.now();
        Ok((now, CommitId::from_parts(now, self.random()?)))
    }

    pub(super) fn approval_id(&self) -> std::io::Result<(u64, ApprovalId)> {
        let now = self.now();
        Ok((now, ApprovalId::from_parts(now, self.random()?)))
    }

    pub(super) fn grant_id(&self) -> std::io::Result<GrantId> {
        Ok(GrantId::from_parts(self.now(), self.random()?))
    }

    /// Who answers: a group's members, or the owners.
    pub(super) async fn people(&self, group: Option<&GroupName>) -> Result<BTreeSet<PersonName>, StoreError> {
        match group {
            Some(group) => self.store.group(group).await,
            None => {
                let people = self.store.people().await?;
                Ok(people.into_iter().filter(|person| person.role == Role::Owner).map(|p| p.name).collect())
            }
        }
    }

    /// What is said of a tool, with what its server says taken as far as that makes it stricter.
    fn row(&self, server: &ServerName, described: &ToolDescription) -> (Row, bool) {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let row = tables.get(server).and_then(|table| table.tools.get(&described.name)).cloned();
        let row = row.or_else(|| readings::row(&described.name));
        let classified = row.is_some();
        (row.unwrap_or_else(Row::unknown).hinted(hints(described)), classified)
    }

    /// The tools of a server as it offers them to this team now, for people to approve.
    ///
    /// # Errors
    /// It can't be reached, or a tool of it can't be pinned.
    pub async fn candidates(
        &self,
        team: &TeamName,
        server: &ServerName,
    ) -> Result<Vec<Candidate>, ToolFailure> {
        let list = self.list(team, server, FRESH).await?;
        let mut candidates = Vec::new();
        for described in &list.tools {
            let (row, classified) = self.row(server, described);
            let pin = pin(server, described, &row)?;
            let digest = pin.digest().map_err(|e| withheld(&pin.tool, &e.to_string()))?;
            let text = serde_json::to_string(&pin).map_err(internal)?;
            let definition = Definition { digest, text, seen_at: self.now() };
            self.store.see(&pin.tool, &definition).await.map_err(internal)?;
            candidates.push(Candidate { pin, digest, classified });
        }
        Ok(candidates)
    }

    /// What a server offers this team now, for people to look at.
    ///
    /// # Errors
    /// It can't be reached.
    pub async fn catalogue(&self, team: &TeamName, server: &ServerName) -> Result<Catalogue, ToolFailure> {
        let list = self.list(team, server, FRESH).await?;
        let mut catalogue = Catalogue { tools: Vec::new(), withheld: list.withheld.clone() };
        for described in &list.tools {
            let (row, classified) = self.row(server, described);
            match pin(server, described, &row) {
                Ok(_) => catalogue.tools.push(Listing {
                    name: described.name.clone(),
                    description: described.description.clone().unwrap_or_default(),
                    effects: row.effects,
                    classified,
                    schema_bytes: described.input_schema.len(),
                    suggested: hints(described).suggested(),
                    arguments: arguments(described),
                }),
                Err(failure) => catalogue
                    .withheld
                    .push(Withheld { name: described.name.to_string(), why: failure.message }),
            }
        }
        Ok(catalogue)
    }

    /// The tools of a server as policies know them: with the agent's pins, and what is said of them.
    ///
    /// # Errors
    /// It can't be reached, or the pins can't be read.
    pub async fn known(
        &self,
        agent: &AgentName,
        team: &TeamName,
        server: &ServerName,
    ) -> Result<Vec<KnownTool>, ToolFailure> {
        let list = self.list(team, server, FRESH).await?;
        self.pinned(agent, server, &list).await
    }

    /// The same of the list that is at hand, if there is one: nothing is connected to, asked or waited for.
    ///
    /// # Errors
    /// The pins can't be read.
    pub async fn known_already(
        &self,
        agent: &AgentName,
        team: &TeamName,
        server: &ServerName,
    ) -> Result<Option<Vec<KnownTool>>, ToolFailure> {
        let Some(list) = self.listed(team, server) else { return Ok(None) };
        self.pinned(agent, server, &list).await.map(Some)
    }

    /// The list that a connection which stands has, and of which its server has told no change.
    fn listed(&self, team: &TeamName, server: &ServerName) -> Option<Arc<ToolList>> {
        let slot = Arc::clone(self.slots().get(&(team.clone(), server.clone()))?);
        let live = slot.try_lock().ok()?.as_ref().filter(|live| live.upstream.broken().is_none()).cloned()?;
        let listed = live.listed.try_lock().ok()?;
        let change = *live.changes.borrow();
        listed.as_ref().filter(|known| known.change == change).map(|known| Arc::clone(&known.list))
    }

    async fn pinned(
        &self,
        agent: &AgentName,
        server: &ServerName,
        list: &ToolList,
    ) -> Result<Vec<KnownTool>, ToolFailure> {
        let pins = self.store.pins(agent).await.map_err(internal)?;
        let mut known = Vec::new();
        for described in &list.tools {
            let (row, classified) = self.row(server, described);
            let tool = ToolRef { server: server.clone(), tool: described.name.clone() };
            known.push(KnownTool {
                pin: pins.get(&tool).map(|pin| pin.digest),
                input_schema: schema(described).map_err(|why| withheld(&tool, &why))?,
                row: classified.then_some(row),
                tool,
            });
        }
        Ok(known)
    }

    /// A tool as its server listed it within this time, if that is what a person approved.
    pub(super) async fn tool(
        &self,
        team: &TeamName,
        tool: &ToolRef,
        approved: Option<Digest>,
        within: Duration,
    ) -> Result<Known, ToolFailure> {
        let list = self.list(team, &tool.server, within).await?;
        let Some(described) = list.tools.iter().find(|described| described.name == tool.tool) else {
            return Err(gone(&tool.tool, &list));
        };
        let (row, _) = self.row(&tool.server, described);
        let digest =
            pin(&tool.server, described, &row)?.digest().map_err(|e| withheld(tool, &e.to_string()))?;
        if approved != Some(digest) {
            // Before anything of it is read: what its schema says would reach the agent in reasons.
            return Err(withheld(tool, "it is not what a person approved")
                .hint("a person sees what changed, and may approve it, with `lazaret agent apply`"));
        }
        let value = schema(described).map_err(|why| withheld(tool, &why))?;
        let input_schema = jsonschema::validator_for(&value).map_err(|e| withheld(tool, &e.to_string()))?;
        let idempotent = described.hints.idempotent == Some(true);
        let mut offered = described.clone().shown_as(tool.to_string());
        // What is not pinned is not shown.
        (offered.title, offered.output_schema) = (None, None);
        Ok(Known { pin: digest, input_schema, offered, idempotent })
    }

    /// The labels that a tool's results bring: the table's, the server's own store's, and its team's.
    pub(super) async fn labels_of(
        &self,
        team: &TeamName,
        tool: &ToolRef,
        row: &Row,
    ) -> Result<Labels, StoreError> {
        let server = {
            let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
            tables
                .get(&tool.server)
                .map_or(Confidentiality::Confidential, |table| table.server.confidentiality)
        };
        let kept = self.store.labels(&Keeper::Server(team.clone(), tool.server.clone())).await?;
        Ok(row.labels(server).join(&kept))
    }

    /// The secrets of the vault that a call of this tool shows, and where.
    pub(super) fn shows(&self, tool: &ToolRef) -> Vec<(SecretName, String)> {
        self.connector.shows(tool)
    }

    /// Calls a tool, by permit, for an agent of the team.
    pub(super) async fn call(
        &self,
        team: &TeamName,
        agent: Option<&AgentName>,
        permit: &Permit<policy::ToolCall>,
        context: &CallContext,
    ) -> Returned {
        let call = permit.action();
        let caller = (agent.cloned(), call.tool.server.clone());
        if self.breaks.is_full(&caller, self.now()) {
            let why = format!(
                "this agent's calls broke the connection to tool server {} too often within this hour",
                call.tool.server
            );
            return Returned::NotDone(ToolFailure::new(ToolFailureKind::Upstream, why).hint(BROKEN));
        }
        let live = match self.live(team, &call.tool.server).await {
            Ok(live) => live,
            Err(failure) => return Returned::NotDone(failure),
        };
        if context.cancelled.is_cancelled() {
            return Returned::NotDone(called_off());
        }
        let text = call.arguments.text();
        let (progress, cancelled) = (context.progress.clone(), &context.cancelled);
        let called = if readings::is_reading(&call.tool.tool) {
            readings::call(&live.upstream, &call.tool.tool, text, cancelled).await
        } else {
            live.upstream.call(&call.tool.tool, text, progress, cancelled).await
        };
        live.touch();
        // Of several who call just then, one.
        if live.upstream.broken().is_some() && !live.blamed.swap(true, Ordering::Relaxed) {
            self.breaks.admit(caller, self.now());
        }
        match called {
            Ok(result) => Returned::Result(result),
            Err(CallFailed { failure, acted: Acted::No }) => Returned::NotDone(failure),
            Err(CallFailed { failure, acted: Acted::Failed }) => Returned::Failed(failure),
            Err(CallFailed { failure, acted: Acted::Unknown }) => Returned::Unknown(failure),
        }
    }

    /// Whether the server's table says something of this tool.
    pub(super) fn is_classified(&self, server: &ServerName, tool: &str) -> bool {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(server).is_some_and(|table| table.tools.keys().any(|name| name.as_str() == tool))
    }

    /// What resources a server lists to the team now.
    pub(super) async fn resources(
        &self,
        team: &TeamName,
        server: &ServerName,
    ) -> Result<Vec<Resource>, ToolFailure> {
        self.live(team, server).await?.upstream.resources().await
    }

    /// What families of resources a server lists to the team now.
    pub(super) async fn templates(
        &self,
        team: &TeamName,
        server: &ServerName,
    ) -> Result<Vec<ResourceTemplate>, ToolFailure> {
        self.live(team, server).await?.upstream.templates().await
    }

    /// What prompts a server lists to the team now.
    pub(super) async fn prompts(
        &self,
        team: &TeamName,
        server: &ServerName,
    ) -> Result<Vec<Prompt>, ToolFailure> {
        self.live(team, server).await?.upstream.prompts().await
    }

    async fn list(
        &self,
        team: &TeamName,
        server: &ServerName,
        within: Duration,
    ) -> Result<Arc<ToolList>, ToolFailure> {
        let live = self.live(team, server).await?;
        let mut listed = live.listed.lock().await;
        let change = *live.changes.borrow();
        if let Some(known) =
            listed.as_ref().filter(|known| known.change == change && known.at.elapsed() < within)
        {
            return Ok(Arc::clone(&known.list));
        }
        let mut list = live.upstream.list().await?;
        readings::offer(&live.upstream, &mut list);
        let list = Arc::new(list);
        *listed = Some(Listed { list: Arc::clone(&list), at: Instant::now(), change });
        Ok(list)
    }

    /// The team's connection to a server, made anew when it broke.
    async fn live(&self, team: &TeamName, server: &ServerName) -> Result<Arc<Live>, ToolFailure> {
        // One at a time: a server is connected to once, also when several sessions want it.
        let slot = Arc::clone(self.slots().entry((team.clone(), server.clone())).or_default());
        let mut slot = slot.lock().await;
        if let Some(live) = slot.as_ref().filter(|live| live.upstream.broken().is_none()) {
            live.touch();
            return Ok(Arc::clone(live));
        }
        // What is broken goes before what takes its place comes: a cell holds its disk.
        *slot = None;
        self.tell_greeting(team, server).await?;
        let upstream = self.connector.connect(team, server).await?;
        let (changes, used) = (upstream.changes(), std::sync::Mutex::new(Instant::now()));
        let live = Arc::new(Live {
            upstream,
            used,
            changes,
            listed: Mutex::default(),
            blamed: AtomicBool::new(false),
        });
        *slot = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Puts on the ledger that a connection shows a secret, before it does.
    async fn tell_greeting(&self, team: &TeamName, server: &ServerName) -> Result<(), ToolFailure> {
        let Some((secret, to)) = self.connector.greets_with(server) else { return Ok(()) };
        let now = self.now();
        if !self.greetings.admit((team.clone(), server.clone()), now) {
            let why = format!("team {team} was connected to tool server {server} too often within this hour");
            return Err(ToolFailure::new(ToolFailureKind::Upstream, why)
                .hint("its connections break: a person can look at the server; it is connected to again in the next hour"));
        }
        let about = About { team: Some(team.clone()), ..About::default() };
        self.store.record(&about, &Event::SecretUsed { secret, to }, None, now).await.map_err(internal)?;
        Ok(())
    }

    /// Lets go of a server's connections: it was removed, or is somewhere else now.
    pub fn forget(&self, server: &ServerName) {
        self.greetings.forget(|(_, of)| of == server);
        self.breaks.forget(|(_, of)| of == server);
        self.slots().retain(|(_, name), _| name != server);
    }

    /// Lets go of connections that nobody has used for some time, and of those that broke.
    pub fn rest(&self) {
        self.slots().retain(|(_, server), slot| {
            // Somebody connects just now.
            let Ok(slot) = slot.try_lock() else { return true };
            let Some(live) = slot.as_ref() else { return false };
            let in_use = Arc::strong_count(live) > 1;
            in_use || live.upstream.broken().is_none() && live.unused() < self.connector.idle(server)
        });
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<(TeamName, ServerName), Slot>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn unused(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// What a call came to.
pub(super) enum Returned {
    Result(ToolResult),
    NotDone(ToolFailure),
    Failed(ToolFailure),
    Unknown(ToolFailure),
}

impl Returned {
    pub(super) fn outcome(&self) -> Outcome {
        let why = |failure: &ToolFailure| failure.message.chars().take(500).collect();
        match self {
            Self::Result(result) if result.is_error => {
                Outcome::Failed { why: "the tool says that it failed".to_owned() }
            }
            Self::Result(_) => Outcome::Done,
            Self::NotDone(failure) => Outcome::NotDone { why: why(failure) },
            Self::Failed(failure) => Outcome::Failed { why: why(failure) },
            Self::Unknown(failure) => Outcome::Unknown { why: why(failure) },
        }
    }

    pub(super) fn into_result(self) -> Result<ToolResult, ToolFailure> {
        match self {
            Self::Result(result) => Ok(result),
            Self::NotDone(failure) | Self::Failed(failure) => Err(failure),
            Self::Unknown(failure) => {
                Err(failure.hint("nobody knows whether it was done; look before you try again"))
            }
        }
    }
}

/// A call that nobody wants any more.
pub(super) fn called_off() -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Internal, "the call was cancelled")
}

fn hints(described: &ToolDescription) -> Hints {
    Hints {
        read_only_hint: described.hints.read_only,
        destructive_hint: described.hints.destructive,
        open_world_hint: described.hints.open_world,
    }
}

/// The names of a tool's arguments, as many as a person would read.
fn arguments(described: &ToolDescription) -> Vec<String> {
    let schema = schema(described).unwrap_or_default();
    let names = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    names.map(|(name, _)| name.chars().take(64).collect()).take(64).collect()
}

fn schema(described: &ToolDescription) -> Result<Value, String> {
    serde_json::from_str(&described.input_schema).map_err(|e| format!("its schema can't be read: {e}"))
}

fn pin(server: &ServerName, described: &ToolDescription, row: &Row) -> Result<Pin, ToolFailure> {
    let tool = ToolRef { server: server.clone(), tool: described.name.clone() };
    Ok(Pin {
        description: described.description.clone().unwrap_or_default(),
        input_schema: schema(described).map_err(|why| withheld(&tool, &why))?,
        effects: row.effects,
        tool,
    })
}

fn gone(tool: &ToolName, list: &ToolList) -> ToolFailure {
    let withheld = list.withheld.iter().find(|withheld| withheld.name == tool.as_str());
    let why =
        withheld.map_or_else(|| "its server no longer offers it".to_owned(), |withheld| withheld.why.clone());
    ToolFailure::new(ToolFailureKind::NotFound, format!("the tool {tool} is withheld: {why}"))
}

fn withheld(tool: &ToolRef, why: &str) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Refused, format!("the tool {tool} is withheld: {why}"))
}
