//! The gate of one session's requests: limits, facts, the decision, people, the commit; then it is sent.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use domain::{
    CommitId, Confidentiality, EgressTarget, Integrity, Labels, Origin, SecretName, ServerName, Target,
};
use futures::future::BoxFuture;
use policy::{
    Body, Call, Connect, ConnectFacts, Decision, Grant, Kind, Push, Question, Reason, Shown, decide,
    under_rule_of_two,
};
use store::{About, CommitError, Event, Outcome, Private, Reserved, Spend, StoreError, Verdict};
use vault::Injection;
use wire::egress::{BodyLength, EgressRequest, Scheme};
use wire::git::RefChange;
use wire::tools::{ToolFailure, ToolFailureKind};

use super::frequency::Frequency;
use super::outside::{Http, Outside};
use super::{EgressGate, EgressRefusal, Exchange, Gone};
use crate::changes::Changes;
use crate::daily;
use crate::permit::{Committed, Committing, Permit};
use crate::tools::asking::{consequences, digest, origins};
use crate::tools::{Before, CallContext, SessionGate, Turn};

/// Most bytes of a body that is shown to people.
const MAX_SHOWN: usize = 64 << 10;
/// Most bytes of a pack that waits for people.
const MAX_PACK: usize = 4 << 20;
/// Most hosts that one session reaches.
const MAX_HOSTS: usize = 1024;

/// Who makes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// An agent. What it is answered is on its session's labels, and people may be asked.
    Agent,
    /// A tool server. What it is answered is on the results of its tools, and nobody is asked: a no takes the question's place.
    Server(ServerName),
}

impl Whose {
    /// Under which name the bytes that leave in a day are counted.
    pub(super) fn budget(&self, about: &About) -> Option<String> {
        match self {
            Self::Agent => about.agent.as_ref().map(daily::bytes_out),
            Self::Server(server) => about.team.as_ref().map(|team| daily::bytes_out_of_server(team, server)),
        }
    }

    /// What limits bodies.
    fn body_limited_by(&self) -> &'static str {
        match self {
            Self::Agent => "`body` of [egress] is the limit",
            Self::Server(_) => "that is the limit of all tool servers' cells",
        }
    }

    /// What a person would change about a limit.
    fn limited_by(&self, limit: &str) -> String {
        match self {
            Self::Agent => format!("`{limit}` of [egress] is the limit"),
            Self::Server(server) => {
                format!("`{limit}` of [{server}.cell.limits] in servers.toml is the limit")
            }
        }
    }
}

/// Decides about the requests of one session, and sends them.
pub struct SessionEgress {
    pub(super) whose: Whose,
    pub(super) gate: Arc<SessionGate>,
    pub(super) outside: Outside,
    pub(super) client: Http,
    frequency: Frequency,
    /// The requests of a tool server's cell that are committed to, and not ended: no session says whose they are.
    open: Mutex<BTreeSet<CommitId>>,
}

/// Where a decision stands among those that count: after so many, and in whose turn.
struct Place {
    before: Before,
    /// Others wait until it is dropped.
    _turn: Turn,
}

/// What may be sent, and by what right.
pub(super) struct Ready {
    pub(super) permit: Permit<Connect>,
    pub(super) own: bool,
    pub(super) before: Before,
    /// Whether people said yes to it.
    pub(super) granted: bool,
    /// The length of its body, where the program said it.
    pub(super) length: Option<u64>,
    /// The secret that goes with it.
    pub(super) lent: Option<Injection>,
}

impl SessionEgress {
    /// The gate of a session.
    #[must_use]
    pub fn new(gate: Arc<SessionGate>, outside: Outside) -> Self {
        Self::of(Whose::Agent, gate, outside)
    }

    /// The gate of a cell of this tool server.
    #[must_use]
    pub fn of_server(server: ServerName, gate: Arc<SessionGate>, outside: Outside) -> Self {
        Self::of(Whose::Server(server), gate, outside)
    }

    fn of(whose: Whose, gate: Arc<SessionGate>, outside: Outside) -> Self {
        let client = outside.client();
        Self {
            whose,
            gate,
            outside,
            client,
            frequency: Frequency::new(Instant::now()),
            open: Mutex::default(),
        }
    }

