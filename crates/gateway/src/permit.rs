//! Permits: the keys to the world. A decision and a commit make one; whatever acts takes it.

use domain::{CommitId, GrantId, Labels};
use policy::{Act, Allowed, Body, Connect, ModelCall, ToolCall};
use serde_json::json;
use store::{
    About, ByRight, Commit, CommitError, Event, Outcome, Private, Reserved, Spend, Store, StoreError,
};

/// The right to do one thing once. It owns exactly what was decided on, and only [`Permit::commit`] makes one, of what a
/// decision allowed:
///
/// ```
/// # use gateway::{Committing, Permit};
/// # use policy::{Allowed, ModelCall, ToolCall};
/// async fn tool(store: &store::Store, allowed: Allowed<ToolCall>, with: Committing) -> Option<Permit<ToolCall>> {
///     Permit::commit(store, allowed, with).await.ok()
/// }
/// async fn model(store: &store::Store, allowed: Allowed<ModelCall>, with: Committing) -> Option<Permit<ModelCall>> {
///     Permit::commit(store, allowed, with).await.ok()
/// }
/// ```
/// There is no way around it for a tool call, a model call, or a request that leaves:
///
/// ```compile_fail
/// # use gateway::Permit;
/// fn tool(action: policy::ToolCall, commit: domain::CommitId, store: store::Store) -> Permit<policy::ToolCall> {
///     Permit { action, commit, reserved: Vec::new(), store }
/// }
/// ```
/// ```compile_fail
/// # use gateway::{Committing, Permit};
/// async fn tool(store: &store::Store, call: policy::ToolCall, with: Committing) -> Option<Permit<policy::ToolCall>> {
///     Permit::commit(store, call, with).await.ok()
/// }
/// ```
/// ```compile_fail
/// # use gateway::{Committing, Permit};
/// async fn model(store: &store::Store, call: policy::ModelCall, with: Committing) -> Option<Permit<policy::ModelCall>> {
///     Permit::commit(store, call, with).await.ok()
/// }
/// ```
/// ```compile_fail
/// # use gateway::{Committing, Permit};
/// async fn leave(store: &store::Store, request: policy::Connect, with: Committing) -> Option<Permit<policy::Connect>> {
///     Permit::commit(store, request, with).await.ok()
/// }
/// ```
/// ```compile_fail
/// # use gateway::Permit;
/// fn leave(action: policy::Connect, commit: domain::CommitId, store: store::Store) -> Permit<policy::Connect> {
///     Permit { action, commit, reserved: Vec::new(), store }
/// }
/// ```
/// A decision is used up by its commit, and a permit by its end; what is permitted can't be changed in between:
///
/// ```compile_fail
/// # use gateway::{Committing, Permit};
/// # use policy::{Allowed, ToolCall};
/// async fn twice(store: &store::Store, allowed: Allowed<ToolCall>, one: Committing, other: Committing) {
///     drop(Permit::commit(store, allowed, one).await);
///     drop(Permit::commit(store, allowed, other).await);
/// }
/// ```
/// ```compile_fail
/// # use gateway::Permit;
/// async fn twice(permit: Permit<policy::ToolCall>, outcome: &store::Outcome) {
///     drop(permit.ended(outcome, &[], 0).await);
///     drop(permit.ended(outcome, &[], 0).await);
/// }
/// ```
/// ```compile_fail
/// # use gateway::Permit;
/// fn alter(permit: &mut Permit<policy::ToolCall>, other: policy::ToolCall) {
///     *permit.action() = other;
/// }
/// ```
#[derive(Debug)]
#[must_use = "what is permitted is on the ledger as if it were done"]
pub struct Permit<A> {
    action: A,
    commit: CommitId,
    /// What was set aside for it.
    reserved: Vec<Reserved>,
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

impl Committed for Connect {
    fn act(&self) -> store::Act {
        store::Act::Connect(format!("{} {}", self.target.method, self.target.site()))
    }

    /// The request as JSON: its URL, its headers, and the body where people saw it.
    fn arguments(&self) -> String {
        let mut request = json!({ "method": self.target.method, "url": self.target.url() });
        if let Some(fields) = request.as_object_mut() {
            if !self.headers.is_empty() {
                fields.insert("headers".to_owned(), json!(self.headers));
            }
            if let Some(push) = &self.push {
                fields.insert("push".to_owned(), json!(push.changes));
            }
            match &self.body {
                Body::None => {}
                Body::Whole(bytes) if self.push.is_some() => {
                    drop(fields.insert("pack_bytes".to_owned(), json!(bytes.len())));
                }
                Body::Upto(bytes) => drop(fields.insert("body_up_to".to_owned(), json!(bytes))),
                Body::Whole(bytes) => {
                    drop(fields.insert("body".to_owned(), json!(String::from_utf8_lossy(bytes))));
                }
            }
        }
        request.to_string()
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
    /// What is recorded right after it: the secrets that go with it.
    pub also: Vec<Event>,
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
        let reserved = with.spend.iter().map(|spend| spend.reserve.clone()).collect();
        let commit = Commit {
            id: with.id,
            about: with.about,
            act: allowed.action().act(),
            binding: allowed.binding(),
            by_right,
            reasons: allowed.reasons().iter().map(ToString::to_string).collect(),
            labels: with.labels,
            spend: with.spend,
            idempotent: with.idempotent,
            arguments: Private::new(allowed.action().arguments()),
            also: with.also,
        };
        let id = store.commit(&commit, with.now).await?;
        Ok(Self { action: allowed.into_action(), commit: id, reserved, store: store.clone() })
    }

    /// What may be done.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// The commit that made it.
    pub(crate) fn id(&self) -> CommitId {
        self.commit
    }

    /// What was set aside of a budget, with this amount of it used.
    pub(crate) fn used_of(&self, budget: &str, amount: u64) -> Option<Reserved> {
        let reserved = self.reserved.iter().find(|reserved| reserved.budget == budget)?;
        Some(Reserved { amount, ..reserved.clone() })
    }

    /// Writes what came of it, and ends the permit. It has its place on the ledger when this returns; what it returns
    /// waits until it is written.
    ///
    /// # Errors
    /// The ledger can't be written: the act is then found without an outcome.
    pub fn ended(
        self,
        outcome: &Outcome,
        spent: &[Reserved],
        now: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<A> {
        self.store.outcome(self.commit, outcome, spent, None, now)
    }

    /// The same where nobody waits for it: it is written with what comes next, or soon.
    ///
    /// # Errors
    /// As [`Permit::ended`].
    pub fn ended_soon(
        self,
        outcome: &Outcome,
        spent: &[Reserved],
        now: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<A> {
        self.store.outcome_soon(self.commit, outcome, spent, now)
    }
}
