//! Questions to people: what they are shown, the wait for their answer, and what a yes to more than one call leaves open.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use domain::{
    ApprovalId, ApprovalState, Digest, Effect, Effects, GrantId, Labels, Origin, PersonName, Quorum, ToolRef,
};
use policy::{Act, Allowed, Decision, Grant, Kind, Question, Ranges, Role, Shown};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{NewGrant, Private, Uses};
use wire::tools::{Amount, Content, Progress, ToolFailure, ToolFailureKind};

use super::gate::{Decided, Looked, MAX_ASKS, Right, SessionGate, ToolEvent, internal, refused};
use super::{CallContext, ToolCall};

/// How long a call is held open for people. After that the agent may call again, and waits for the same answer.
const HOLD: Duration = Duration::from_secs(50 * 60);
/// How often whoever waits is told so.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Most addresses in it whose origin is shown, and most bytes of one.
const MAX_ADDRESSES: usize = 200;
const MAX_ADDRESS: usize = 254;
/// Most bytes of content shown with a question.
const MAX_CONTENT: usize = 256 << 10;

/// A right that people gave to more than one call: a call of an approved plan, or a yes for the whole session.
pub(super) struct Standing {
    pub(super) approval: ApprovalId,
    pub(super) binding: Digest,
    pub(super) ceiling: Labels,
    /// Which numbers a planned call leaves open.
    pub(super) ranges: Ranges,
    pub(super) grant: GrantId,
    pub(super) uses: Uses,
    /// Whose words the session followed then, where none of them was to answer; empty: anybody was.
    pub(super) excluded: BTreeSet<PersonName>,
}

impl Standing {
    fn allows(&self, question: Question<policy::ToolCall>) -> Option<Allowed<policy::ToolCall>> {
        let (approval, binding, ceiling) = (self.approval, self.binding, self.ceiling.clone());
        let grant = Grant { approval, binding, ceiling };
        match self.uses {
            Uses::Times(_) => question.granted_within(&self.ranges, &grant).ok(),
            Uses::Session => question.granted_for_session(&grant).ok(),
        }
    }
}

/// Content that arguments refer to.
pub(super) struct Referred {
    pub(super) shown: Vec<Shown>,
    pub(super) text: String,
}

impl SessionGate {
    /// The right that an approved plan, or a yes for the session, left for this call, if there is one.
    pub(super) async fn standing(
        &self,
        question: &Question<policy::ToolCall>,
    ) -> Option<(Allowed<policy::ToolCall>, GrantId)> {
        let mut state = self.state.lock().await;
        let authors = self.session.by.all();
        let find = |(at, right): (usize, &Standing)| {
            // Who said yes may have told the session something since: then it is asked anew.
            let theirs = right.excluded.is_empty() || right.excluded == authors;
            right.allows(question.clone()).filter(|_| theirs).map(|allowed| (at, allowed))
        };
        let (at, allowed) = state.standing.iter().enumerate().find_map(find)?;
        let right = state.standing.get_mut(at)?;
        let grant = right.grant;
        match &mut right.uses {
            Uses::Times(left) if *left > 1 => *left = left.saturating_sub(1),
            Uses::Times(_) => drop(state.standing.remove(at)),
            Uses::Session => {}
        }
        Some((allowed, grant))
    }

