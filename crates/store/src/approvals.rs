//! Questions to people and their answers. What may happen to one is decided by `domain::ApprovalLife` alone; here it is
//! stored, and every try is on the ledger, the refused ones too.

use std::time::Duration;

use domain::{
    AgentName, AnswerError, ApprovalEvent, ApprovalId, ApprovalLife, ApprovalState, Digest, Effects, GrantId,
    Labels, Origin, PersonName, Quorum, Role, SessionId,
};
use serde::{Deserialize, Serialize};

use crate::error::damaged;
use crate::ledger::{Change, Sealed, natural, signed};
use crate::statement::{Row, Statement};
use crate::{About, Act, Event, Private, Store, StoreError};

/// What people are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose act it is; the agent and the session are known.
    pub agent: AgentName,
    /// Whom it is about.
    pub about: About,
    /// What would be done.
    pub act: Act,
    /// What the answer is bound to: the digest of exact arguments, content, pin, policy and whatever else may not change.
    pub binding: Digest,
    /// What is shown. Sealed.
    pub shown: Shown,
    /// What kind of thing it is. Only what can be undone may be approved for a session.
    pub effects: Effects,
    /// The labels at the time. The right may be used by a session whose labels are within them, no other.
    pub ceiling: Labels,
    /// Why it is asked: rules, with file and line.
    pub reasons: Vec<String>,
    /// Who answers, how many, until when.
    pub quorum: Quorum,
}

/// What a question shows to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The exact arguments, as canonical JSON.
    pub arguments: Private,
    /// The content that they refer to (the draft, the file, the plan), as text for people.
    pub content: Private,
    /// Where each argument came from: its path in the arguments (RFC 6901), and its origin.
    pub origins: Vec<(String, Origin)>,
    /// What can't be undone about it, and whom it reaches, in words.
    pub consequences: Vec<String>,
}

/// A question as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// Whom it is about.
    pub about: About,
    /// What would be done.
    pub act: Act,
    /// Why it was asked.
    pub reasons: Vec<String>,
    /// What kind of thing it is.
    pub effects: Effects,
    /// The labels that the right is good for.
    pub ceiling: Labels,
    /// Who answers, how many, until when.
    pub quorum: Quorum,
    /// Where it stands, time considered.
    pub life: ApprovalLife,
    /// The answers that counted, oldest first.
    pub answers: Vec<Answer>,
    /// What it shows; none if that was erased.
    pub shown: Option<Shown>,
    /// When it was asked, in milliseconds since 1970.
    pub asked_at: u64,
    /// The ledger's entry that asked it.
    pub entry: u64,
}

impl Approval {
    /// Whether everybody who said yes said it for the whole session.
    #[must_use]
    pub fn is_for_session(&self) -> bool {
        self.life.state == ApprovalState::Approved && self.answers.iter().all(|answer| answer.for_session)
    }
}

/// What asking came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A new question.
    New(ApprovalId),
    /// The same question was there already: pending, or approved and not used yet.
    Merged(ApprovalId, ApprovalState),
}

impl Asking {
    /// The question's id.
    #[must_use]
    pub fn id(self) -> ApprovalId {
        match self {
            Self::New(id) | Self::Merged(id, _) => id,
        }
    }
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answers; authenticated by the caller.
    pub person: PersonName,
    /// Yes or no.
    pub yes: bool,
    /// Yes to the same again in this session. Only for what can be undone.
    pub for_session: bool,
    /// Why, in their words; the agent gets to read it with a no. Sealed.
    pub why: Option<Private>,
}

/// Why asking, answering or granting did nothing. It is on the ledger, unless the store itself failed.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// The approval's life doesn't allow it.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The person may not answer anything, any more.
    #[error("{0} is not known here as somebody who answers questions: an owner can change that")]
    NotApprover(PersonName),
    /// A right for the whole session was wanted for what can't be undone.
    #[error(
        "what can't be undone, leaves the organisation or runs something is approved one by one, not for a session"
    )]
    NotUndoable,
    /// People would be flooded.
    #[error("{0} has {MAX_OPEN} questions open already: they must be answered or run out first")]
    TooMany(AgentName),
    /// The approval is of something else, or of another agent.
    #[error("this approval was given for something else")]
    Foreign,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A right that an approval leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// Its id.
    pub id: GrantId,
    /// Who may use it; no other session can.
    pub session: SessionId,
    /// What it allows: compared with a commit's binding.
    pub binding: Digest,
    /// How often.
    pub uses: Uses,
    /// Until when, in milliseconds since 1970.
    pub until: u64,
}