    /// What is left to do at the end of a tool server's cell, when nothing of it runs any more: requests that were cut short
    /// have an unknown outcome.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end(&self) -> Result<(), StoreError> {
        self.gate.concluded().await;
        let (store, now) = (self.gate.servers.store(), self.gate.servers.now());
        let open = std::mem::take(&mut *self.open());
        let mut all = Ok(());
        for id in open {
            let why = "its tool server's cell ended before its answer".to_owned();
            match store.outcome(id, &Outcome::Unknown { why }, &[], None, now).await {
                // It was never committed to.
                Ok(()) | Err(StoreError::Unknown { .. }) => {}
                Err(error) => all = all.and(Err(error)),
            }
        }
        all
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<CommitId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(&self, request: EgressRequest, mut exchange: Exchange) -> Result<(), EgressRefusal> {
        let target = target(&request);
        // From before the decision: what rises or is narrowed while it is made and committed to ends it, too.
        let changes = self.gate.changes();
        let ready = match self.ready(request, &mut exchange).await {
            Ok(ready) => ready,
            Err(refusal) => {
                self.gate.tell_refused(&target, &refusal.why);
                return Err(refusal);
            }
        };
        self.send(ready, changes, exchange).await
    }

    async fn ready(&self, request: EgressRequest, exchange: &mut Exchange) -> Result<Ready, EgressRefusal> {
        let length = length(&request);
        let action = self.looked_at(request, length).await?;
        let own = self.outside.is_own(&action.target.host);
        let mut lent = self.secret_for(&action.target).await?;
        let (decision, place) = self.decided(&action, own).await?;
        if !matches!(decision, Decision::Deny(_)) {
            self.refuse_own_key(&action.target).await?;
        }
        let (right, granted) = match decision {
            Decision::Allow(allowed) => ((allowed, place), false),
            Decision::Deny(reasons) => return Err(denied(&reasons)),
            Decision::Ask(_) => {
                drop(place);
                let shown = whole(action, exchange).await?;
                let (decision, place) = self.decided(&shown, own).await?;
                match decision {
                    Decision::Allow(allowed) => ((allowed, place), false),
                    Decision::Deny(reasons) => return Err(denied(&reasons)),
                    Decision::Ask(question) => {
                        drop(place);
                        let (right, now) = self.ask((*question, own), lent, exchange).await?;
                        lent = now;
                        (right, true)
                    }
                }
            }
        };
        let (allowed, place) = right;
        let before = place.before;
        let permit = self.commit((allowed, place), lent.as_ref()).await?;
        Ok(Ready { permit, own, before, granted, length, lent })
    }

    /// Counts a request that is sent once more; false if there were as many in this minute as there may be.
    pub(super) fn admits_again(&self) -> bool {
        let limits = self.gate.policy.borrow().egress_limits();
        limits.is_some_and(|limits| self.frequency.admit(limits.requests_per_minute, Instant::now()))
    }

    /// The limits of the agent's file, and the request as it would leave.
    async fn looked_at(&self, request: EgressRequest, length: Option<u64>) -> Result<Connect, EgressRefusal> {
        let policy = Arc::clone(&self.gate.policy.borrow());
        let target = target(&request);
        let Some(limits) = policy.egress_limits() else {
            let why = format!(
                "egress is closed: agent.toml has no [egress], so nothing leaves to `{}`",
                target.host
            );
            return self.refuse(&target, 403, why, PERSON_DECIDES).await;
        };
        if !self.frequency.admit(limits.requests_per_minute, Instant::now()) {
            let why = format!("more than {} requests in a minute", limits.requests_per_minute);
            let hint = format!("wait a minute; {}", self.whose.limited_by("requests_per_minute"));
            return self.refuse(&target, 429, why, &hint).await;
        }
        let most = limits.body.as_u64();
        let body = match length {
            Some(0) => Body::None,
            Some(bytes) if bytes > most => {
                let why = format!("the body has {bytes} bytes, and {} may leave in one request", limits.body);
                return self.refuse(&target, 413, why, self.whose.body_limited_by()).await;
            }
            Some(bytes) => Body::Upto(bytes),
            None => Body::Upto(most),
        };
        let mut headers = request.headers;
        if let Some(lender) = &self.outside.lender {
            let to = for_vault(&target);
            headers.retain(|(name, _)| !lender.vault().strips(&to, name));
        }
        let action = Connect { target, headers, push: request.push.as_ref().map(pushed), body };
        let (labels, known) = {
            let state = self.gate.state.lock().await;
            let room = state.reached.len() < MAX_HOSTS || state.reached.contains_key(&action.target.host);
            (state.labels.clone(), room)
        };
        if !known {
            let why = format!("this session has reached {MAX_HOSTS} hosts, and no more are");
            return self.refuse(&action.target, 429, why, "start another session").await;
        }
        let bare = under_rule_of_two(&labels)
            && action.target.reads()
            && action.body == Body::None
            && !self.outside.is_own(&action.target.host);
        Ok(if bare { action.plain() } else { action })
    }

