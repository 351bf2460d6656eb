//! Routes about tool servers, and about what agents may do with their tools.

use api::{AgentTools, ApplyRequest, Problem, ProblemKind, ServerView};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use domain::{AgentName, ServerName};
use store::{About, Event};

use super::caller::Caller;
use super::{Answer, Failed, Shared, internal, json};
use crate::applied;
use crate::journal::now;

pub(super) async fn servers(State(sessions): Shared) -> Json<Vec<ServerView>> {
    Json(sessions.servers.list())
}

pub(super) async fn put_server(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<ServerName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let view: ServerView = json(&body)?;
    if view.name != name {
        let message = format!("the path names {name}, the request {}", view.name);
        return Err(Failed(Problem::new(ProblemKind::Invalid, message)));
    }
    sessions.servers.put(view)?;
    let event = Event::ServerAdded { server: name.clone(), by: by.name };
    changed(&sessions, &name, &event).await
}

pub(super) async fn remove_server(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<ServerName>,
) -> Answer<Json<()>> {
    if !sessions.servers.remove(&name)? {
        let problem = Problem::new(ProblemKind::NotFound, format!("there is no tool server {name}"));
        return Err(Failed(problem.hint("`lazaret server ls` lists them")));
    }
    let event = Event::ServerRemoved { server: name.clone(), by: by.name };
    changed(&sessions, &name, &event).await
}

async fn changed(sessions: &crate::session::Sessions, name: &ServerName, event: &Event) -> Answer<Json<()>> {
    sessions.tools.forget(name).await;
    sessions.servers.classify(&sessions.tools);
    sessions.store().record(&About::default(), event, None, now()).await.map_err(internal)?;
    Ok(Json(()))
}

pub(super) async fn agent_tools(
    State(sessions): Shared,
    Path(agent): Path<AgentName>,
) -> Answer<Json<AgentTools>> {
    let found = sessions.agents.find(&agent)?;
    sessions.servers.classify(&sessions.tools);
    Ok(Json(applied::view(&sessions.tools, &found).await?))
}

pub(super) async fn apply(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(agent): Path<AgentName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let request: ApplyRequest = json(&body)?;
    let found = sessions.agents.find(&agent)?;
    applied::apply(&sessions.tools, &found, &request, &by.name).await?;
    Ok(Json(()))
}
