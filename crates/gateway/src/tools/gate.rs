//! The gate of one session: the way of a tool call, from the question of a program in a cell to its answer.
//!
//! ```text
//! name ▶ pin ▶ arguments ▶ facts ▶ decide ─┬─ allow ─────────────────────────▶ commit ▶ act ▶ outcome ▶ labels ▶ answer
//!                                           ├─ ask ▶ people ▶ decide once more ─▲
//!                                           └─ deny ▶ why
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use domain::{Integrity, Labels, ModelName, SessionId, ToolRef, UsdMicros};
use futures::future::BoxFuture;
use policy::{AgentPolicy, Allowed, Arguments, Call, Decision, Row, Seen, ToolFacts, decide};
use serde_json::Value;
use store::{About, CommitError, Event, Keeper, Private, Reserved, Spend, Verdict};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::task::TaskTracker;
use wire::tools::{
    Content, Contents, Prompt, PromptText, Resource, ResourceBody, ResourceTemplate, Tool, ToolFailure,
    ToolFailureKind, ToolResult,
};

use super::acting::{Basis, Open};
use super::asking::Standing;
use super::authors::Authors;
use super::readings;
use super::servers::{FRESH, Servers};
use super::turns::{Before, Turn};
use super::{CallContext, ToolCall, ToolGate};
use crate::daily;
use crate::news::{self, News};
use crate::permit::{Committing, Permit};

/// Refusals of one tool that are written.
const MAX_LIKE: u32 = 64;
/// How often one session asks people about one tool, or one site.
pub(super) const MAX_ASKS: u32 = 500;
/// Refusals of one session that are told to whoever looks at it.
const MAX_TOLD: usize = 500;
/// Bytes that the calls of one agent may put on the ledger in a day, and what an entry has beside its arguments.
const KEPT_PER_DAY: u64 = 1 << 30;
const ENTRY: u64 = 1 << 10;

/// Who a session is to its gate.
#[derive(Debug, Clone)]
pub struct Session {
    /// Agent, team and session, as the ledger names them.
    pub about: About,
    /// Whose words it follows.
    pub by: Authors,
    /// Where its disk's labels are kept; none if it leaves nothing behind.
    pub disk: Option<Keeper>,
    /// Tokens that its agent may use of models in a day.
    pub tokens_per_day: u64,
    /// What the models that its agent asks in a day may cost, where that is limited.
    pub usd_per_day: Option<UsdMicros>,
}

/// What people are told while a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolEvent {
    /// A call waits for people.
    Waits {
        /// The question.
        approval: domain::ApprovalId,
        /// Which tool, or which request.
        what: String,
    },
    /// A call was refused.
    Refused {
        /// Which tool, or which request.
        what: String,
        /// Why.
        why: String,
    },
}

/// A session's gate.
pub struct SessionGate {
    pub(crate) servers: Arc<Servers>,
    pub(crate) session: Session,
    pub(crate) policy: watch::Receiver<Arc<AgentPolicy>>,
    pub(crate) state: Mutex<State>,
    pub(super) events: mpsc::Sender<ToolEvent>,
    /// Counts the rises of the session's labels.
    pub(crate) rises: watch::Sender<u64>,
    /// Outcomes that are being written.
    outcomes: TaskTracker,
    /// What is refused, and written.
    pub(crate) refused: News,
    /// What people are asked.
    pub(crate) asks: News,
    /// How many refusals were told.
    told: AtomicUsize,
    /// The day on which the ledger takes no more of the agent's calls.
    full_on: AtomicU32,
}

/// What a gate remembers of its session.
pub(crate) struct State {
    pub(crate) seen: Seen,
    pub(crate) labels: Labels,
    pub(super) calls: HashMap<ToolRef, u32>,
    /// How often each model was asked.
    pub(crate) asked: HashMap<ModelName, u32>,
    /// How often each host was asked for something.
    pub(crate) reached: HashMap<String, u32>,
    /// What people allowed for more than one call, and is not used up yet.
    pub(super) standing: Vec<Standing>,
}

/// A call that was looked at: everything that it takes to decide on it, once and once more.
pub(super) struct Looked {
    pub(super) call: policy::ToolCall,
    pub(super) pin: domain::Digest,
    pub(super) row: Row,
    idempotent: bool,
}