    /// Refuses a key of the program's own where secrets are bound. It is looked at only where the program may go: which hosts these
    /// are is nothing for others.
    async fn refuse_own_key(&self, target: &EgressTarget) -> Result<(), EgressRefusal> {
        let (Some(lender), Some(query)) = (&self.outside.lender, target.query.as_deref()) else {
            return Ok(());
        };
        let Some(key) = lender.vault().own_key(&for_vault(target), query) else { return Ok(()) };
        let why = format!(
            "the query carries a key of its own in `{key}`, and `{}` is a host that a secret is bound to",
            target.host
        );
        self.refuse(target, 403, why, NO_OWN_KEYS).await
    }

    async fn secret_for(&self, target: &EgressTarget) -> Result<Option<Injection>, EgressRefusal> {
        let Some(lender) = &self.outside.lender else { return Ok(None) };
        let policy = Arc::clone(&self.gate.policy.borrow());
        let to = for_vault(target);
        match lender.inject(&policy.secrets_for(&to), &to).await {
            Ok(lent) => Ok(lent),
            Err(error) => self.refuse(target, 403, error.told_in_cell(), PERSON_DECIDES).await,
        }
    }

    /// The decision on a request now. A no and a question are on the ledger before anybody hears of them.
    async fn decided(
        &self,
        action: &Connect,
        own: bool,
    ) -> Result<(Decision<Connect>, Place), EgressRefusal> {
        let turn = self.gate.turn(&host_count(&action.target.host)).await;
        let (decision, before) = self.gate.may_connect(action, own, None).await.map_err(internal)?;
        let place = Place { before, _turn: turn };
        let decision = match (decision, &self.whose) {
            (Decision::Ask(question), Whose::Server(_)) => Decision::Deny(question.reasons().to_vec()),
            (decision, Whose::Agent | Whose::Server(_)) => decision,
        };
        let (verdict, reasons) = match &decision {
            Decision::Allow(_) => return Ok((decision, place)),
            Decision::Ask(question) => (Verdict::Ask, texts(question.reasons())),
            Decision::Deny(reasons) => (Verdict::Deny, texts(reasons)),
        };
        if self.frequency.is_news(&action.target) {
            let labels = self.gate.state.lock().await.labels.clone();
            let event = Event::Decided { act: action.act(), verdict, reasons, labels };
            self.gate.record(&event, &action.arguments()).await.map_err(failed)?;
        }
        Ok((decision, place))
    }

    /// Refuses what policy need not be asked about.
    async fn refuse<T>(
        &self,
        target: &EgressTarget,
        status: u16,
        why: String,
        hint: &str,
    ) -> Result<T, EgressRefusal> {
        if self.frequency.is_news(target) {
            let asked = Connect { target: target.clone(), headers: Vec::new(), push: None, body: Body::None };
            let event = Event::Refused { act: asked.act(), why: why.clone() };
            self.gate.record(&event, &asked.arguments()).await.map_err(failed)?;
        }
        Err(EgressRefusal { status, why, hint: Some(hint.to_owned()) })
    }

    /// Holds the request until people answered, and decides once more: what is approved is what was shown, or nothing. With it
    /// goes the secret that they were told of, as it is by then.
    async fn ask(
        &self,
        (question, own): (Question<Connect>, bool),
        lent: Option<Injection>,
        exchange: &Exchange,
    ) -> Result<((policy::Allowed<Connect>, Place), Option<Injection>), EgressRefusal> {
        let action = question.action().clone();
        let question = question.showing(with_secret(lent.as_ref()));
        let mut consequences = question.effects().map(consequences).unwrap_or_default();
        consequences
            .extend(lent.as_ref().map(|lent| format!("goes with the host's secret `{}`", lent.secret)));
        let shown = store::Shown {
            arguments: Private::new(action.arguments()),
            content: Private::new(String::new()),
            origins: origins(&question),
            consequences,
        };
        let approval = self.gate.asked(&question, action.act(), shown).await.map_err(failed)?;
        self.gate.tell_waits(approval, &action.target);
        let context = CallContext { cancelled: exchange.cancelled.clone(), ..CallContext::unheard() };
        self.gate.answered(approval, &action.target, &context).await.map_err(failed)?;
        let grant = Grant { approval, binding: question.binding(), ceiling: question.labels().clone() };
        // A token lasts for less time than people have, and a secret may be rotated meanwhile.
        let lent = self.same_secret(&action.target, lent.as_ref()).await?;
        let (decision, place) = self.decided(&action, own).await?;
        let allowed = match decision {
            Decision::Allow(allowed) => allowed,
            Decision::Deny(reasons) => return Err(denied(&reasons)),
            Decision::Ask(now) => {
                now.showing(with_secret(lent.as_ref())).granted(&grant).map_err(|error| EgressRefusal {
                    status: 403,
                    why: error.to_string(),
                    hint: Some(ASK_AGAIN.to_owned()),
                })?
            }
        };
        Ok(((allowed, place), lent))
    }