/// How often a grant may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uses {
    /// So many times: the calls of a plan.
    Times(u32),
    /// As often as the session likes, until it ends. Only for what can be undone.
    Session,
}

/// How often `wait` looks for answers that came by way of another process.
pub const POLL: Duration = Duration::from_secs(1);
/// Most questions in one list.
const MOST: i64 = 1000;
/// Most bytes that a question may show: what is more couldn't be sent to who answers it.
pub const MAX_SHOWN: usize = 3 << 20;
/// Most questions that one agent may have open.
pub const MAX_OPEN: usize = 50;

/// An approval's row, as changes need it.
pub(crate) struct Stored {
    pub(crate) id: ApprovalId,
    pub(crate) entry: u64,
    pub(crate) agent: AgentName,
    pub(crate) binding: String,
    pub(crate) quorum: Quorum,
    pub(crate) life: ApprovalLife,
    pub(crate) effects: Effects,
    pub(crate) ceiling: Labels,
    answers: Vec<Kept>,
}

/// An answer that counted; why is in the ledger's entry.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    person: PersonName,
    yes: bool,
    for_session: bool,
    entry: u64,
}

impl Stored {
    pub(crate) fn about(&self) -> About {
        About { agent: Some(self.agent.clone()), ..About::default() }
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        let text = |column: &'static str| row.text(column);
        let what = "an approval";
        Ok(Self {
            id: text("id")?.parse().map_err(damaged(what))?,
            entry: natural(row, "asked")?,
            agent: text("agent")?.parse().map_err(damaged(what))?,
            binding: text("binding")?.to_owned(),
            quorum: serde_json::from_str(text("quorum")?).map_err(damaged(what))?,
            life: serde_json::from_str(text("life")?).map_err(damaged(what))?,
            effects: serde_json::from_str(text("effects")?).map_err(damaged(what))?,
            ceiling: serde_json::from_str(text("ceiling")?).map_err(damaged(what))?,
            answers: serde_json::from_str(text("answers")?).map_err(damaged(what))?,
        })
    }
}

/// The life after an answer of somebody who may answer questions at all.
fn after(stored: &Stored, answer: &Answer, now: u64) -> Result<ApprovalLife, ApprovalError> {
    if answer.yes && answer.for_session && !stored.effects.can_be_undone() {
        return Err(ApprovalError::NotUndoable);
    }
    let person = answer.person.clone();
    let event = if answer.yes { ApprovalEvent::Yes(person) } else { ApprovalEvent::No(person) };
    Ok(stored.life.clone().on(&event, &stored.quorum, now)?)
}

impl Change<'_> {
    /// The approval as it stands now. If its time is over, that is stored and recorded first.
    pub(crate) async fn approval(&mut self, id: ApprovalId) -> Result<Stored, StoreError> {
        let row = self.find_one(by_id(id)).await?;
        let row = row.ok_or_else(|| StoreError::Unknown { what: "approval", name: id.to_string() })?;
        self.aged(Stored::read(&row)?)
    }

    /// The agent's questions that are pending, or approved and not used.
    async fn open_questions(&mut self, agent: &AgentName) -> Result<Vec<Stored>, StoreError> {
        let query =
            "SELECT * FROM approvals WHERE agent = $1 AND state IN ('pending', 'approved') ORDER BY asked";
        let rows = self.find(Statement::new(query).text(agent.to_string())).await?;
        let mut open = Vec::new();
        for row in &rows {
            let stored = self.aged(Stored::read(row)?)?;
            if !stored.life.state.is_final() {
                open.push(stored);
            }
        }
        Ok(open)
    }

    fn aged(&mut self, mut stored: Stored) -> Result<Stored, StoreError> {
        let before = stored.life.state;
        stored.life = stored.life.at(&stored.quorum, self.now);
        if stored.life.state != before {
            self.keep_life(stored.id, &stored.life)?;
            let about = stored.about();
            self.record(&about, &Event::Expired { approval: stored.id }, None)?;
        }
        Ok(stored)
    }

    pub(crate) fn keep_life(&mut self, id: ApprovalId, life: &ApprovalLife) -> Result<(), StoreError> {
        let keep = Statement::new("UPDATE approvals SET state = $1, life = $2 WHERE id = $3")
            .text(json(&life.state)?.trim_matches('"').to_owned())
            .text(json(life)?)
            .text(id.to_string());
        self.later(keep);
        Ok(())
    }
}

