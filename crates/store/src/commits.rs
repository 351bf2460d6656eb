//! Commit once: the right is used, the budget reserved and the entry written in one transaction; then the act is done;
//! then its outcome is written. What has no outcome after a crash is found, and is never done again by itself.

use domain::{AnswerError, ApprovalEvent, CommitId, Digest, Labels};
use tokio::sync::oneshot::Receiver;

use crate::crash;
use crate::error::damaged;
use crate::ledger::{Change, Job, LINGER, Written, natural, number, signed};
use crate::statement::{Answer, Answers, Row, Statement};
use crate::{About, Act, ByRight, Event, Outcome, Private, Reserved, Store, StoreError};

/// An act that is about to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// Whose act it is.
    pub about: About,
    /// What is done.
    pub act: Act,
    /// The digest of everything that the right was given for.
    pub binding: Digest,
    /// By what right.
    pub by_right: ByRight,
    /// Why policy allows it: rules, with file and line.
    pub reasons: Vec<String>,
    /// The session's labels now. They must be within what the right was given for.
    pub labels: Labels,
    /// What it may use up at most.
    pub spend: Vec<Spend>,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// The exact arguments, as canonical JSON. Sealed.
    pub arguments: Private,
    /// What is recorded right after it: the secrets that go with it.
    pub also: Vec<Event>,
}

/// So much of a budget, and what that has in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// Of which budget.
    pub reserve: Reserved,
    /// The most that may be used on the day.
    pub limit: u64,
}

/// Why an act may not be done. It is on the ledger, unless the store itself failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The approval's right can't be used.
    #[error(transparent)]
    Right(#[from] AnswerError),
    /// The right is for something else, or of another agent or session.
    #[error("this right was given for something else: what is bound may not change")]
    Foreign,
    /// The grant has ended or is used up.
    #[error("this grant can't be used any more")]
    NoGrant,
    /// The session has met more since.
    #[error(
        "the session's labels are above those that the right was given for: {now}, but the right is for {ceiling}"
    )]
    AboveCeiling {
        /// The session's.
        now: Labels,
        /// The most that the right is good for.
        ceiling: Labels,
    },
    /// A budget doesn't have so much left.
    #[error("the budget `{budget}` has {left} left today, and this could take {wanted}")]
    Budget {
        /// Which.
        budget: String,
        /// How much is left.
        left: u64,
        /// How much was to be reserved.
        wanted: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// As a failure of what can't be refused.
    pub(crate) fn into_store(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            refused @ (Self::Right(_)
            | Self::Foreign
            | Self::NoGrant
            | Self::AboveCeiling { .. }
            | Self::Budget { .. }) => StoreError::Group(refused.to_string()),
        }
    }
}

/// An act without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its id.
    pub id: CommitId,
    /// Whose act it is.
    pub about: About,
    /// What was to be done.
    pub act: Act,
    /// Whether it may be done again.
    pub idempotent: bool,
    /// When it was committed to, in milliseconds since 1970.
    pub at: u64,
    /// The ledger's entry; its sealed part has the arguments.
    pub entry: u64,
}

impl Store {
    /// Uses the right, reserves the budget and appends the entry: all or nothing. With that the act may be done, once.
    ///
    /// # Errors
    /// The act may not be done.
    pub async fn commit(&self, commit: &Commit, now: u64) -> Result<CommitId, CommitError> {
        Heard {
            store: self,
            commit,
            at: now,
            written: self.written(Job::Commit(Box::new(commit.clone())), now),
        }
        .number()
        .await?;
        crash::point("committed");
        Ok(commit.id)
    }