    /// The secret for a request that waited: it goes with none but that which people were told of.
    async fn same_secret(
        &self,
        target: &EgressTarget,
        asked: Option<&Injection>,
    ) -> Result<Option<Injection>, EgressRefusal> {
        let now = self.secret_for(target).await?;
        let name = |lent: Option<&Injection>| lent.map(|lent| lent.secret.clone());
        if name(now.as_ref()) == name(asked) {
            return Ok(now);
        }
        let told = |lent| name(lent).map_or("no secret".to_owned(), |name| format!("the secret `{name}`"));
        let (then, now) = (told(asked), told(now.as_ref()));
        let why = format!("people were asked about it with {then}, and it would go with {now} now");
        self.refuse(target, 403, why, ASK_AGAIN).await
    }

    /// Uses the right, sets bytes aside and writes the entry, in one.
    async fn commit(
        &self,
        (allowed, place): (policy::Allowed<Connect>, Place),
        lent: Option<&Injection>,
    ) -> Result<Permit<Connect>, EgressRefusal> {
        let policy = Arc::clone(&self.gate.policy.borrow());
        let (now, id) = self.gate.servers.commit_id().map_err(internal)?;
        let about = self.gate.session.about.clone();
        let host = allowed.action().target.host.clone();
        let labels = self.gate.state.lock().await.labels.clone();
        let mut spend: Vec<Spend> = daily::one_call(&about, &host_count(&host), now).into_iter().collect();
        let limit = policy.egress_limits().map_or(0, |limits| limits.bytes_out_per_day.as_u64());
        if let Some(budget) = self.whose.budget(&about) {
            let amount = most_bytes(allowed.action(), lent.is_some());
            spend.push(Spend { reserve: Reserved { budget, day: daily::day(now), amount }, limit });
        }
        let idempotent = allowed.action().target.reads();
        let target = allowed.action().target.clone();
        let used = |lent: &Injection| Event::SecretUsed {
            secret: lent.secret.clone(),
            to: target.site().to_string(),
        };
        let also = lent.map(used).into_iter().collect();
        let with = Committing { id, about, grant: None, labels, spend, idempotent, also, now };
        if matches!(self.whose, Whose::Server(_)) {
            self.open().insert(id);
        }
        let committed = Permit::commit(self.gate.servers.store(), allowed, with).await;
        // What the store couldn't say may be there all the same.
        if committed.as_ref().is_err_and(|error| !matches!(error, CommitError::Store(_))) {
            self.open().remove(&id);
        }
        let permit = match committed {
            Ok(permit) => permit,
            Err(CommitError::Budget { left, wanted, .. }) => {
                let why = format!(
                    "bytes of the day: {left} of {limit} are left, and this request could take {wanted}"
                );
                return self.refuse(&target, 429, why, &self.whose.limited_by("bytes_out_per_day")).await;
            }
            Err(CommitError::Store(error)) => return Err(internal(error)),
            Err(
                error @ (CommitError::Right(_)
                | CommitError::Foreign
                | CommitError::NoGrant
                | CommitError::AboveCeiling { .. }),
            ) => return Err(EgressRefusal { status: 403, why: error.to_string(), hint: None }),
        };
        let mut state = self.gate.state.lock().await;
        let reached = state.reached.entry(host).or_default();
        *reached = reached.saturating_add(1);
        drop(place);
        Ok(permit)
    }

    /// Has written what came of a request. The answer need not wait for the disk again: without its outcome the act is found,
    /// and nothing more.
    pub(super) fn ended(&self, permit: Permit<Connect>, outcome: &Outcome, spent: &[Reserved]) {
        let id = permit.id();
        self.gate.conclude(permit.ended_soon(outcome, spent, self.gate.servers.now()));
        self.open().remove(&id);
    }
}

