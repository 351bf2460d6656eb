//! A session's right to ask a model: decided anew each time, committed to before the provider hears of it, withdrawn when
//! the session's labels or its policy no longer allow it.

use std::sync::Arc;

use domain::{ModelName, SecretName};
use policy::{Call, Counts, Decision, ModelCall, ModelFacts, Reason, decide};
use store::{About, Act, CommitError, Event, Outcome, Reserved, Spend, StoreError, Verdict};
use wire::model::{FailureKind, ModelFailure};

use crate::daily;
use crate::permit::{Committing, Permit};
use crate::tools::SessionGate;
use crate::usage::Usage;

/// Why a model may not be asked.
#[derive(Debug)]
pub(crate) enum NotPermitted {
    /// The agent's tokens of the day do not suffice.
    DayLimit(String),
    /// Policy says no, or the gateway failed.
    Refused(ModelFailure),
}

/// What a call of a model came to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it came out.
    pub(crate) outcome: Outcome,
    /// Tokens counted for it.
    pub(crate) counted: u64,
    /// What the provider says that it used.
    pub(crate) usage: Option<Usage>,
}

impl SessionGate {
    /// Decides on a request that can take so many tokens, and commits to it.
    pub(crate) async fn permit_model(
        &self,
        model: &ModelName,
        tokens: u64,
    ) -> Result<Permit<ModelCall>, NotPermitted> {
        let refused =
            |why: String| NotPermitted::Refused(ModelFailure { kind: FailureKind::NotGranted, message: why });
        let allowed = match self.may_ask(model).await.map_err(internal)? {
            Decision::Allow(allowed) => allowed,
            Decision::Ask(question) => {
                let why = self.model_denied(model, question.reasons()).await.map_err(internal)?;
                return Err(refused(format!("a model can't wait for a person: {why}")));
            }
            Decision::Deny(reasons) => {
                return Err(refused(self.model_denied(model, &reasons).await.map_err(internal)?));
            }
        };
        let (now, id) = self.servers.commit_id().map_err(internal)?;
        let about = self.session.about.clone();
        let mut state = self.state.lock().await;
        let mut spend: Vec<Spend> = daily::one_call(&about, model, now).into_iter().collect();
        spend.extend(self.tokens(&about, tokens, now));
        let labels = state.labels.clone();
        let with = Committing { id, about, grant: None, labels, spend, idempotent: false, now };
        let permit = Permit::commit(self.servers.store(), allowed, with).await;
        let permit = permit.map_err(|error| match error {
            CommitError::Budget { left, wanted, .. } => NotPermitted::DayLimit(format!(
                "tokens of the day: {left} of {} are left, and the next call could take {wanted}",
                self.session.tokens_per_day
            )),
            CommitError::Store(error) => internal(error),
            other @ (CommitError::Right(_)
            | CommitError::Foreign
            | CommitError::NoGrant
            | CommitError::AboveCeiling { .. }) => refused(other.to_string()),
        })?;
        let asked = state.asked.entry(model.clone()).or_default();
        *asked = asked.saturating_add(1);
        Ok(permit)
    }

    /// Waits until the session may no longer ask the model, and says why. Safe to cancel.
    pub(crate) async fn withdrawn(&self, model: &ModelName) -> String {
        let (mut rises, mut policies) = (self.rises.subscribe(), self.policy.clone());
        loop {
            let changed = tokio::select! {
                changed = rises.changed() => changed,
                changed = policies.changed() => changed,
            };
            if changed.is_err() {
                // Nothing can change any more.
                std::future::pending::<()>().await;
            }
            match self.may_ask(model).await {
                Ok(Decision::Allow(_)) => {}
                Ok(Decision::Ask(question)) => return told(question.reasons()),
                Ok(Decision::Deny(reasons)) => return told(&reasons),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Writes what came of a call, gives back the tokens that it didn't use, and ends the permit.
    ///
    /// # Errors
    /// The ledger can't be written: the call is then found without an outcome.
    pub(crate) async fn model_ended(
        &self,
        permit: Permit<ModelCall>,
        ended: &Ended,
    ) -> Result<(), StoreError> {
        let (about, now) = (&self.session.about, self.servers.now());
        if let Some(usage) = &ended.usage {
            let event = Event::ModelCalled {
                model: permit.action().model.clone(),
                tokens_in: usage.prompt(),
                tokens_out: usage.output,
                ok: ended.outcome == Outcome::Done,
            };
            self.servers.store().record(about, &event, None, now).await?;
        }
        let tokens = about.agent.as_ref().map(daily::tokens);
        let spent = tokens.and_then(|budget| permit.used_of(&budget, ended.counted));
        permit.ended(&ended.outcome, spent.as_slice(), now).await
    }

    /// Puts on the ledger that the host added a secret to the session's request.
    pub(crate) async fn secret_used(&self, secret: &SecretName, to: &str) -> Result<(), StoreError> {
        let event = Event::SecretUsed { secret: secret.clone(), to: to.to_owned() };
        self.servers.store().record(&self.session.about, &event, None, self.servers.now()).await?;
        Ok(())
    }

    fn tokens(&self, about: &About, amount: u64, now: u64) -> Option<Spend> {
        let budget = daily::tokens(about.agent.as_ref()?);
        let reserve = Reserved { budget, day: daily::day(now), amount };
        Some(Spend { reserve, limit: self.session.tokens_per_day })
    }

    async fn may_ask(&self, model: &ModelName) -> Result<Decision<ModelCall>, StoreError> {
        let policy = Arc::clone(&self.policy.borrow());
        let today = self.calls_today(model).await?;
        let state = self.state.lock().await;
        let session = state.asked.get(model).copied().unwrap_or_default();
        let facts = ModelFacts { labels: state.labels.clone(), calls: Counts { session, today } };
        Ok(decide(&policy, Call { action: ModelCall { model: model.clone() }, facts }))
    }

    /// The refusal's text, when it is on the ledger.
    async fn model_denied(&self, model: &ModelName, reasons: &[Reason]) -> Result<String, StoreError> {
        let event = Event::Decided {
            act: Act::Model(model.clone()),
            verdict: Verdict::Deny,
            reasons: reasons.iter().map(ToString::to_string).collect(),
            labels: self.state.lock().await.labels.clone(),
        };
        let now = self.servers.now();
        self.servers.store().record(&self.session.about, &event, None, now).await?;
        Ok(told(reasons))
    }
}

fn told(reasons: &[Reason]) -> String {
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

fn internal(error: impl std::fmt::Display) -> NotPermitted {
    tracing::error!(%error, "a model call failed in the gateway");
    let message = format!("the gateway failed: {error}");
    NotPermitted::Refused(ModelFailure { kind: FailureKind::Upstream, message })
}
