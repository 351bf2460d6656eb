//! What a session's door asks for, model calls and tool calls: each is a stream, served in a task of its own.

use std::sync::Arc;

use domain::AgentFile;
use gateway::egress::{Authority, Leaves, Outside, SessionEgress};
use gateway::tools::ToolEvent;
use gateway::{ModelEvent, ModelService, ModelSession, Services};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::mux::Stream;

use super::tools::Tools;

/// What stands behind the door of every session.
pub(super) struct Behind {
    pub(super) models: Arc<ModelService>,
    /// Issues the certificates that cells trust.
    pub(super) authority: Arc<Authority>,
    /// How requests leave.
    pub(super) outside: Outside,
}

/// The calls of one session. Dropping it gives them up; [`Models::end`] also concludes them.
pub(super) struct Models {
    service: Arc<ModelService>,
    leaves: Arc<Leaves>,
    session: Arc<ModelSession>,
    tools: Tools,
    egress: Arc<SessionEgress>,
    events: mpsc::Receiver<ModelEvent>,
    calls: JoinSet<()>,
}

/// What a session makes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing to show.
    Nothing,
    /// Something for people.
    Note(String),
    /// The session's tokens do not suffice.
    Limit(String),
}

impl Models {
    /// For a session of this agent: its models, its tokens, its tools.
    pub(super) fn new(behind: &Behind, agent: &AgentFile, tools: Tools) -> Self {
        let (sender, events) = mpsc::channel(32);
        let gate = Arc::clone(&tools.gate);
        let egress = SessionEgress::new(Arc::clone(&gate), behind.outside.clone());
        let session = ModelSession::new(agent.models.clone(), agent.limits.tokens, gate, sender);
        let (service, session) = (Arc::clone(&behind.models), Arc::new(session));
        let leaves = Arc::new(Leaves::new(Arc::clone(&behind.authority)));
        Self { service, leaves, session, tools, egress: Arc::new(egress), events, calls: JoinSet::new() }
    }

    /// Serves a stream of the door. The mux bounds how many there are.
    pub(super) fn serve(&mut self, stream: Stream) {
        while self.calls.try_join_next().is_some() {}
        let (service, session) = (Arc::clone(&self.service), Arc::clone(&self.session));
        let (tools, leaves) = (Arc::clone(&self.tools.gate), Arc::clone(&self.leaves));
        let egress = Arc::clone(&self.egress);
        self.calls.spawn(async move {
            let services = Services {
                models: &service,
                session: &session,
                tools: tools.as_ref(),
                egress: egress.as_ref(),
                leaves: &leaves,
            };
            if let Err(error) = services.serve(stream).await {
                tracing::warn!(%error, "a door was not served");
            }
        });
    }

    /// Gives up what runs, and concludes what it left open.
    pub(super) async fn end(mut self) {
        self.calls.shutdown().await;
        if let Err(error) = self.tools.gate.end().await {
            tracing::error!(%error, "what a session left open can't be concluded");
        }
    }

    /// What happened next. Safe to cancel.
    pub(super) async fn told(&mut self) -> Told {
        let event = tokio::select! {
            event = self.events.recv() => event,
            Some(event) = self.tools.events.recv() => return Told::Note(tools_note(&event)),
        };
        match event {
            Some(ModelEvent::Started { call, model, dialect }) => {
                tracing::debug!(call, %model, ?dialect, "model call");
                Told::Nothing
            }
            Some(ModelEvent::Finished { call, status, counted, used, .. }) => {
                tracing::debug!(call, status, counted, used, "model call ended");
                Told::Nothing
            }
            Some(ModelEvent::Retrying { why, wait, .. }) => Told::Note(format!(
                "the model's provider: {why}; trying again in {} s",
                wait.as_secs().max(1)
            )),
            Some(ModelEvent::Refused(failure)) => {
                Told::Note(format!("a model call failed: {}", failure.message))
            }
            Some(ModelEvent::LimitReached { used, limit, needed }) => Told::Limit(format!(
                "tokens: {used} of {limit} are used, and the next call could take {needed}"
            )),
            Some(ModelEvent::DayLimitReached { what }) => Told::Limit(what),
            // Never: this side holds a sender too.
            None => std::future::pending().await,
        }
    }
}

fn tools_note(event: &ToolEvent) -> String {
    match event {
        ToolEvent::Waits { approval, what } => {
            format!("{what} waits for a person: lazaret approve {approval}")
        }
        ToolEvent::Refused { what, why } => format!("{what} was refused: {why}"),
    }
}