impl SessionGate {
    /// What is decided on a request now, and how often its host was asked before: as it is now, or as it is known to have been.
    async fn may_connect(
        &self,
        action: &Connect,
        own: bool,
        known: Option<Before>,
    ) -> Result<(Decision<Connect>, Before), StoreError> {
        let policy = Arc::clone(&self.policy.borrow());
        let host = &action.target.host;
        let today = self.calls_today(&host_count(host)).await?;
        let state = self.state.lock().await;
        let session = state.reached.get(host).copied().unwrap_or_default();
        let origin = state.seen.origin_of(&action.target.url(), &Kind::Url).unwrap_or(Origin::Unknown);
        let before = Before::of(known, session, today);
        let facts = ConnectFacts { labels: state.labels.clone(), origin, own, calls: before.counts() };
        Ok((decide(&policy, Call { action: action.clone(), facts }), before))
    }

    /// Waits until a request may no longer go on, and says why. What people approved is cut by a no alone. Safe to cancel:
    /// no change is forgotten.
    pub(super) async fn connect_withdrawn(&self, changes: &mut Changes, ready: &Ready) -> String {
        loop {
            changes.next().await;
            if let Some(why) = self.decided_anew(changes, ready).await {
                return why;
            }
        }
    }

    /// Why a request may not be sent any more, if something has changed since it was decided on.
    pub(super) async fn overtaken(&self, changes: &mut Changes, ready: &Ready) -> Option<String> {
        if changes.has_any() { self.decided_anew(changes, ready).await } else { None }
    }

    async fn decided_anew(&self, changes: &mut Changes, ready: &Ready) -> Option<String> {
        let action = ready.permit.action();
        // What rises while it is decided is decided on next.
        let rise = *self.rises.borrow();
        if let Some(lent) = ready.lent.as_ref().filter(|lent| !self.still_lends(&lent.secret, action)) {
            let site = action.target.site();
            return Some(format!("the agent's file no longer lends `{}` to {site}", lent.secret));
        }
        match self.may_connect(action, ready.own, Some(ready.before)).await {
            Ok((Decision::Allow(_), _)) => changes.decided(rise),
            Ok((Decision::Ask(_), _)) if ready.granted => changes.decided(rise),
            Ok((Decision::Ask(question), _)) => return Some(texts(question.reasons()).join("; ")),
            Ok((Decision::Deny(reasons), _)) => return Some(texts(&reasons).join("; ")),
            Err(error) => return Some(error.to_string()),
        }
        None
    }

    /// Whether the agent's file still lets a secret go with a request.
    fn still_lends(&self, secret: &SecretName, action: &Connect) -> bool {
        let to = for_vault(&action.target);
        self.policy.borrow().secrets_for(&to).iter().any(|used| used.secret == *secret)
    }
}

impl EgressGate for SessionEgress {
    fn exchange(
        &self,
        request: EgressRequest,
        exchange: Exchange,
    ) -> BoxFuture<'_, Result<(), EgressRefusal>> {
        Box::pin(self.carry(request, exchange))
    }
}

const NO_OWN_KEYS: &str = "leave it out: the host adds the secret that the agent may use there";
const ASK_AGAIN: &str = "send it again, so that people are asked about what it is now";
const PERSON_DECIDES: &str = "a person who owns the agent decides what it may reach";

fn target(request: &EgressRequest) -> EgressTarget {
    EgressTarget {
        method: request.method.clone(),
        secure: request.scheme == Scheme::Https,
        host: request.host.trim_matches(['[', ']']).to_owned(),
        port: request.port,
        path: request.path.clone(),
        query: request.query.clone(),
        refs: request
            .push
            .iter()
            .flat_map(|push| &push.changes)
            .map(|change| change.name.to_string())
            .collect(),
    }
}

/// What a push asks for, as people are told it and as it is sent.
fn pushed(push: &wire::git::Push) -> Push {
    let said = |change: &RefChange| match (change.old.is_zero(), change.new.is_zero()) {
        (_, true) => format!("{}: deleted, was {}", change.name, change.old),
        (true, false) => format!("{}: new, at {}", change.name, change.new),
        (false, false) => format!("{}: from {} to {}", change.name, change.old, change.new),
    };
    let deletes = push.changes.iter().any(|change| change.new.is_zero());
    Push { changes: push.changes.iter().map(said).collect(), deletes, bytes: push.to_bytes() }
}