/// What was decided on a call: by what, and in whose turn.
pub(super) struct Decided {
    pub(super) decision: Decision<policy::ToolCall>,
    pub(super) basis: Basis,
    pub(super) turn: Turn,
}

/// A right to a call: what gave it, and the turn in which it is used.
pub(super) struct Right {
    pub(super) allowed: Allowed<policy::ToolCall>,
    /// What people gave it by, where that isn't an approval of its own.
    pub(super) grant: Option<domain::GrantId>,
    pub(super) basis: Basis,
    pub(super) turn: Turn,
}

impl SessionGate {
    /// The gate of a session whose policy is told by the receiver.
    ///
    /// # Errors
    /// Its labels can't be kept.
    pub async fn open(
        servers: Arc<Servers>,
        session: Session,
        policy: watch::Receiver<Arc<AgentPolicy>>,
        seen: Seen,
        events: mpsc::Sender<ToolEvent>,
    ) -> Result<Self, store::StoreError> {
        let labels = match &session.disk {
            Some(disk) => servers.store().labels(disk).await?,
            None => Labels::default(),
        };
        let (calls, asked, reached) = (HashMap::new(), HashMap::new(), HashMap::new());
        let state = Mutex::new(State { seen, labels, calls, asked, reached, standing: Vec::new() });
        let (rises, outcomes, refused) = (watch::Sender::default(), TaskTracker::new(), News::new(MAX_LIKE));
        let asks = News::new(MAX_ASKS);
        let (told, full_on) = (AtomicUsize::new(0), AtomicU32::new(0));
        Ok(Self { servers, session, policy, state, events, rises, outcomes, refused, asks, told, full_on })
    }

    /// The session has met something that has these labels: a workspace, piped input.
    ///
    /// # Errors
    /// They can't be kept: then it must not meet it.
    pub async fn met(&self, labels: &Labels) -> Result<(), store::StoreError> {
        let mut state = self.state.lock().await;
        self.raise(&mut state, labels).await
    }

    pub(crate) async fn raise(&self, state: &mut State, labels: &Labels) -> Result<(), store::StoreError> {
        let now = self.servers.now();
        let about = &self.session.about;
        let raised = state.labels.join(labels);
        if let Some(session) = about.session {
            self.servers.store().raise(&Keeper::Session(session), &raised, about, now).await?;
        }
        if let Some(disk) = &self.session.disk {
            self.servers.store().raise(disk, &raised, about, now).await?;
        }
        if state.labels != raised {
            state.labels = raised;
            self.rises.send_modify(|rises| *rises = rises.wrapping_add(1));
        }
        Ok(())
    }

    /// Decides on a call, asks people if it must, and makes it.
    pub(super) async fn make(
        &self,
        call: ToolCall,
        context: &CallContext,
    ) -> Result<ToolResult, ToolFailure> {
        let looked = self.look(call).await?;
        let referred = self.referred(&looked).await?;
        let effects = looked.row.effects;
        if effects.can_be_undone() && !effects.only_reads() {
            // What it will bring is met now, so that a yes for the session isn't void after its first call.
            self.meet(&looked).await?;
        }
        let Decided { decision, basis, turn } = self.decided(&looked).await?;
        let right = match decision {
            Decision::Allow(allowed) => Right { allowed, grant: None, basis, turn },
            Decision::Deny(reasons) => return Err(refused(&reasons)),
            Decision::Ask(question) => {
                let (question, content) = referred.into(*question);
                match self.standing(&question).await {
                    Some((allowed, grant)) => Right { allowed, grant: Some(grant), basis, turn },
                    None => {
                        drop(turn);
                        self.ask(&looked, question, &content, context).await?
                    }
                }
            }
        };
        let open = self.commit(&looked, right).await?;
        let result = self.act(&looked, open, context).await?;
        learn(&mut self.state.lock().await.seen, &looked.call.tool, &looked.row, &result);
        Ok(result)
    }