    /// Asks people, waits, and decides once more: what is approved is what was shown, or nothing.
    pub(super) async fn ask(
        &self,
        looked: &Looked,
        question: Question<policy::ToolCall>,
        content: &str,
        context: &CallContext,
    ) -> Result<Right, ToolFailure> {
        let mut consequences = question.effects().map(consequences).unwrap_or_default();
        if question.session_binding().is_some() {
            consequences.push(for_the_session(&looked.row));
        }
        let shown = store::Shown {
            arguments: Private::new(looked.call.arguments.text().to_owned()),
            content: Private::new(content.to_owned()),
            origins: [origins(&question), self.addresses_in(content).await].concat(),
            consequences,
        };
        let act = store::Act::Tool(looked.call.tool.clone());
        let asked = self.asked(&question, act, shown).await?;
        self.tell_waits(asked, &looked.call.tool);
        self.answered(asked, &looked.call.tool, context).await?;
        let grant =
            Grant { approval: asked, binding: question.binding(), ceiling: question.labels().clone() };
        // The tool may have changed while people thought.
        let arguments = looked.call.arguments.text().to_owned();
        let looked = &self.look(ToolCall { tool: looked.call.tool.clone(), arguments }).await?;
        let referred = self.referred(looked).await?;
        let Decided { decision, basis, turn } = self.decided(looked).await?;
        let now = match decision {
            Decision::Allow(allowed) => return Ok(Right { allowed, grant: None, basis, turn }),
            Decision::Deny(reasons) => return Err(refused(&reasons)),
            Decision::Ask(now) => now.showing(referred.shown),
        };
        let allowed = now.clone().granted(&grant).map_err(|error| {
            ToolFailure::new(ToolFailureKind::Refused, error.to_string())
                .hint("call again, so that people are asked about what it is now")
        })?;
        if let Some(right) = self.for_session(&now, grant).await? {
            let allowed = right.allows(now).unwrap_or(allowed);
            let used = right.grant;
            self.state.lock().await.standing.push(right);
            return Ok(Right { allowed, grant: Some(used), basis, turn });
        }
        Ok(Right { allowed, grant: None, basis, turn })
    }

