//! What one session may use of models, and what happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::ModelName;
use tokio::sync::mpsc;
use wire::model::{Dialect, Grants, ModelFailure};

use crate::tools::SessionGate;
use crate::{Budget, Usage};

/// One session's right to use models. It ends with the session.
pub struct ModelSession {
    /// The agent's models. A request names one of them, whole or without its provider.
    pub models: Vec<ModelName>,
    /// What the agent may do beyond the lists of fields.
    pub grants: Grants,
    /// The session's tokens.
    pub budget: Arc<Budget>,
    /// Who decides about each call, and records it.
    pub gate: Arc<SessionGate>,
    /// Where events go. When nobody listens any more they are dropped.
    pub events: mpsc::Sender<ModelEvent>,
    calls: AtomicU64,
}

/// What happened in a session's model calls, for progress and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelEvent {
    /// A request was allowed and goes to the provider.
    Started {
        /// Counted from 1 in the session.
        call: u64,
        /// The model that answers.
        model: ModelName,
        /// How it was asked.
        dialect: Dialect,
    },
    /// The provider did not answer yet, and is asked again.
    Retrying {
        /// Which call.
        call: u64,
        /// What it answered, or why it did not.
        why: String,
        /// How long until then.
        wait: Duration,
    },
    /// A call ended.
    Finished {
        /// Which call.
        call: u64,
        /// HTTP status of the provider, if it answered.
        status: Option<u16>,
        /// What the provider said it used; `None` when it did not say, or was cut off before.
        usage: Option<Usage>,
        /// Tokens counted for it: the usage, or the worst case.
        counted: u64,
        /// Tokens of the session used so far.
        used: u64,
    },
    /// A request was refused before it went anywhere, or failed.
    Refused(ModelFailure),
    /// A request was refused since the session's tokens do not suffice.
    LimitReached {
        /// Tokens of the session used so far.
        used: u64,
        /// Tokens that it may use.
        limit: u64,
        /// Tokens that the call could have taken.
        needed: u64,
    },
    /// A request was refused since the agent's tokens of the day do not suffice.
    DayLimitReached {
        /// What is left, and what it could take.
        what: String,
    },
}

impl ModelSession {
    /// A session with these models and tokens. Events go to `events`.
    #[must_use]
    pub fn new(
        models: Vec<ModelName>,
        tokens: u64,
        gate: Arc<SessionGate>,
        events: mpsc::Sender<ModelEvent>,
    ) -> Self {
        let (grants, budget) = (Grants::default(), Budget::new(tokens));
        Self { models, grants, budget, gate, events, calls: AtomicU64::new(0) }
    }

    /// The agent's model that a request names.
    pub(crate) fn model(&self, asked: &str) -> Option<&ModelName> {
        let whole = self.models.iter().find(|model| model.to_string() == asked);
        whole.or_else(|| self.models.iter().find(|model| model.model() == asked))
    }

    pub(crate) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) async fn tell(&self, event: ModelEvent) {
        // Nobody listens any more: then nobody misses it.
        drop(self.events.send(event).await);
    }
}