    /// Steps 1 to 3: which tool, is it as it was approved, are the arguments as they should be.
    pub(super) async fn look(&self, call: ToolCall) -> Result<Looked, ToolFailure> {
        let policy = Arc::clone(&self.policy.borrow());
        let Some(row) = policy.row(&call.tool).filter(|_| policy.offered().contains(&&call.tool)) else {
            let none = policy.offered().is_empty();
            let why =
                if none { "this agent was given no tools" } else { "there is no such tool for this agent" };
            return Err(self
                .refuse(&call, why)
                .await
                .hint("a person can give it some in agent.toml: `[tools.SERVER]`"));
        };
        let row = row.clone();
        // A server that says nothing of a change is found out before it does more than tell something.
        let within = if row.effects.only_reads() { FRESH } else { Duration::ZERO };
        let approved = policy.pin(&call.tool);
        let known = match self.servers.tool(policy.team(), &call.tool, approved, within).await {
            Ok(known) => known,
            Err(failure) => {
                // It may be said in the server's own words.
                self.meet_tool(&call.tool).await?;
                self.refuse(&call, &failure.message).await;
                return Err(failure);
            }
        };
        let arguments = match arguments(&call.arguments, &known.input_schema) {
            Ok(arguments) => arguments,
            Err(why) => return Err(self.refuse(&call, &why).await),
        };
        let call = policy::ToolCall { tool: call.tool, arguments };
        Ok(Looked { call, pin: known.pin, row, idempotent: known.idempotent })
    }

    /// Steps 4 and 5: the facts, and the decision. A no and a question are on the ledger before anybody hears of them; of those
    /// about one tool, the first ones.
    pub(super) async fn decided(&self, looked: &Looked) -> Result<Decided, ToolFailure> {
        let turn = self.turn(&looked.call.tool).await;
        let mut policies = self.policy.clone();
        let policy = Arc::clone(&policies.borrow_and_update());
        let today = self.calls_today(&looked.call.tool).await.map_err(internal)?;
        let (facts, before) = {
            let mut state = self.state.lock().await;
            let tool = &looked.call.tool;
            let origins = match state.seen.judge(&looked.row, &looked.call.arguments) {
                Ok(origins) => origins,
                Err(refused) => return Err(ToolFailure::new(ToolFailureKind::Refused, refused.to_string())),
            };
            let session = state.calls.get(tool).copied().unwrap_or_default();
            let labels = state.labels.clone();
            let before = Before::of(None, session, today);
            (ToolFacts { labels, origins, pin: looked.pin, calls: before.counts() }, before)
        };
        let decision = decide(&policy, Call { action: looked.call.clone(), facts: facts.clone() });
        self.tell_decided(looked, &decision, &facts.labels).await?;
        Ok(Decided { decision, basis: Basis { facts, before, policies }, turn })
    }

    /// Puts a no and a question on the ledger, and tells whoever looks at the session of a no.
    async fn tell_decided(
        &self,
        looked: &Looked,
        decision: &Decision<policy::ToolCall>,
        labels: &Labels,
    ) -> Result<(), ToolFailure> {
        let (verdict, reasons) = match decision {
            // The commit tells it.
            Decision::Allow(_) => return Ok(()),
            Decision::Ask(question) => {
                (Verdict::Ask, question.reasons().iter().map(ToString::to_string).collect())
            }
            Decision::Deny(reasons) => (Verdict::Deny, reasons.iter().map(ToString::to_string).collect()),
        };
        let like = if verdict == Verdict::Ask { "asked" } else { "denied" };
        if !self.refused.is(format!("{like} {}", looked.call.tool)) {
            return Ok(());
        }
        if let Decision::Deny(reasons) = decision {
            self.tell_refused(&looked.call.tool, &refused(reasons).message);
        }
        // A question itself has them whole.
        let kept = news::kept(looked.call.arguments.text());
        let act = store::Act::Tool(looked.call.tool.clone());
        let event = Event::Decided { act, verdict, reasons, labels: labels.clone() };
        self.record(&event, &kept).await
    }