    /// Where the addresses came from that stand in what a call refers to, such as a draft's recipients.
    pub(super) async fn addresses_in(&self, content: &str) -> Vec<(String, Origin)> {
        let mut found = BTreeSet::new();
        for record in content.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            addresses(&record, &mut found);
        }
        let state = self.state.lock().await;
        let origin = |address: String| {
            // One that could be mistaken for another is nobody's.
            let origin = state.seen.origin_of(&address, &Kind::Recipient).unwrap_or(Origin::Unknown);
            (address, origin)
        };
        found.into_iter().map(origin).collect()
    }

    /// The right to the same again, if everybody who said yes said it for the whole session. It takes the place of the
    /// approval's own.
    async fn for_session(
        &self,
        question: &Question<policy::ToolCall>,
        given: Grant,
    ) -> Result<Option<Standing>, ToolFailure> {
        let (now, store) = (self.servers.now(), self.servers.store());
        let approval = store.approval(given.approval, now).await.map_err(internal)?;
        let about = &self.session.about;
        let (true, Some(session)) = (approval.is_for_session(), about.session) else { return Ok(None) };
        // Bound to the labels that were shown, which may have been above those of now.
        let Some(binding) = question.session_binding() else { return Ok(None) };
        let grant = self.servers.grant_id().map_err(internal)?;
        let until = approval.quorum.until;
        let new = NewGrant { id: grant, session, binding, uses: Uses::Session, until };
        let granted = store.grant(given.approval, &given.binding, &[new], about, now).await;
        granted.map_err(|e| ToolFailure::new(ToolFailureKind::Refused, e.to_string()))?;
        let ceiling = question.labels().clone();
        let excluded = approval.quorum.excluded;
        let (approval, ranges, uses) = (given.approval, Ranges::default(), Uses::Session);
        Ok(Some(Standing { approval, binding, ceiling, ranges, grant, uses, excluded }))
    }

    /// Puts a question to people, or finds it where it was put before.
    pub(crate) async fn asked<A: Act>(
        &self,
        question: &Question<A>,
        act: store::Act,
        shown: store::Shown,
    ) -> Result<ApprovalId, ToolFailure> {
        let about = self.session.about.clone();
        let Some(agent) = about.agent.clone() else { return Err(internal("a session without an agent")) };
        self.counts_question(&act)?;
        let (now, id) = self.servers.approval_id().map_err(internal)?;
        let asked = store::Question {
            agent,
            about,
            act,
            binding: question.binding(),
            shown,
            effects: question.effects().unwrap_or(Effects::UNKNOWN),
            ceiling: question.labels().clone(),
            reasons: question.reasons().iter().map(ToString::to_string).collect(),
            quorum: self.quorum(question.approvals(), now).await?,
        };
        Ok(self.servers.store().ask(id, &asked, now).await.map_err(internal)?.id())
    }

    /// Counts a question about this; after so many, people and the ledger are left alone.
    pub(super) fn counts_question(&self, act: &store::Act) -> Result<(), ToolFailure> {
        if self.asks.is(format!("{act:?}")) {
            return Ok(());
        }
        let why = format!(
            "this session has asked people {MAX_ASKS} times about the like of it: they are not asked again"
        );
        Err(ToolFailure::new(ToolFailureKind::Refused, why).hint("start another session"))
    }

    /// Tells whoever looks at the session that something waits. Nobody listening, or too slowly: the store has it.
    pub(crate) fn tell_waits(&self, approval: ApprovalId, what: &dyn Display) {
        drop(self.events.try_send(ToolEvent::Waits { approval, what: what.to_string() }));
    }

    pub(super) async fn quorum(&self, rule: &domain::ApprovalRule, now: u64) -> Result<Quorum, ToolFailure> {
        let people = self.servers.people(rule.from.as_ref()).await.map_err(internal)?;
        let excluded = if rule.exclude_author { self.session.by.all() } else { BTreeSet::new() };
        let able = people.difference(&excluded).count();
        if able < usize::from(rule.need) {
            let whom =
                rule.from.as_ref().map_or_else(|| "the owners".to_owned(), |group| format!("group {group}"));
            let why = format!("{} must approve this, and {whom} has {able} who could", rule.need);
            return Err(ToolFailure::new(ToolFailureKind::Refused, why)
                .hint("an owner adds people: `lazaret group add`"));
        }
        let until =
            now.saturating_add(u64::try_from(rule.within.as_duration().as_millis()).unwrap_or(u64::MAX));
        Ok(Quorum { people, need: rule.need, excluded, until })
    }

    /// Waits until people approved; says meanwhile that it waits.
    pub(crate) async fn answered(
        &self,
        approval: ApprovalId,
        what: &(dyn Display + Sync),
        context: &CallContext,
    ) -> Result<(), ToolFailure> {
        let clock = self.servers.clock();
        let answer = self.servers.store().wait(approval, clock);
        tokio::pin!(answer);
        let hold = tokio::time::sleep(HOLD);
        tokio::pin!(hold);
        let mut tick = tokio::time::interval(TELL_EVERY);
        let mut waited = 0.0;
        let waiting = |why: &str| {
            ToolFailure::new(
                ToolFailureKind::Waiting,
                format!("{what} waits for a person ({approval}): {why}"),
            )
            .hint("make the same call again to go on waiting for the same answer")
        };
        let life = loop {
            tokio::select! {
                life = &mut answer => break life.map_err(internal)?,
                () = context.cancelled.cancelled() => return Err(waiting("nobody waits for it here any more")),
                () = &mut hold => return Err(waiting("nobody has answered yet")),
                _ = tick.tick() => {
                    let message = Some(format!("waits for a person: lazaret approve {approval}"));
                    if let Ok(done) = Amount::try_from(waited) {
                        context.progress.tell(Progress { done, total: None, message });
                    }
                    waited += 1.0;
                }
            }
        };
        match life.state {
            ApprovalState::Approved => Ok(()),
            ApprovalState::Denied => Err(self.said_no(approval).await),
            state @ (ApprovalState::Pending
            | ApprovalState::Expired
            | ApprovalState::Cancelled
            | ApprovalState::Consumed) => {
                let why = format!("the question {approval} is {state}: nobody approved it");
                Err(ToolFailure::new(ToolFailureKind::Refused, why))
            }
        }
    }

    async fn said_no(&self, approval: ApprovalId) -> ToolFailure {
        let asked = self.servers.store().approval(approval, self.servers.now()).await;
        let why = asked.ok().and_then(|asked| {
            let no = asked.answers.into_iter().rfind(|answer| !answer.yes)?;
            no.why.map(|why| why.reveal().to_owned())
        });
        let why = why.map_or_else(|| "a person said no".to_owned(), |why| format!("a person said no: {why}"));
        ToolFailure::new(ToolFailureKind::Refused, why)
    }

    /// Reads the content that a call's arguments refer to, as the agent itself may read it.
    pub(super) async fn referred(&self, looked: &Looked) -> Result<Referred, ToolFailure> {
        let mut referred = Referred { shown: Vec::new(), text: String::new() };
        let arguments = Value::Object(looked.call.arguments.value().clone());
        for (place, reference) in &looked.row.refers {
            for value in at(&arguments, place) {
                let tool = ToolRef { server: looked.call.tool.server.clone(), tool: reference.tool.clone() };
                let call =
                    ToolCall { tool, arguments: json!({ (reference.argument.as_str()): value }).to_string() };
                let text = Box::pin(self.read_for_people(call)).await.map_err(|failure| {
                    let why =
                        format!("what `{place}` refers to can't be shown to a person: {}", failure.message);
                    ToolFailure::new(ToolFailureKind::Refused, why)
                })?;
                referred.shown.push(Shown { place: place.clone(), digest: digest(&[text.as_bytes()]) });
                referred.text.push_str(&text);
                referred.text.push('\n');
            }
        }
        if referred.text.len() > MAX_CONTENT {
            let why = format!("it refers to more than {MAX_CONTENT} bytes, which no person would read");
            return Err(ToolFailure::new(ToolFailureKind::TooLarge, why));
        }
        Ok(referred)
    }

    async fn read_for_people(&self, call: ToolCall) -> Result<String, ToolFailure> {
        let looked = self.look(call).await?;
        if !looked.row.effects.only_reads() {
            return Err(ToolFailure::new(
                ToolFailureKind::Refused,
                "the tool that shows it does more than read",
            ));
        }
        let Decided { decision: Decision::Allow(allowed), basis, turn } = self.decided(&looked).await? else {
            return Err(ToolFailure::new(ToolFailureKind::Refused, "this agent may not read it"));
        };
        let open = self.commit(&looked, Right { allowed, grant: None, basis, turn }).await?;
        let result = self.act(&looked, open, &CallContext::unheard()).await?;
        if result.is_error {
            return Err(ToolFailure::new(ToolFailureKind::Upstream, "its server says that it can't be read"));
        }
        let texts: Vec<&str> = result
            .content
            .iter()
            .filter_map(|content| match content {
                Content::Text(text) => Some(text.as_str()),
                Content::Image { .. } | Content::Audio { .. } | Content::Resource(_) | Content::Link(_) => {
                    None
                }
            })
            .collect();
        Ok(texts.join("\n"))
    }
}