    /// Writes what came of an act, and gives back what it reserved but didn't use. What `spent` doesn't name stays used
    /// as it was reserved. It is in its place among what is written already when this returns; what it returns waits
    /// until it is written.
    ///
    /// # Errors
    /// There is no such act, or it has an outcome already.
    pub fn outcome(
        &self,
        id: CommitId,
        outcome: &Outcome,
        spent: &[Reserved],
        answer: Option<&Private>,
        now: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (outcome, spent, answer) = (outcome.clone(), spent.to_vec(), answer.cloned());
        concluded(self.written(Job::Outcome { id, outcome, spent, answer }, now))
    }

    /// The same where nobody waits for it: it is written with what comes next, or soon.
    ///
    /// # Errors
    /// As [`Store::outcome`].
    pub fn outcome_soon(
        &self,
        id: CommitId,
        outcome: &Outcome,
        spent: &[Reserved],
        now: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let job = Job::Outcome { id, outcome: outcome.clone(), spent: spent.to_vec(), answer: None };
        concluded(self.written_after(job, now, LINGER))
    }

    /// The acts without outcome, oldest first: those under way, or, after a crash, those whose outcome nobody knows.
    ///
    /// # Errors
    /// The store failed.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let what = "an act";
        let query = "SELECT c.id, l.* FROM commits c JOIN ledger l ON l.seq = c.seq WHERE c.outcome IS NULL \
                     ORDER BY l.seq";
        let rows = self.backend.find(Statement::new(query)).await?;
        let read = |row: &Row| {
            let event = serde_json::from_str(row.text("body")?).map_err(damaged(what))?;
            let Event::Committed { commit, act, idempotent, .. } = event else {
                return Err(StoreError::Damaged {
                    what,
                    why: "its ledger entry commits to nothing".to_owned(),
                });
            };
            let (at, entry) = (natural(row, "at")?, natural(row, "seq")?);
            Ok(Unfinished { id: commit, about: crate::ledger::about(row)?, act, idempotent, at, entry })
        };
        rows.iter().map(read).collect()
    }

    /// How much of a budget is used or reserved on a day (days since 1970).
    ///
    /// # Errors
    /// The store failed.
    pub async fn used(&self, budget: &str, day: u32) -> Result<u64, StoreError> {
        let row = self.backend.look(used(budget, day)).await?;
        row.map_or(Ok(0), |row| natural(&row, "used"))
    }
}

fn used(budget: &str, day: u32) -> Statement {
    let query = "SELECT used FROM budgets WHERE subject = $1 AND day = $2";
    Statement::new(query).text(budget.to_owned()).number(i64::from(day))
}

async fn concluded(mut written: Receiver<Written>) -> Result<(), StoreError> {
    number(&mut written).await.map_err(CommitError::into_store)?;
    crash::point("outcome-committed");
    Ok(())
}

/// Whoever waits for a commit. If they give up when it is written already, it is concluded: nobody will act.
struct Heard<'s> {
    store: &'s Store,
    commit: &'s Commit,
    at: u64,
    written: Receiver<Written>,
}

impl Heard<'_> {
    async fn number(mut self) -> Written {
        number(&mut self.written).await
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        // From now on the writer itself finds that nobody is here.
        self.written.close();
        if let Ok(Ok(_)) = self.written.try_recv() {
            self.store.nobody_acts(self.commit, self.at);
        }
    }
}

impl Commit {
    /// What is asked before it is written; [`Change::commit_to`] gets what that finds.
    pub(crate) fn asks(&self) -> Vec<Statement> {
        // Used at once, so that nobody else who is written together with it uses it too.
        let using = "UPDATE grants SET uses_left = uses_left - 1 WHERE id = $1 RETURNING *";
        let grant = match self.by_right {
            ByRight::Grant(id) => Some(Statement::new(using).text(id.to_string())),
            ByRight::Policy | ByRight::Approval(_) => None,
        };
        grant.into_iter().chain(self.spend.iter().filter_map(Spend::reserving)).collect()
    }
}