    /// Step 7: the right is used, and the entry written, in one.
    pub(super) async fn commit(
        &self,
        looked: &Looked,
        Right { allowed, grant, basis, turn }: Right,
    ) -> Result<Open, ToolFailure> {
        let (now, id) = self.servers.commit_id().map_err(internal)?;
        if self.ledger_is_full(now) {
            return Err(full());
        }
        let mut state = self.state.lock().await;
        if !looked.row.effects.only_reads() {
            // Writers give the place they write to their labels before they write.
            let about = &self.session.about;
            if let Some(team) = &about.team {
                let server = Keeper::Server(team.clone(), looked.call.tool.server.clone());
                self.servers.store().raise(&server, &state.labels, about, now).await.map_err(internal)?;
            }
        }
        let shows = self.servers.shows(&looked.call.tool).into_iter();
        let one = daily::one_call(&self.session.about, &looked.call.tool, now);
        let bytes = ENTRY.saturating_add(looked.call.arguments.text().len() as u64);
        let spend = one.into_iter().chain(self.kept(bytes, now));
        let with = Committing {
            id,
            about: self.session.about.clone(),
            grant,
            labels: state.labels.clone(),
            spend: spend.collect(),
            idempotent: looked.idempotent,
            also: shows.map(|(secret, to)| Event::SecretUsed { secret, to }).collect(),
            now,
        };
        let granted = allowed.grant().is_some();
        let permit =
            Permit::commit(self.servers.store(), allowed, with).await.map_err(|error| match error {
                CommitError::Store(error) => internal(error),
                CommitError::Budget { budget, .. } if self.fills_ledger(&budget, now) => full(),
                refused @ (CommitError::Right(_)
                | CommitError::Foreign
                | CommitError::NoGrant
                | CommitError::AboveCeiling { .. }
                | CommitError::Budget { .. }) => {
                    ToolFailure::new(ToolFailureKind::Refused, refused.to_string())
                }
            })?;
        let calls = state.calls.entry(looked.call.tool.clone()).or_default();
        *calls = calls.saturating_add(1);
        drop(turn);
        Ok(Open { permit, basis, granted })
    }

    /// What a call takes of what its agent's calls may put on the ledger in a day.
    pub(crate) fn kept(&self, bytes: u64, now: u64) -> Option<Spend> {
        let budget = daily::kept(self.session.about.agent.as_ref()?);
        Some(Spend { reserve: Reserved { budget, day: daily::day(now), amount: bytes }, limit: KEPT_PER_DAY })
    }

    /// Whether the agent's calls have put all on the ledger today that they may.
    pub(crate) fn ledger_is_full(&self, now: u64) -> bool {
        self.full_on.load(Ordering::Relaxed) == daily::day(now)
    }

    /// Whether this budget, which doesn't suffice, is that of the ledger: then nothing more is tried today.
    pub(crate) fn fills_ledger(&self, budget: &str, now: u64) -> bool {
        let is_it = daily::is_kept(budget);
        if is_it {
            self.full_on.store(daily::day(now), Ordering::Relaxed);
        }
        is_it
    }

    /// The session meets what a tool's results bring.
    pub(super) async fn meet(&self, looked: &Looked) -> Result<(), ToolFailure> {
        self.meet_results(&looked.call.tool, &looked.row).await
    }

    /// The session meets what the results of a tool bring, if it knows the tool.
    pub(super) async fn meet_tool(&self, tool: &ToolRef) -> Result<(), ToolFailure> {
        let policy = Arc::clone(&self.policy.borrow());
        let Some(row) = policy.row(tool) else { return Ok(()) };
        self.meet_results(tool, row).await
    }

    async fn meet_results(&self, tool: &ToolRef, row: &Row) -> Result<(), ToolFailure> {
        let policy = Arc::clone(&self.policy.borrow());
        let labels = self.servers.labels_of(policy.team(), tool, row).await;
        let labels = labels.map_err(internal)?;
        let mut state = self.state.lock().await;
        self.raise(&mut state, &labels).await.map_err(internal)
    }

    /// Waits until nobody else of its agent is between a decision on this and its commit, if its policy counts.
    pub(crate) async fn turn(&self, what: &(dyn std::fmt::Display + Sync)) -> Turn {
        if !self.policy.borrow().counts() {
            return Turn::uncounted();
        }
        let About { agent, team, .. } = &self.session.about;
        let name = match (agent, team) {
            (Some(agent), _) => daily::calls(agent, what),
            (None, Some(team)) => format!("team:{team}/calls/{what}"),
            (None, None) => format!("calls/{what}"),
        };
        self.servers.turns().wait(name).await
    }

    /// How often its agent has called this today, in all its sessions; none where its policy doesn't ask.
    pub(crate) async fn calls_today(
        &self,
        what: &(dyn std::fmt::Display + Sync),
    ) -> Result<Option<u32>, store::StoreError> {
        if !self.policy.borrow().counts_days() {
            return Ok(None);
        }
        let Some(agent) = &self.session.about.agent else { return Ok(None) };
        let (budget, today) = (daily::calls(agent, what), daily::day(self.servers.now()));
        let used = self.servers.store().used(&budget, today).await?;
        Ok(Some(u32::try_from(used).unwrap_or(u32::MAX)))
    }

