//! A session's right to ask a model: decided anew each time, committed to before the provider hears of it, withdrawn when
//! the session's labels or its policy no longer allow it.

use std::sync::Arc;

use domain::{ModelName, SecretName, UsdMicros};
use policy::{Call, Decision, ModelCall, ModelFacts, Reason, decide};
use store::{About, Act, CommitError, Event, Outcome, Reserved, Spend, StoreError, Verdict};
use wire::model::{FailureKind, ModelFailure};

use crate::changes::Changes;
use crate::daily;
use crate::permit::{Committing, Permit};
use crate::prices::PRICES_OF;
use crate::tools::{Before, NEXT_DAY, SessionGate, ledger_full};
use crate::usage::Usage;

/// What the entries of a call take on the ledger: it is committed to, shows a secret, is counted, and ends.
const ENTRIES: u64 = 2 << 10;

/// Why a model may not be asked.
#[derive(Debug)]
pub(crate) enum NotPermitted {
    /// What the agent may use up in a day doesn't suffice.
    DayLimit(String),
    /// Policy says no, or the gateway failed.
    Refused(ModelFailure),
}

/// The most that a call can take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtWorst {
    pub(crate) tokens: u64,
    /// What it can cost; none: nobody knows.
    pub(crate) cost: Option<UsdMicros>,
}

/// What a call of a model came to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it came out.
    pub(crate) outcome: Outcome,
    /// Tokens counted for it.
    pub(crate) counted: u64,
    /// What it is counted to have cost, where the price is known.
    pub(crate) cost: Option<UsdMicros>,
    /// What the provider says that it used.
    pub(crate) usage: Option<Usage>,
}

impl SessionGate {
    /// Decides on a request that can take so much, and commits to it.
    pub(crate) async fn permit_model(
        &self,
        model: &ModelName,
        at_worst: AtWorst,
    ) -> Result<(Permit<ModelCall>, Before), NotPermitted> {
        let refused =
            |why: String| NotPermitted::Refused(ModelFailure { kind: FailureKind::NotGranted, message: why });
        let turn = self.turn(model).await;
        let (decision, before) = self.may_ask(model, None).await.map_err(internal)?;
        let allowed = match decision {
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
        let mut spend: Vec<Spend> = daily::one_call(&about, model, now).into_iter().collect();
        spend.extend(self.tokens(&about, at_worst.tokens, now));
        spend.extend(self.money(&about, model, at_worst.cost, now)?);
        spend.extend(self.kept(ENTRIES, now));
        if let Some(why) = self.known_to_lack(model, &spend, now).await.map_err(internal)? {
            return Err(NotPermitted::DayLimit(why));
        }
        let mut state = self.state.lock().await;
        let labels = state.labels.clone();
        let with =
            Committing { id, about, grant: None, labels, spend, idempotent: false, also: Vec::new(), now };
        let permit = Permit::commit(self.servers.store(), allowed, with).await;
        let permit = permit.map_err(|error| match error {
            CommitError::Budget { budget, left, wanted } => {
                self.refused.is(lacking(model));
                self.fills_ledger(&budget, now);
                NotPermitted::DayLimit(self.used_up(&budget, left, wanted))
            }
            CommitError::Store(error) => internal(error),
            other @ (CommitError::Right(_)
            | CommitError::Foreign
            | CommitError::NoGrant
            | CommitError::AboveCeiling { .. }) => refused(other.to_string()),
        })?;
        let asked = state.asked.entry(model.clone()).or_default();
        *asked = asked.saturating_add(1);
        drop(turn);
        Ok((permit, before))
    }

    /// Waits until a change of these after which the session may no longer ask the model, and says why. Safe to cancel: no
    /// change is forgotten.
    pub(crate) async fn model_withdrawn(&self, asked: (&ModelName, Before), changes: &mut Changes) -> String {
        loop {
            changes.next().await;
            if let Some(why) = self.model_decided_anew(asked, changes).await {
                return why;
            }
        }
    }

    /// Why the session may no longer ask the model, if something has changed since that was decided on.
    pub(crate) async fn model_overtaken(
        &self,
        asked: (&ModelName, Before),
        changes: &mut Changes,
    ) -> Option<String> {
        if changes.has_any() { self.model_decided_anew(asked, changes).await } else { None }
    }

    async fn model_decided_anew(
        &self,
        (model, before): (&ModelName, Before),
        changes: &mut Changes,
    ) -> Option<String> {
        // What rises while it is decided is decided on next.
        let rise = *self.rises.borrow();
        match self.may_ask(model, Some(before)).await {
            Ok((Decision::Allow(_), _)) => changes.decided(rise),
            Ok((Decision::Ask(question), _)) => return Some(told(question.reasons())),
            Ok((Decision::Deny(reasons), _)) => return Some(told(&reasons)),
            Err(error) => return Some(error.to_string()),
        }
        None
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
        let mut spent = Vec::new();
        if let Some(agent) = &about.agent {
            spent.extend(permit.used_of(&daily::tokens(agent), ended.counted));
            let cost = ended.cost.map(UsdMicros::as_u64);
            spent.extend(cost.and_then(|cost| permit.used_of(&daily::money(agent), cost)));
        }
        permit.ended(&ended.outcome, &spent, now).await
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

    /// What the call costs at worst is set aside, with or without a limit. Where there is one, what nobody knows the
    /// price of is refused.
    fn money(
        &self,
        about: &About,
        model: &ModelName,
        cost: Option<UsdMicros>,
        now: u64,
    ) -> Result<Option<Spend>, NotPermitted> {
        let Some(agent) = &about.agent else { return Ok(None) };
        let limit = self.session.usd_per_day.map(UsdMicros::as_u64);
        match (cost, limit) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                let message = format!(
                    "no price of {model} is known (list prices are of {PRICES_OF}), and what the agent may spend is limited: add [prices.\"{model}\"] to \
                     config.toml, or take `usd_per_day` out of agent.toml"
                );
                Err(NotPermitted::Refused(ModelFailure { kind: FailureKind::LimitReached, message }))
            }
            (Some(cost), limit) => {
                let reserve =
                    Reserved { budget: daily::money(agent), day: daily::day(now), amount: cost.as_u64() };
                Ok(Some(Spend { reserve, limit: limit.unwrap_or(i64::MAX.unsigned_abs()) }))
            }
        }
    }