impl Change<'_> {
    fn new_grant(&mut self, grant: &NewGrant, of: &Stored, about: &About) -> Result<(), StoreError> {
        let uses = match grant.uses {
            Uses::Times(times) => Some(times),
            Uses::Session => None,
        };
        let event = Event::Granted { grant: grant.id, approval: of.id, uses, until: grant.until };
        self.record(about, &event, None)?;
        let keep = Statement::new(
            "INSERT INTO grants (id, approval, agent, session, binding, ceiling, uses_left, until_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .text(grant.id.to_string())
        .text(of.id.to_string())
        .text(of.agent.to_string())
        .text(grant.session.to_string())
        .text(self.store.keys.stored_binding(&grant.binding))
        .text(json(&of.ceiling)?)
        .number(uses.map(i64::from))
        .number(signed(grant.until));
        self.later(keep);
        Ok(())
    }
}

fn by_id(id: ApprovalId) -> Statement {
    Statement::new("SELECT * FROM approvals WHERE id = $1").text(id.to_string())
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(damaged("a value"))
}

impl Store {
    /// Asks people, or finds the same question where it was asked before and isn't used up.
    ///
    /// # Errors
    /// The agent has too many questions open, this one shows too much, or the store failed; nothing was asked.
    pub async fn ask(&self, id: ApprovalId, question: &Question, now: u64) -> Result<Asking, ApprovalError> {
        let shown = json(&question.shown)?;
        if shown.len() > MAX_SHOWN {
            let (what, found, max) = ("what people would be shown", shown.len(), MAX_SHOWN);
            return Err(StoreError::TooLarge { what, found, max }.into());
        }
        let mut change = Change::begin(self, now).await?;
        let binding = self.keys.stored_binding(&question.binding);
        let open = change.open_questions(&question.agent).await?;
        // Who may not answer it is part of it: a yes of theirs to another's would be one to their own.
        let same = |stored: &&Stored| {
            stored.binding == binding
                && stored.quorum.excluded == question.quorum.excluded
                && question.ceiling.within(&stored.ceiling)
        };
        if let Some(stored) = open.iter().find(same) {
            change.record(&question.about, &Event::AskedAgain { approval: stored.id }, None)?;
            change.commit().await?;
            return Ok(Asking::Merged(stored.id, stored.life.state));
        }
        if open.len() >= MAX_OPEN {
            let refused = ApprovalError::TooMany(question.agent.clone());
            let event = Event::Refused { act: question.act.clone(), why: refused.to_string() };
            change.record(&question.about, &event, None)?;
            change.commit().await?;
            return Err(refused);
        }
        let event = Event::Asked {
            approval: id,
            act: question.act.clone(),
            reasons: question.reasons.clone(),
            need: question.quorum.need,
            people: question.quorum.people.iter().cloned().collect(),
            until: question.quorum.until,
        };
        let entry = change.record(&question.about, &event, Some(&Private::new(shown)))?;
        let keep = Statement::new(
            "INSERT INTO approvals (id, asked, binding, agent, state, life, quorum, effects, ceiling, answers, until_ms) \
             VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, '[]', $9)",
        )
        .text(id.to_string())
        .number(signed(entry))
        .text(binding)
        .text(question.agent.to_string())
        .text(json(&ApprovalLife::default())?)
        .text(json(&question.quorum)?)
        .text(json(&question.effects)?)
        .text(json(&question.ceiling)?)
        .number(signed(question.quorum.until));
        change.later(keep);
        change.commit().await?;
        Ok(Asking::New(id))
    }

    /// A person answers.
    ///
    /// # Errors
    /// The answer does nothing: late, doubled, of somebody who wasn't asked or may not answer any more.
    pub async fn answer(
        &self,
        id: ApprovalId,
        answer: &Answer,
        now: u64,
    ) -> Result<ApprovalLife, ApprovalError> {
        let mut change = Change::begin(self, now).await?;
        let mut stored = change.approval(id).await?;
        let about = stored.about();
        let Answer { person, yes, for_session, why } = answer.clone();
        let next = match change.role(&person).await? {
            Some(role) if role >= Role::Approver => after(&stored, answer, now),
            Some(_) | None => Err(ApprovalError::NotApprover(person.clone())),
        };
        match &next {
            Ok(life) => {
                change.keep_life(id, life)?;
                let event = Event::Answered {
                    approval: id,
                    person: person.clone(),
                    yes,
                    for_session,
                    state: life.state,
                };
                let entry = change.record(&about, &event, why.as_ref())?;
                stored.answers.push(Kept { person, yes, for_session, entry });
                let keep = Statement::new("UPDATE approvals SET answers = $1 WHERE id = $2");
                change.later(keep.text(json(&stored.answers)?).text(id.to_string()));
            }
            Err(refused) => {
                let event = Event::AnswerRefused { approval: id, person, yes, why: refused.to_string() };
                change.record(&about, &event, None)?;
            }
        }
        change.commit().await?;
        next
    }