    /// What is left to do when its session has ended, and nothing of it runs any more: questions that nobody waits for
    /// are called off, grants end, and acts that were cut short have an unknown outcome.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end(&self) -> Result<(), store::StoreError> {
        self.concluded().await;
        let Some(session) = self.session.about.session else { return Ok(()) };
        let (store, now, why) = (self.servers.store(), self.servers.now(), "its session ended");
        // Each is done whatever became of the others.
        let questions = self.call_off(session, why, now).await;
        let grants = store.end_grants(session, why, &self.session.about, now).await.map(drop);
        let acts = self.leave_unknown(session, now).await;
        questions.and(grants).and(acts)
    }

    async fn call_off(&self, session: SessionId, why: &str, now: u64) -> Result<(), store::StoreError> {
        let store = self.servers.store();
        let mut all = Ok(());
        for question in store.pending_of(session, now).await? {
            match store.cancel(question, None, why, now).await {
                // Somebody was faster: it is over, too.
                Ok(()) | Err(store::ApprovalError::Answer(_)) => {}
                Err(store::ApprovalError::Store(error)) => all = all.and(Err(error)),
                Err(other) => tracing::warn!(%other, "a question can't be called off"),
            }
        }
        all
    }

    async fn leave_unknown(&self, session: SessionId, now: u64) -> Result<(), store::StoreError> {
        let store = self.servers.store();
        let mut all = Ok(());
        for act in store.unfinished().await?.into_iter().filter(|act| act.about.session == Some(session)) {
            let outcome = store::Outcome::Unknown { why: "its session ended before its answer".to_owned() };
            match store.outcome(act.id, &outcome, &[], None, now).await {
                // Somebody was faster: what was being written of it when it was looked for.
                Ok(()) | Err(store::StoreError::Unknown { .. }) => {}
                Err(error) => all = all.and(Err(error)),
            }
        }
        all
    }

    /// Sees to it that an outcome is written, without waiting for it.
    pub(crate) fn conclude(
        &self,
        written: impl Future<Output = Result<(), store::StoreError>> + Send + 'static,
    ) {
        self.outcomes.spawn(async move {
            if let Err(error) = written.await {
                tracing::error!(%error, "the outcome of an act can't be written: it counts as unknown");
            }
        });
    }

    /// Waits until the outcomes of what has ended are written.
    pub(crate) async fn concluded(&self) {
        self.outcomes.close();
        self.outcomes.wait().await;
    }

    pub(crate) async fn record(&self, event: &Event, sealed: &str) -> Result<(), ToolFailure> {
        let sealed = Private::new(sealed.to_owned());
        let now = self.servers.now();
        let recorded = self.servers.store().record(&self.session.about, event, Some(&sealed), now).await;
        recorded.map(drop).map_err(internal)
    }

    /// Refuses what policy need not be asked about.
    async fn refuse(&self, call: &ToolCall, why: &str) -> ToolFailure {
        let failure = ToolFailure::new(ToolFailureKind::Invalid, why);
        // Names that the agent invents are of one kind.
        let known = self.policy.borrow().row(&call.tool).is_some();
        let kind = if known { format!("refused {}", call.tool) } else { "unknown".to_owned() };
        if !self.refused.is(kind) {
            return failure;
        }
        let event = Event::Refused { act: store::Act::Tool(call.tool.clone()), why: why.to_owned() };
        self.tell_refused(&call.tool, why);
        match self.record(&event, &news::kept(&call.arguments)).await {
            Ok(()) => failure,
            Err(failure) => failure,
        }
    }

    /// Tells whoever looks at the session: in short, and so often, that there is room for questions beside it.
    pub(crate) fn tell_refused(&self, what: &dyn std::fmt::Display, why: &str) {
        if self.told.fetch_add(1, Ordering::Relaxed) >= MAX_TOLD {
            return;
        }
        let (what, why) = (news::short(&what.to_string()), news::short(why));
        // Nobody listening, or too slowly: the ledger has it.
        drop(self.events.try_send(ToolEvent::Refused { what, why }));
    }
}

