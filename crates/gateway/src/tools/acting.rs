//! Making a call: once, by its permit, and for as long as policy would have allowed it. What it was asked with went out whole,
//! so nothing that the session learns since can be in it; a policy that is narrower ends it.

use std::sync::Arc;
use std::time::Duration;

use policy::{AgentPolicy, Call, Decision, ToolFacts, decide};
use tokio::sync::watch;
use wire::tools::{ToolFailure, ToolFailureKind, ToolResult};

use super::CallContext;
use super::gate::{Looked, SessionGate, internal, refused};
use super::servers::Returned;
use super::turns::Before;
use crate::permit::Permit;

/// How long a tool may take.
const CALL_WITHIN: Duration = Duration::from_secs(600);

/// By what a call was decided on.
pub(super) struct Basis {
    pub(super) facts: ToolFacts,
    pub(super) before: Before,
    /// Tells when its policy has changed since.
    pub(super) policies: watch::Receiver<Arc<AgentPolicy>>,
}

/// A call that is committed to and not ended.
pub(super) struct Open {
    pub(super) permit: Permit<policy::ToolCall>,
    pub(super) basis: Basis,
    /// Whether people said yes to it.
    pub(super) granted: bool,
}

impl SessionGate {
    /// Step 7 and 8: act once, write the outcome, and raise the labels before a byte of the answer goes out.
    pub(super) async fn act(
        &self,
        looked: &Looked,
        open: Open,
        context: &CallContext,
    ) -> Result<ToolResult, ToolFailure> {
        let Open { permit, mut basis, granted } = open;
        // A tool's progress is its server's text, too: it waits for nobody, so its labels join before it is asked for.
        self.meet(looked).await?;
        let changed = basis.policies.has_changed().unwrap_or(false);
        let why = if changed { self.taken_back(&mut basis, permit.action(), granted).await } else { None };
        let (returned, cut) = match why {
            Some(why) => (Returned::NotDone(why.clone()), Some(why)),
            None => {
                let stop = context.cancelled.child_token();
                let own = CallContext { cancelled: stop.clone(), ..context.clone() };
                let mut called = std::pin::pin!(self.called(&permit, &own));
                tokio::select! {
                    returned = &mut called => (returned, None),
                    why = self.until_taken_back(&mut basis, permit.action(), granted) => {
                        stop.cancel();
                        (called.await, Some(why))
                    }
                }
            }
        };
        let outcome = match (&returned, &cut) {
            (Returned::Unknown(_), Some(why)) => Returned::Unknown(told_cut(why)).outcome(),
            (_, _) => returned.outcome(),
        };
        permit.ended(&outcome, &[], self.servers.now()).await.map_err(internal)?;
        match (returned, cut) {
            (Returned::NotDone(_), Some(why)) => Err(why),
            // What came of it is on the ledger, and nothing for the agent any more.
            (_, Some(why)) => Returned::Unknown(told_cut(&why)).into_result(),
            (returned, None) => returned.into_result(),
        }
    }

    async fn called(&self, permit: &Permit<policy::ToolCall>, context: &CallContext) -> Returned {
        let policy = Arc::clone(&self.policy.borrow());
        let called = self.servers.call(policy.team(), self.session.about.agent.as_ref(), permit, context);
        tokio::time::timeout(CALL_WITHIN, called).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", CALL_WITHIN.as_secs());
            Returned::Unknown(ToolFailure::new(ToolFailureKind::Upstream, why))
        })
    }

    /// Waits until a policy comes by which the call would not have been made, and says why.
    async fn until_taken_back(
        &self,
        basis: &mut Basis,
        action: &policy::ToolCall,
        granted: bool,
    ) -> ToolFailure {
        loop {
            if basis.policies.changed().await.is_err() {
                // Nothing can change any more.
                std::future::pending::<()>().await;
            }
            if let Some(why) = self.taken_back(basis, action, granted).await {
                return why;
            }
        }
    }

    /// Why the call would not have been made by the policy of now. What people approved is ended by a no alone.
    async fn taken_back(
        &self,
        Basis { facts, before, policies }: &mut Basis,
        action: &policy::ToolCall,
        granted: bool,
    ) -> Option<ToolFailure> {
        let policy = Arc::clone(&policies.borrow_and_update());
        let today = match self.calls_today(&action.tool).await {
            Ok(today) => today,
            Err(error) => return Some(internal(error)),
        };
        let calls = Before::of(Some(*before), 0, today).counts();
        let facts = ToolFacts { calls, ..facts.clone() };
        match decide(&policy, Call { action: action.clone(), facts }) {
            Decision::Allow(_) => None,
            Decision::Ask(_) if granted => None,
            Decision::Ask(question) => Some(refused(question.reasons())),
            Decision::Deny(reasons) => Some(refused(&reasons)),
        }
    }
}

fn told_cut(why: &ToolFailure) -> ToolFailure {
    ToolFailure { message: format!("cut: {}", why.message), ..why.clone() }
}