impl Spend {
    /// Sets so much aside, if so much is left; it finds nothing where it isn't. None: it never could be.
    fn reserving(&self) -> Option<Statement> {
        let Reserved { budget, day, amount } = &self.reserve;
        // How much may be used before it, so that nothing overflows; the first of a day is not held against it there.
        let before = self.limit.checked_sub(*amount)?;
        let text = "INSERT INTO budgets (subject, day, used) VALUES ($1, $2, $3) \
                    ON CONFLICT (subject, day) DO UPDATE SET used = budgets.used + excluded.used \
                    WHERE budgets.used <= $4 RETURNING used";
        let statement = Statement::new(text).text(budget.clone()).number(i64::from(*day));
        Some(statement.number(signed(*amount)).number(signed(before)))
    }
}

/// What is asked before an act's outcome is written; [`Change::conclude`] gets what that finds. An act has one outcome: who
/// comes second finds nothing.
pub(crate) fn asks_before_outcome(id: CommitId) -> Vec<Statement> {
    let id = id.to_string();
    let whose = "SELECT l.agent, l.team, l.session FROM commits c JOIN ledger l ON l.seq = c.seq \
                 WHERE c.id = $1 AND c.outcome IS NULL";
    vec![
        Statement::new(whose).text(id.clone()),
        Statement::new("UPDATE commits SET outcome = seq WHERE id = $1 AND outcome IS NULL").text(id.clone()),
        Statement::new("DELETE FROM reservations WHERE commit_id = $1 RETURNING subject, day, amount")
            .text(id),
    ]
}