impl Referred {
    /// The question with this content, and the content's text.
    pub(super) fn into(self, question: Question<policy::ToolCall>) -> (Question<policy::ToolCall>, String) {
        (question.showing(self.shown), self.text)
    }
}

pub(crate) fn origins<A: Act>(question: &Question<A>) -> Vec<(String, Origin)> {
    let origin = |judged: &policy::Judged| {
        let origin = match &judged.role {
            Role::Sensitive(_, origin) => origin.clone(),
            Role::Content(true) => Origin::Person,
            Role::Content(false) => Origin::Unknown,
            Role::Refers => return None,
        };
        Some((format!("/{}", judged.place), origin))
    };
    question.arguments().iter().filter_map(origin).collect()
}

/// The values that are an address and nothing else, as far as a person would read them.
fn addresses(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let plain = |c: char| !c.is_whitespace() && !c.is_control();
            let address = text.len() <= MAX_ADDRESS && text.contains('@') && text.chars().all(plain);
            if address && found.len() < MAX_ADDRESSES {
                found.insert(text.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| addresses(item, found)),
        Value::Object(entries) => entries.values().for_each(|entry| addresses(entry, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a yes for the session would leave open.
fn for_the_session(row: &policy::Row) -> String {
    let texts: Vec<String> = row.content.iter().map(|place| format!("`{place}`")).collect();
    let any =
        if texts.is_empty() { String::new() } else { format!(", with any text in {}", texts.join(", ")) };
    format!("it may be approved for the session (--session): the same again{any}")
}

pub(crate) fn consequences(effects: Effects) -> Vec<String> {
    let says = |effect| match effect {
        Effect::Read => None,
        Effect::Write => Some("it changes something, which can be changed back"),
        Effect::Irreversible => Some("it can't be undone"),
        Effect::Communicate => Some("it leaves the organisation"),
        Effect::Execute => Some("it makes something run"),
        Effect::Delegate => Some("it hands work to another agent"),
    };
    effects.iter().filter_map(says).map(str::to_owned).collect()
}

/// The values at a place: names joined by `/`, `*` for each element of a list.
fn at<'v>(value: &'v Value, place: &str) -> Vec<&'v Value> {
    place.split('/').fold(vec![value], |found, part| {
        let step = |value: &'v Value| match (part, value) {
            ("*", Value::Array(items)) => items.iter().collect(),
            (name, Value::Object(entries)) => entries.get(name).into_iter().collect(),
            (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Vec::new()
            }
        };
        found.into_iter().flat_map(step).collect()
    })
}

pub(crate) fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest::from_bytes(hash.finalize().into())
}