impl ToolGate for SessionGate {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Tool>, ToolFailure>> {
        Box::pin(async {
            let policy = Arc::clone(&self.policy.borrow());
            if policy.offered().is_empty() {
                return Ok(Vec::new());
            }
            let mut tools = vec![super::plan::plan_tool()];
            for tool in policy.offered().into_iter().filter(|tool| !readings::is_reading(&tool.tool)) {
                // One that is withheld or whose server is down is not offered; a call of it says why.
                if let Ok(known) = self.servers.tool(policy.team(), tool, policy.pin(tool), FRESH).await {
                    tools.push(known.offered);
                }
            }
            Ok(tools)
        })
    }

    fn call(&self, call: ToolCall, context: CallContext) -> BoxFuture<'_, Result<ToolResult, ToolFailure>> {
        Box::pin(async move {
            if super::plan::is_plan(&call.tool) {
                return self.plan(&call, &context).await;
            }
            if readings::is_reading(&call.tool.tool) {
                return Err(self.refuse(&call, "this is no tool: ask for a resource or a prompt").await);
            }
            self.make(call, &context).await
        })
    }

    fn resources(&self) -> BoxFuture<'_, Result<Vec<Resource>, ToolFailure>> {
        Box::pin(self.list_resources())
    }

    fn templates(&self) -> BoxFuture<'_, Result<Vec<ResourceTemplate>, ToolFailure>> {
        Box::pin(self.list_templates())
    }

    fn read(&self, uri: String) -> BoxFuture<'_, Result<Vec<Contents>, ToolFailure>> {
        Box::pin(async move { self.read_resource(&uri).await })
    }

    fn prompts(&self) -> BoxFuture<'_, Result<Vec<Prompt>, ToolFailure>> {
        Box::pin(self.list_prompts())
    }

    fn prompt(
        &self,
        name: String,
        arguments: Vec<(String, String)>,
    ) -> BoxFuture<'_, Result<PromptText, ToolFailure>> {
        Box::pin(async move { self.get_prompt(&name, arguments).await })
    }
}

/// The arguments in their one form, if they fit the schema.
fn arguments(text: &str, schema: &jsonschema::Validator) -> Result<Arguments, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("the arguments can't be read: {e}"))?;
    let arguments = Arguments::new(&value).map_err(|e| e.to_string())?;
    match schema.iter_errors(&value).next() {
        None => Ok(arguments),
        Some(error) => {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the arguments".to_owned() } else { format!("`{place}`") };
            Err(format!("{place} doesn't fit the tool's schema: {}", policy::shown(&error.to_string())))
        }
    }
}

pub(super) fn refused(reasons: &[policy::Reason]) -> ToolFailure {
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    ToolFailure::new(ToolFailureKind::Refused, reasons.join("; "))
        .hint("a person can change what this agent may do; asking in other words won't")
}

pub(super) fn internal(error: impl std::fmt::Display) -> ToolFailure {
    tracing::error!(%error, "a tool call failed in the gateway");
    ToolFailure::new(ToolFailureKind::Internal, format!("the gateway failed: {error}"))
}

/// Why nothing is called any more on a day.
pub(crate) fn ledger_full() -> String {
    format!("the agent's calls have put {} MiB on the ledger today, and no more are made", KEPT_PER_DAY >> 20)
}

/// What to do then.
pub(crate) const NEXT_DAY: &str = "the next day, in UTC, has room again";

fn full() -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Refused, ledger_full()).hint(NEXT_DAY)
}

/// Remembers where the values of a result came from.
fn learn(seen: &mut Seen, tool: &ToolRef, row: &Row, result: &ToolResult) {
    if let Some(Ok(value)) = result.structured.as_deref().map(serde_json::from_str::<Value>) {
        seen.result(tool, row, &value);
    }
    for content in &result.content {
        match content {
            Content::Text(text) => seen.result_text(tool, row, text),
            Content::Resource(contents) => match &contents.body {
                ResourceBody::Text(text) => seen.result_text(tool, row, text),
                ResourceBody::Bytes(_) => {}
            },
            Content::Link(link) => seen.result_text(tool, row, &link.uri),
            Content::Image { .. } | Content::Audio { .. } => {}
        }
    }
}

/// The labels of what nobody has vouched for: a workspace, piped input, an image.
#[must_use]
pub fn unvouched() -> Labels {
    Labels { integrity: Integrity::Web, ..Labels::default() }
}