impl Change<'_> {
    /// Uses the right, reserves the budget and appends the entry.
    pub(crate) async fn commit_to(
        &mut self,
        commit: &Commit,
        found: &mut Answers,
    ) -> Result<u64, CommitError> {
        crash::point("begun");
        self.permit(commit, found).await?;
        let event = Event::Committed {
            commit: commit.id,
            act: commit.act.clone(),
            by_right: commit.by_right,
            reasons: commit.reasons.clone(),
            labels: commit.labels.clone(),
            idempotent: commit.idempotent,
            reserved: commit.spend.iter().map(|spend| spend.reserve.clone()).collect(),
        };
        let entry = self.record(&commit.about, &event, Some(&commit.arguments))?;
        crash::point("recorded");
        let list = Statement::new("INSERT INTO commits (id, seq) VALUES ($1, $2)");
        self.later(list.text(commit.id.to_string()).number(signed(entry)));
        for event in &commit.also {
            self.record(&commit.about, event, None)?;
        }
        crash::point("listed");
        Ok(entry)
    }

    /// Appends what came of an act, and settles its budget.
    pub(crate) fn conclude(
        &mut self,
        id: CommitId,
        outcome: &Outcome,
        spent: &[Reserved],
        answer: Option<&Private>,
        found: &mut Answers,
    ) -> Result<u64, StoreError> {
        crash::point("outcome-begun");
        let whose = found.next().unwrap_or_default();
        let row = whose
            .first()
            .ok_or_else(|| StoreError::Unknown { what: "act without an outcome", name: id.to_string() })?;
        let about = crate::ledger::about(row)?;
        found.next();
        self.settle(&found.next().unwrap_or_default().rows, spent)?;
        let event = Event::Ended { commit: id, outcome: outcome.clone(), spent: spent.to_vec() };
        let entry = self.record(&about, &event, answer)?;
        let list = Statement::new("UPDATE commits SET outcome = $1 WHERE id = $2");
        self.later(list.number(signed(entry)).text(id.to_string()));
        crash::point("outcome-recorded");
        Ok(entry)
    }

    /// Uses the right and reserves the budget, or says why not; what it did then has to be undone.
    async fn permit(&mut self, commit: &Commit, found: &mut Answers) -> Result<(), CommitError> {
        match commit.by_right {
            ByRight::Policy => {}
            ByRight::Approval(id) => {
                let stored = self.approval(id).await?;
                self.check_bound(commit, &stored.binding, stored.agent.as_str(), &stored.ceiling)?;
                let life = stored.life.on(&ApprovalEvent::Used, &stored.quorum, self.now)?;
                self.keep_life(id, &life)?;
            }
            ByRight::Grant(_) => self.check_grant(commit, &found.next().unwrap_or_default())?,
        }
        crash::point("right-used");
        for spend in &commit.spend {
            let reserved = spend.limit >= spend.reserve.amount
                && found.next().is_some_and(|answer| answer.first().is_some());
            if !reserved {
                return Err(self.over_budget(spend).await);
            }
            self.list_reservation(commit.id, &spend.reserve);
        }
        crash::point("budget-reserved");
        Ok(())
    }

    fn check_bound(
        &self,
        commit: &Commit,
        binding: &str,
        agent: &str,
        ceiling: &Labels,
    ) -> Result<(), CommitError> {
        let same_agent = commit.about.agent.as_ref().is_some_and(|name| name.as_str() == agent);
        if !same_agent || binding != self.store.keys.stored_binding(&commit.binding) {
            return Err(CommitError::Foreign);
        }
        if !commit.labels.within(ceiling) {
            return Err(CommitError::AboveCeiling { now: commit.labels.clone(), ceiling: ceiling.clone() });
        }
        Ok(())
    }

    /// What the grant is like now that it is used.
    fn check_grant(&self, commit: &Commit, found: &Answer) -> Result<(), CommitError> {
        let row = found.first().ok_or(CommitError::NoGrant)?;
        let ceiling = serde_json::from_str(row.text("ceiling")?).map_err(damaged("a grant"))?;
        self.check_bound(commit, row.text("binding")?, row.text("agent")?, &ceiling)?;
        if commit.about.session.map(|session| session.to_string()).as_deref() != Some(row.text("session")?) {
            return Err(CommitError::Foreign);
        }
        if natural(row, "until_ms")? <= self.now {
            return Err(CommitError::NoGrant);
        }
        let left = row.optional_number("uses_left")?;
        if left.is_none_or(|left| left >= 0) { Ok(()) } else { Err(CommitError::NoGrant) }
    }

    async fn over_budget(&mut self, spend: &Spend) -> CommitError {
        let Reserved { budget, day, amount } = &spend.reserve;
        let used = match self.find_one(used(budget, *day)).await {
            Ok(row) => row.map_or(Ok(0), |row| natural(&row, "used")),
            Err(error) => Err(error),
        };
        match used {
            Ok(used) => {
                let left = spend.limit.saturating_sub(used);
                CommitError::Budget { budget: budget.clone(), left, wanted: *amount }
            }
            Err(error) => error.into(),
        }
    }

    fn list_reservation(&mut self, id: CommitId, reserved: &Reserved) {
        let text = "INSERT INTO reservations (commit_id, subject, day, amount) VALUES ($1, $2, $3, $4)";
        let statement = Statement::new(text).text(id.to_string()).text(reserved.budget.clone());
        self.later(statement.number(i64::from(reserved.day)).number(signed(reserved.amount)));
    }

    /// Replaces what was reserved by what was spent.
    fn settle(&mut self, reserved: &[Row], spent: &[Reserved]) -> Result<(), StoreError> {
        for row in reserved {
            let (subject, day) = (row.text("subject")?, row.number("day")?);
            let is_it = |spent: &&Reserved| spent.budget == subject && i64::from(spent.day) == day;
            let Some(spent) = spent.iter().find(is_it) else { continue };
            let more = signed(spent.amount).saturating_sub(signed(natural(row, "amount")?));
            let text = "UPDATE budgets SET used = CASE WHEN used + $1 < 0 THEN 0 ELSE used + $1 END \
                        WHERE subject = $2 AND day = $3";
            self.later(Statement::new(text).number(more).text(subject.to_owned()).number(day));
        }
        Ok(())
    }
}
