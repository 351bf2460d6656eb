//! Routes about tool servers, and about what agents may do with their tools.

use api::{
    ApplyRequest, Problem, ProblemKind, RunningServer, ServerDetails, ServerPut, ServerTool, ServerView,
};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use domain::{AgentName, ServerName, TeamName, ToolName, ToolRef};
use gateway::tools::{Catalogue, Listing};
use policy::Row;
use serde::Deserialize;
use store::{About, Event};

use super::caller::Caller;
use super::{Answer, Failed, Shared, bounded, internal, json, to_its_end};
use crate::applied;
use crate::journal::now;

pub(super) async fn servers(State(sessions): Shared) -> Json<Vec<ServerView>> {
    Json(sessions.servers.known.list())
}

/// Whose connection to a server is meant.
#[derive(Deserialize)]
pub(super) struct ForTeam {
    team: TeamName,
}

pub(super) async fn server(
    State(sessions): Shared,
    Path(name): Path<ServerName>,
    Query(ForTeam { team }): Query<ForTeam>,
) -> Answer<Json<ServerDetails>> {
    let server = sessions.servers.known.one(&name).ok_or_else(|| nowhere(&name))?;
    sessions.servers.known.classify(&sessions.tools);
    // A connection that was made before may still have its tools, which nobody can call then.
    let lacks = sessions.servers.lacks(&server);
    let (catalogue, trouble) = match sessions.tools.catalogue(&team, &name).await {
        Ok(catalogue) => (catalogue, lacks),
        Err(failure) => {
            let none = Catalogue { tools: Vec::new(), withheld: Vec::new() };
            (none, Some(lacks.unwrap_or(failure.message)))
        }
    };
    let tool = |tool: Listing| {
        let Listing { name, description, effects, classified, schema_bytes, suggested, arguments } = tool;
        ServerTool { name, effects, classified, description, schema_bytes, suggested, arguments }
    };
    Ok(Json(ServerDetails {
        server,
        log: sessions.servers.cells.last_words(&team, &name),
        team,
        tools: catalogue.tools.into_iter().map(tool).collect(),
        withheld: catalogue.withheld.into_iter().map(|withheld| (withheld.name, withheld.why)).collect(),
        trouble,
    }))
}

pub(super) async fn cells(State(sessions): Shared) -> Json<Vec<RunningServer>> {
    Json(sessions.servers.cells.running())
}

fn nowhere(name: &ServerName) -> Failed {
    let problem = Problem::new(ProblemKind::NotFound, format!("there is no tool server {name}"));
    Failed(problem.hint("`lazaret server ls` lists them"))
}

pub(super) async fn put_server(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<ServerName>,
    body: Bytes,
) -> Answer<Json<ServerPut>> {
    let view: ServerView = json(&body)?;
    if view.name != name {
        let message = format!("the path names {name}, the request {}", view.name);
        return Err(Failed(Problem::new(ProblemKind::Invalid, message)));
    }
    to_its_end(sessions, |sessions| async move {
        let put = sessions.servers.known.put(view)?;
        let event = Event::ServerAdded { server: name.clone(), by: by.name };
        changed(&sessions, &name, &event).await?;
        Ok(Json(put))
    })
    .await
}

pub(super) async fn remove_server(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<ServerName>,
) -> Answer<Json<()>> {
    to_its_end(sessions, |sessions| async move {
        if !sessions.servers.known.remove(&name)? {
            return Err(nowhere(&name));
        }
        let event = Event::ServerRemoved { server: name.clone(), by: by.name };
        changed(&sessions, &name, &event).await?;
        Ok(Json(()))
    })
    .await
}

/// What is said of a server's tools, as TOML.
pub(super) async fn table(State(sessions): Shared, Path(name): Path<ServerName>) -> Answer<Json<String>> {
    sessions.servers.known.one(&name).ok_or_else(|| nowhere(&name))?;
    let table = sessions.servers.known.table_of(&name)?;
    Ok(Json(toml::to_string(&table).map_err(internal)?))
}

/// A person says what a server's tools do.
pub(super) async fn put_table(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<ServerName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let text: String = json(&body)?;
    sessions.servers.known.one(&name).ok_or_else(|| nowhere(&name))?;
    to_its_end(sessions, |sessions| async move {
        let (before, now_said) = sessions.servers.known.put_table(&name, &text)?;
        // A connection is good for other effects, too; what is pinned isn't.
        sessions.servers.known.classify(&sessions.tools);
        let new = now_said.tools.iter().filter(|(tool, row)| before.tools.get(*tool) != Some(*row));
        let event = |(tool, row): (&ToolName, &Row)| {
            let tool = ToolRef { server: name.clone(), tool: tool.clone() };
            (About::default(), Event::ToolClassified { tool, effects: row.effects, by: by.name.clone() })
        };
        let said: Vec<_> = new.map(event).collect();
        if !said.is_empty() {
            sessions.store().record_all(&said, now()).await.map_err(internal)?;
        }
        Ok(Json(()))
    })
    .await
}

async fn changed(sessions: &crate::session::Sessions, name: &ServerName, event: &Event) -> Answer<()> {
    sessions.tools.forget(name);
    sessions.servers.cells.close_ways(name);
    sessions.servers.known.classify(&sessions.tools);
    sessions.store().record(&About::default(), event, None, now()).await.map_err(internal)?;
    Ok(())
}

pub(super) async fn agent_tools(State(sessions): Shared, Path(agent): Path<AgentName>) -> Answer<Response> {
    let found = sessions.agents.find(&agent)?;
    sessions.servers.known.classify(&sessions.tools);
    bounded(&agent, &applied::view(&sessions, &found).await?)
}

pub(super) async fn apply(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(agent): Path<AgentName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let request: ApplyRequest = json(&body)?;
    let found = sessions.agents.find(&agent)?;
    to_its_end(sessions, |sessions| async move {
        applied::apply(&sessions, &found, &request, &by.name).await?;
        Ok(Json(()))
    })
    .await
}