    /// Calls a question off: by a person, or since what it was about is gone.
    ///
    /// # Errors
    /// It is over already.
    pub async fn cancel(
        &self,
        id: ApprovalId,
        by: Option<&PersonName>,
        why: &str,
        now: u64,
    ) -> Result<(), ApprovalError> {
        let mut change = Change::begin(self, now).await?;
        let stored = change.approval(id).await?;
        let about = stored.about();
        let next = stored.life.on(&ApprovalEvent::CalledOff, &stored.quorum, now);
        if let Ok(life) = &next {
            change.keep_life(id, life)?;
            let event = Event::Cancelled { approval: id, by: by.cloned(), why: why.to_owned() };
            change.record(&about, &event, None)?;
        }
        change.commit().await?;
        next?;
        Ok(())
    }

    /// Stores and records the end of every question and right whose time is over. Says how many.
    ///
    /// # Errors
    /// The store failed.
    pub async fn expire(&self, now: u64) -> Result<usize, StoreError> {
        let due =
            "SELECT id FROM approvals WHERE state IN ('pending', 'approved') AND until_ms <= $1 LIMIT 1";
        if self.backend.find_one(Statement::new(due).number(signed(now))).await?.is_none() {
            return Ok(0);
        }
        let mut change = Change::begin(self, now).await?;
        let query = "SELECT * FROM approvals \
                     WHERE state IN ('pending', 'approved') AND until_ms <= $1";
        let rows = change.find(Statement::new(query).number(signed(now))).await?;
        for row in &rows {
            change.aged(Stored::read(row)?)?;
        }
        change.commit().await?;
        Ok(rows.len())
    }

    /// One approval with all that it shows.
    ///
    /// # Errors
    /// There is none of this id.
    pub async fn approval(&self, id: ApprovalId, now: u64) -> Result<Approval, StoreError> {
        let row = self.backend.find_one(by_id(id)).await?;
        let row = row.ok_or_else(|| StoreError::Unknown { what: "approval", name: id.to_string() })?;
        self.complete(Stored::read(&row)?, now).await
    }