    /// Which limit of the day doesn't suffice, where that is known or no news: a commit that is refused is on the ledger, and
    /// who asks in a loop fills it.
    async fn known_to_lack(
        &self,
        model: &ModelName,
        spend: &[Spend],
        now: u64,
    ) -> Result<Option<String>, StoreError> {
        if self.ledger_is_full(now) {
            return Ok(Some(no_room()));
        }
        if !self.refused.is_old(&lacking(model)) {
            return Ok(None);
        }
        for Spend { reserve: Reserved { budget, day, amount }, limit } in spend {
            let left = limit.saturating_sub(self.servers.store().used(budget, *day).await?);
            if *amount > left {
                return Ok(Some(self.used_up(budget, left, *amount)));
            }
        }
        Ok(None)
    }

    /// Which limit of the day doesn't suffice.
    fn used_up(&self, budget: &str, left: u64, wanted: u64) -> String {
        if daily::is_kept(budget) {
            return no_room();
        }
        let money = self.session.about.agent.as_ref().is_some_and(|agent| budget == daily::money(agent));
        match self.session.usd_per_day.filter(|_| money) {
            Some(limit) => {
                let (left, wanted) = (UsdMicros::micros(left), UsdMicros::micros(wanted));
                format!("money of the day: {left} of {limit} are left, and the next call could cost {wanted}")
            }
            None => format!(
                "tokens of the day: {left} of {} are left, and the next call could take {wanted}",
                self.session.tokens_per_day
            ),
        }
    }

    /// What is decided on a request now, and how often the model was asked before: as it is now, or as it is known to have been.
    async fn may_ask(
        &self,
        model: &ModelName,
        known: Option<Before>,
    ) -> Result<(Decision<ModelCall>, Before), StoreError> {
        let policy = Arc::clone(&self.policy.borrow());
        let today = self.calls_today(model).await?;
        let state = self.state.lock().await;
        let session = state.asked.get(model).copied().unwrap_or_default();
        let before = Before::of(known, session, today);
        let facts = ModelFacts { labels: state.labels.clone(), calls: before.counts() };
        Ok((decide(&policy, Call { action: ModelCall { model: model.clone() }, facts }), before))
    }

    /// The refusal's text, when it is on the ledger: the first ones of each model are.
    async fn model_denied(&self, model: &ModelName, reasons: &[Reason]) -> Result<String, StoreError> {
        if !self.refused.is(format!("denied model {model}")) {
            return Ok(told(reasons));
        }
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

/// The kind of a refusal for what the agent may use up in a day.
fn lacking(model: &ModelName) -> String {
    format!("used up {model}")
}

fn no_room() -> String {
    format!("{}: {NEXT_DAY}", ledger_full())
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