pub(super) fn for_vault(target: &EgressTarget) -> Target<'_> {
    Target {
        scheme: if target.secure { domain::Scheme::Https } else { domain::Scheme::Http },
        host: &target.host,
        port: target.port,
        method: &target.method,
        path: &target.path,
    }
}

/// What a request could take of the bytes of the day.
pub(super) fn most_bytes(action: &Connect, lent: bool) -> u64 {
    let heads = if lent && repeats(action) { 2 } else { 1 };
    head_bytes(action).saturating_mul(heads).saturating_add(action.most_bytes())
}

/// Whether it may be sent once more with a secret that was renewed: it did nothing, and its body isn't gone.
pub(super) fn repeats(action: &Connect) -> bool {
    action.target.reads() && action.body == Body::None && action.push.is_none()
}

/// The bytes of a request's head that are the agent's to choose.
pub(super) fn head_bytes(action: &Connect) -> u64 {
    let headers: usize = action.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let push = action.push.as_ref().map_or(0, |push| push.bytes.len());
    (action.target.to_string().len() + headers + push) as u64
}

/// The request with its whole body, so that people can be shown it.
async fn whole(action: Connect, exchange: &mut Exchange) -> Result<Connect, EgressRefusal> {
    if action.body == Body::None {
        return Ok(action);
    }
    // Nobody reads a pack: what it holds is told by the names of its commits.
    let most = if action.push.is_some() { MAX_PACK } else { MAX_SHOWN };
    let refused = |why: &str| EgressRefusal {
        status: 413,
        why: format!("a person must approve {}, and {why}", action.target),
        hint: Some(PERSON_DECIDES.to_owned()),
    };
    let mut bytes = Vec::new();
    loop {
        match exchange.body.next().await {
            Ok(Some(piece)) if bytes.len() + piece.len() > most => {
                let why = format!("it has a body of more than {} KiB, which nobody reads", most >> 10);
                return Err(refused(&why));
            }
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Ok(None) => break,
            Err(Gone) => return Err(refused("its body was cut short")),
        }
    }
    if action.push.is_none() && std::str::from_utf8(&bytes).is_err() {
        return Err(refused("its body is no text that could be shown"));
    }
    let body = if bytes.is_empty() { Body::None } else { Body::Whole(bytes) };
    Ok(Connect { body, ..action })
}

/// What people are told of the secret that goes with a request, so that their answer is bound to it.
fn with_secret(lent: Option<&Injection>) -> Vec<Shown> {
    let shown = |lent: &Injection| Shown {
        place: "secret".to_owned(),
        digest: digest(&[lent.secret.as_str().as_bytes()]),
    };
    lent.map(shown).into_iter().collect()
}

/// What an answer brings to the session.
pub(super) fn labels_of(own: bool, with_secret: bool) -> Labels {
    let integrity = if own { Integrity::Organisation } else { Integrity::Web };
    let confidentiality =
        if own || with_secret { Confidentiality::Confidential } else { Confidentiality::Public };
    Labels { confidentiality, integrity, ..Labels::default() }
}

/// The whole length of a request's body, where it is known.
fn length(request: &EgressRequest) -> Option<u64> {
    match request.body {
        BodyLength::None => Some(0),
        BodyLength::Known(bytes) => Some(bytes),
        BodyLength::Unknown => None,
    }
}

fn host_count(host: &str) -> String {
    format!("host:{host}")
}

fn texts(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn denied(reasons: &[Reason]) -> EgressRefusal {
    EgressRefusal { status: 403, why: texts(reasons).join("; "), hint: Some(PERSON_DECIDES.to_owned()) }
}

pub(super) fn internal(error: impl std::fmt::Display) -> EgressRefusal {
    tracing::error!(%error, "a request that is to leave failed in the gateway");
    EgressRefusal { status: 502, why: format!("the gateway failed: {error}"), hint: None }
}

/// A failure of what asks people and writes, as it is told to a program that speaks HTTP.
fn failed(failure: ToolFailure) -> EgressRefusal {
    let status = match failure.kind {
        ToolFailureKind::Waiting => 504,
        ToolFailureKind::Refused => 403,
        ToolFailureKind::TooLarge => 413,
        ToolFailureKind::NotFound
        | ToolFailureKind::Invalid
        | ToolFailureKind::Upstream
        | ToolFailureKind::Internal => 502,
    };
    EgressRefusal { status, why: failure.message, hint: failure.hint }
}