    /// The questions that wait: all, or those that this person may answer and has not; oldest first. What each one shows
    /// is read one by one, since agents decide how much that is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pending(
        &self,
        person: Option<&PersonName>,
        now: u64,
    ) -> Result<Vec<ApprovalId>, StoreError> {
        let query = "SELECT * FROM approvals \
                     WHERE state = 'pending' AND until_ms > $1 ORDER BY asked LIMIT $2";
        let rows = self.backend.find(Statement::new(query).number(signed(now)).number(MOST)).await?;
        let mut pending = Vec::new();
        for row in &rows {
            let stored = Stored::read(row)?;
            let mine = person.is_none_or(|person| {
                stored.life.clone().on(&ApprovalEvent::Yes(person.clone()), &stored.quorum, now).is_ok()
            });
            if mine {
                pending.push(stored.id);
            }
        }
        Ok(pending)
    }

    /// The questions of a session that wait.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pending_of(&self, session: SessionId, now: u64) -> Result<Vec<ApprovalId>, StoreError> {
        let query = "SELECT a.* FROM approvals a JOIN ledger l ON l.seq = a.asked \
                     WHERE a.state = 'pending' AND a.until_ms > $1 AND l.session = $2 ORDER BY a.asked LIMIT $3";
        let query = Statement::new(query).number(signed(now)).text(session.to_string()).number(MOST);
        let rows = self.backend.find(query).await?;
        rows.iter().map(|row| Ok(Stored::read(row)?.id)).collect()
    }

    async fn complete(&self, stored: Stored, now: u64) -> Result<Approval, StoreError> {
        let what = "an approval";
        let entry = self.entry(stored.entry).await?;
        let Event::Asked { act, reasons, .. } = entry.event else {
            return Err(StoreError::Damaged { what, why: "its ledger entry asks nothing".to_owned() });
        };
        let shown = match entry.sealed {
            Sealed::Open(private) => Some(serde_json::from_str(private.reveal()).map_err(damaged(what))?),
            Sealed::None | Sealed::Gone => None,
        };
        let mut answers = Vec::new();
        for Kept { person, yes, for_session, entry } in stored.answers {
            let why = match self.entry(entry).await?.sealed {
                Sealed::Open(why) => Some(why),
                Sealed::None | Sealed::Gone => None,
            };
            answers.push(Answer { person, yes, for_session, why });
        }
        Ok(Approval {
            id: stored.id,
            about: entry.about,
            act,
            reasons,
            effects: stored.effects,
            ceiling: stored.ceiling,
            answers,
            life: stored.life.at(&stored.quorum, now),
            quorum: stored.quorum,
            shown,
            asked_at: entry.at,
            entry: stored.entry,
        })
    }

    /// Waits until something changes in this store, here or in another process: at the latest after [`POLL`].
    /// Whoever wants to know what, looks.
    pub async fn changed(&self) {
        let mut changes = self.changes.subscribe();
        // Both ends mean the same: look again. The sender lives as long as the store.
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// Waits until the question is answered, called off or expired. `clock` tells milliseconds since 1970.
    ///
    /// # Errors
    /// There is none of this id, or the store failed.
    pub async fn wait(
        &self,
        id: ApprovalId,
        clock: impl Fn() -> u64 + Send,
    ) -> Result<ApprovalLife, StoreError> {
        let mut changes = self.changes.subscribe();
        loop {
            let row = self.backend.find_one(by_id(id)).await?;
            let row = row.ok_or_else(|| StoreError::Unknown { what: "approval", name: id.to_string() })?;
            let stored = Stored::read(&row)?;
            let now = clock();
            let life = stored.life.at(&stored.quorum, now);
            if life.state != ApprovalState::Pending {
                self.expire(now).await?;
                return Ok(life);
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Turns an approval's right into grants: for the calls of a plan, or for a session. It is used up by that.
    ///
    /// # Errors
    /// There is no right to use, or the grant would be too wide.
    pub async fn grant(
        &self,
        approval: ApprovalId,
        binding: &Digest,
        grants: &[NewGrant],
        about: &About,
        now: u64,
    ) -> Result<(), ApprovalError> {
        let mut change = Change::begin(self, now).await?;
        let stored = change.approval(approval).await?;
        let wide = grants.iter().any(|grant| grant.uses == Uses::Session) && !stored.effects.can_be_undone();
        let life = if wide {
            Err(ApprovalError::NotUndoable)
        } else if stored.binding != self.keys.stored_binding(binding)
            || about.agent.as_ref() != Some(&stored.agent)
        {
            Err(ApprovalError::Foreign)
        } else {
            stored.life.clone().on(&ApprovalEvent::Used, &stored.quorum, now).map_err(ApprovalError::from)
        };
        match life {
            Ok(life) => {
                change.keep_life(approval, &life)?;
                for grant in grants {
                    change.new_grant(grant, &stored, about)?;
                }
                Ok(change.commit().await?)
            }
            Err(refused) => {
                let event = Event::GrantRefused { approval, why: refused.to_string() };
                change.record(about, &event, None)?;
                change.commit().await?;
                Err(refused)
            }
        }
    }

    /// The session's grant for exactly this, if it has one that can be used.
    ///
    /// # Errors
    /// The store failed.
    pub async fn find_grant(
        &self,
        session: SessionId,
        binding: &Digest,
        now: u64,
    ) -> Result<Option<GrantId>, StoreError> {
        let query = Statement::new(
            "SELECT id FROM grants WHERE session = $1 AND binding = $2 AND until_ms > $3 \
             AND (uses_left IS NULL OR uses_left > 0) ORDER BY id LIMIT 1",
        )
        .text(session.to_string())
        .text(self.keys.stored_binding(binding))
        .number(signed(now));
        let Some(row) = self.backend.look(query).await? else { return Ok(None) };
        row.text("id")?.parse().map(Some).map_err(damaged("a grant"))
    }

    /// Ends the grants of a session, when it ends or its agent is quarantined.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end_grants(
        &self,
        session: SessionId,
        why: &str,
        about: &About,
        now: u64,
    ) -> Result<u64, StoreError> {
        let mut change = Change::begin(self, now).await?;
        let ended = Statement::new("DELETE FROM grants WHERE session = $1").text(session.to_string());
        let count = change.changed(ended).await?;
        if count > 0 {
            change.record(about, &Event::GrantsEnded { count, why: why.to_owned() }, None)?;
        }
        change.commit().await?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use domain::{PersonName, Quorum};

    #[test]
    fn those_who_were_excluded_still_are() {
        let read = |excluded: &str| {
            let text = format!(r#"{{"people":["ada"],"need":1,"excluded":{excluded},"until":1}}"#);
            serde_json::from_str::<Quorum>(&text).unwrap().excluded
        };
        let person = |name: &str| name.parse::<PersonName>().unwrap();
        assert!(read("null").is_empty());
        assert_eq!(read(r#""ada""#), [person("ada")].into());
        assert_eq!(read(r#"["ada","bob"]"#), ["ada", "bob"].map(person).into());
    }
}
