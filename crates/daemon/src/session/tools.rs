//! A session's gate to its tools: its policy, from what a person applied and what its servers offer now.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::{Confidentiality, EndReason, Integrity, Labels};
use gateway::tools::{Session as GateSession, SessionGate, ToolEvent};
use policy::Seen;
use store::{Event, Keeper, Randomness as _};
use tokio::sync::{mpsc, watch};

use super::following::Followed;
use super::task::Owner;
use crate::applied;
use crate::keeping::System;

/// Events of tools that wait to be told.
const EVENTS: usize = 32;
/// A session's tools.
pub(super) struct Tools {
    pub(super) gate: Arc<SessionGate>,
    pub(super) events: mpsc::Receiver<ToolEvent>,
    /// Whether there are any.
    pub(super) any: bool,
}

impl Owner {
    /// The gate, which decides about models too.
    pub(super) async fn tools(&self) -> Result<Tools, EndReason> {
        let (sender, events) = mpsc::channel(EVENTS);
        let name = &self.agent.name;
        let servers = &self.sessions.tools;
        self.may_have_tools().await?;
        let known = applied::known(servers, &self.agent).await.map_err(refused)?;
        let models = self.sessions.config.known(&self.agent.models);
        let policy =
            applied::compile(&self.agent, &self.files.source, self.files.cedar.as_deref(), &known, &models)
                .map_err(refused)?;
        let followed = Followed {
            agent: self.agent.clone(),
            files: self.files.clone(),
            known,
            models,
            policy: policy.clone(),
            about: self.about(),
        };
        let (told, policy) = watch::channel(Arc::new(policy));
        let failed = |e: &dyn std::fmt::Display| EndReason::CellFailed { why: e.to_string() };
        let seen = self.seen().map_err(|e| failed(&e))?;
        let session = GateSession {
            about: self.about(),
            by: self.authors.clone(),
            disk: self.named.then(|| Keeper::Disk(name.clone())),
            tokens_per_day: self.agent.limits.tokens_per_day,
            usd_per_day: self.agent.limits.usd_per_day,
        };
        let gate = SessionGate::open(Arc::clone(servers), session, policy, seen, sender);
        let gate = gate.await.map_err(|e| failed(&e))?;
        if self.request.workspace || self.request.stdin {
            // A workspace may be the organisation's code, and anybody's words; so may what is piped in.
            let confidentiality = if self.request.workspace {
                Confidentiality::Confidential
            } else {
                Confidentiality::Internal
            };
            let labels = Labels { confidentiality, compartments: BTreeSet::new(), integrity: Integrity::Web };
            gate.met(&labels).await.map_err(|e| failed(&e))?;
        }
        let any = !self.agent.tools.is_empty();
        if !self.agent.is_given_nothing() {
            let sessions = Arc::clone(&self.sessions);
            self.sessions.tasks.sessions.spawn(async move {
                followed.follow(&sessions.agents, sessions.store(), &told).await;
            });
        }
        Ok(Tools { gate: Arc::new(gate), events, any })
    }

    /// An agent that was given tools or a way out has them only as it was applied.
    async fn may_have_tools(&self) -> Result<(), EndReason> {
        let name = &self.agent.name;
        if self.agent.is_given_nothing() {
            return Ok(());
        }
        if !self.named {
            return Err(EndReason::Refused {
                why: format!(
                    "{name} was given tools or a way out, and is run by its folder: nobody can have applied that"
                ),
                hint: format!("put the folder into Lazaret's `agents`, then: lazaret agent apply {name}"),
            });
        }
        if applied::applied(self.sessions.store(), name).await.map_err(refused)? == Some(self.files.digest) {
            return Ok(());
        }
        let found = self.sessions.agents.find(name).map_err(refused)?;
        let change = applied::change(&self.sessions, &found).await.map_err(refused)?;
        if !change.is_some_and(|change| applied::narrows(&change))
            || applied::digest(&found.text, found.cedar.as_deref()) != self.files.digest
        {
            return Err(EndReason::Refused {
                why: format!("what {name} may do was changed, and nobody has applied it"),
                hint: format!("an owner looks at it and applies it: lazaret agent apply {name}"),
            });
        }
        self.record(Event::AgentNarrowed { digest: self.files.digest }).await;
        Ok(())
    }

    /// What the person typed. Piped input and files are not the person's words.
    fn seen(&self) -> std::io::Result<Seen> {
        let mut salt = [0; 32];
        System.fill(&mut salt)?;
        let mut seen = Seen::new(salt);
        if let Some(prompt) = &self.request.prompt {
            seen.person(prompt);
        }
        let year = 1970 + crate::journal::now() / 31_556_952_000;
        seen.year(u16::try_from(year).unwrap_or(u16::MAX));
        Ok(seen)
    }
}

fn refused(problem: api::Problem) -> EndReason {
    EndReason::Refused {
        why: problem.message,
        hint: problem.hint.unwrap_or_else(|| "`lazaret logs` shows what came before".to_owned()),
    }
}
