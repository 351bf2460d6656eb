//! A session's gate to its tools: its policy, from what a person applied and what its servers offer now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::{AgentFile, Confidentiality, EndReason, Integrity, Labels};
use gateway::tools::{Session as GateSession, SessionGate, ToolEvent};
use policy::{AgentPolicy, Seen, Verdict};
use store::{About, Event, Keeper, Randomness as _};
use tokio::sync::{mpsc, watch};

use super::Sessions;
use super::task::Owner;
use crate::agents::Found;
use crate::applied::{self, Files};
use crate::keeping::System;
use crate::narrowing::{Version, compare};

/// Events of tools that wait to be told.
const EVENTS: usize = 32;
/// How often a running session looks whether its agent's files were narrowed: what is taken back counts within a second.
const LOOK: Duration = Duration::from_millis(500);

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
        let (told, policy) = watch::channel(Arc::new(policy));
        let failed = |e: &dyn std::fmt::Display| EndReason::CellFailed { why: e.to_string() };
        let seen = self.seen().map_err(|e| failed(&e))?;
        let session = GateSession {
            about: self.about(),
            by: self.by.clone(),
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
        self.sessions.tasks.spawn(follow(
            Arc::clone(&self.sessions),
            self.agent.clone(),
            self.files.clone(),
            self.about(),
            told,
        ));
        Ok(Tools { gate: Arc::new(gate), events, any })
    }

    /// An agent that was given tools or a way out has them only as it was applied.
    async fn may_have_tools(&self) -> Result<(), EndReason> {
        let name = &self.agent.name;
        if is_given_nothing(&self.agent) {
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
        let narrows =
            change.is_some_and(|change| matches!(change.verdict, Verdict::Same | Verdict::Narrower));
        if !narrows || applied::digest(&found.text, found.cedar.as_deref()) != self.files.digest {
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

/// Holds the policy that a session's gate reads, for as long as it does. Files that narrow it count at once.
async fn follow(
    sessions: Arc<Sessions>,
    mut agent: AgentFile,
    mut files: Files,
    about: About,
    told: watch::Sender<Arc<AgentPolicy>>,
) {
    let mut looked_at = files.digest;
    loop {
        tokio::select! {
            () = told.closed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        // Files that can't be read now, or were removed, change nothing: the session goes on as it was applied.
        let Ok(found) = sessions.agents.find(&agent.name) else { continue };
        let digest = applied::digest(&found.text, found.cedar.as_deref());
        if is_given_nothing(&agent) || digest == looked_at {
            continue;
        }
        match narrower(&sessions, &agent, &files, &found).await {
            Ok(Some(policy)) => {
                told.send_replace(Arc::new(policy));
                let event = Event::AgentNarrowed { digest };
                if let Err(error) = sessions.store().record(&about, &event, None, crate::journal::now()).await
                {
                    tracing::error!(%error, "that an agent was narrowed can't be recorded");
                }
                agent = found.file;
                files = Files { digest, cedar: found.cedar, source: found.source };
            }
            Ok(None) => {}
            // A server may not answer now: look again.
            Err(_) => continue,
        }
        looked_at = digest;
    }
}

/// The policy of the files as they are now, if it is narrower than that of the files as they were.
async fn narrower(
    sessions: &Sessions,
    agent: &AgentFile,
    files: &Files,
    found: &Found,
) -> Result<Option<AgentPolicy>, api::Problem> {
    let known = applied::known(&sessions.tools, &found.file).await?;
    let models = sessions.config.known(&found.file.models);
    let old = Version { file: agent, source: &files.source, cedar: files.cedar.as_deref() };
    let new = Version { file: &found.file, source: &found.source, cedar: found.cedar.as_deref() };
    let change = compare(old, new, &known, &models)?;
    if !matches!(change.verdict, Verdict::Same | Verdict::Narrower) {
        return Ok(None);
    }
    applied::compile(&found.file, &found.source, found.cedar.as_deref(), &known, &models).map(Some)
}

/// Whether there is nothing that a person must have applied.
fn is_given_nothing(agent: &AgentFile) -> bool {
    agent.tools.is_empty() && agent.egress.is_none()
}

fn refused(problem: api::Problem) -> EndReason {
    EndReason::Refused {
        why: problem.message,
        hint: problem.hint.unwrap_or_else(|| "`lazaret logs` shows what came before".to_owned()),
    }
}
