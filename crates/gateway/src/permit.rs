//! Permits: the keys to the world. A decision and a commit make one; whatever acts takes it.

use domain::{CommitId, GrantId, Labels};
use policy::{Act, Allowed, ModelCall, ToolCall};
use store::{About, ByRight, Commit, CommitError, Outcome, Private, Reserved, Spend, Store, StoreError};

/// The right to do one thing once. It owns exactly what was decided on, and only [`Permit::commit`] makes one.
#[derive(Debug)]
#[must_use = "what is permitted is on the ledger as if it were done"]
pub struct Permit<A> {
    action: A,
    commit: CommitId,
    store: Store,
}

/// What can be committed to, as the ledger tells it.
pub trait Committed: Act {
    /// What is done.
    fn act(&self) -> store::Act;
    /// The exact bytes to act with, where they are kept.
    fn arguments(&self) -> String;
}

impl Committed for ToolCall {
    fn act(&self) -> store::Act {
        store::Act::Tool(self.tool.clone())
    }

    fn arguments(&self) -> String {
        self.arguments.text().to_owned()
    }
}

impl Committed for ModelCall {
    fn act(&self) -> store::Act {
        store::Act::Model(self.model.clone())
    }

    fn arguments(&self) -> String {
        String::new()
    }
}

/// What a commit needs to know besides what is allowed.
#[derive(Debug)]
pub struct Committing {
    /// The commit's id.
    pub id: CommitId,
    /// Whose act it is.
    pub about: About,
    /// The grant that is used, where it isn't the approval's own right: a call of a plan.
    pub grant: Option<GrantId>,
    /// The session's labels now.
    pub labels: Labels,
    /// What it may use up at most.
    pub spend: Vec<Spend>,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Now, in milliseconds since 1970.
    pub now: u64,
}

impl<A: Committed> Permit<A> {
    /// Uses up the right, reserves the budget and writes the entry: all or nothing. With that the act may be done, once.
    ///
    /// # Errors
    /// The act may not be done.
    pub async fn commit(store: &Store, allowed: Allowed<A>, with: Committing) -> Result<Self, CommitError> {
        let by_right = match (allowed.grant(), with.grant) {
            (None, _) => ByRight::Policy,
            (Some(_), Some(grant)) => ByRight::Grant(grant),
            (Some(approval), None) => ByRight::Approval(approval),
        };
        let commit = Commit {
            id: with.id,
            about: with.about,
            act: allowed.action().act(),
            binding: allowed.binding(),
            by_right,
            reasons: Vec::new(),
            labels: with.labels,
            spend: with.spend,
            idempotent: with.idempotent,
            arguments: Private::new(allowed.action().arguments()),
        };
        let id = store.commit(&commit, with.now).await?;
        Ok(Self { action: allowed.into_action(), commit: id, store: store.clone() })
    }

    /// What may be done.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// Writes what came of it, and ends the permit.
    ///
    /// # Errors
    /// The ledger can't be written: the act is then found without an outcome.
    pub async fn ended(self, outcome: &Outcome, spent: &[Reserved], now: u64) -> Result<(), StoreError> {
        self.store.outcome(self.commit, outcome, spent, None, now).await
    }
}
