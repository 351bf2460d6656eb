//! The API's routes, as the table in the crate `api` lists them.

mod attach;
mod caller;
mod host;
mod labels;
mod lines;
mod people;
mod secrets;
mod tools;

use std::sync::Arc;

use api::{
    AgentView, MAX_JSON, MAX_WORKSPACE, NewSession, Problem, ProblemKind, SessionView, Status, StopRequest,
};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use domain::{AgentName, Role, SessionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::applied;
use crate::session::Sessions;
use caller::Caller;

pub(crate) use caller::Peer;

/// What every handler shares.
pub(crate) type Shared = State<Arc<Sessions>>;

/// The routes, each under the least role that may use it.
pub(crate) fn router(sessions: &Arc<Sessions>) -> Router {
    let least = |role| middleware::from_fn_with_state(caller::Gate::new(sessions, role), caller::check);
    let workspaces = usize::try_from(MAX_WORKSPACE).unwrap_or(usize::MAX);
    let v1 = viewers().route_layer(least(Role::Viewer)).merge(
        approvers()
            .layer(DefaultBodyLimit::max(MAX_JSON))
            .route("/sessions/{id}/workspace", get(get_workspace).put(put_workspace))
            .layer(DefaultBodyLimit::max(workspaces))
            .route_layer(least(Role::Approver)),
    );
    let v1 = v1.merge(owners().route_layer(least(Role::Owner)));
    Router::new()
        .nest(&format!("/{}", api::VERSION), v1)
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .fallback(unknown)
        .with_state(Arc::clone(sessions))
}

/// What only shows.
fn viewers() -> Router<Arc<Sessions>> {
    Router::new()
        .route("/status", get(status))
        .route("/whoami", get(people::whoami))
        .route("/agents", get(agents))
        .route("/agents/{name}", get(agent))
        .route("/sessions", get(list))
        .route("/sessions/{id}", get(show))
        .route("/sessions/{id}/events", get(events))
        .route("/images", get(host::images))
        .route("/approvals", get(people::approvals))
        .route("/approvals/watch", get(people::watch))
        .route("/approvals/{id}", get(people::approval))
        .route("/ledger/entries", post(people::entries))
        .route("/ledger/verify", post(people::verify))
        .route("/people", get(people::people))
        .route("/labels", get(labels::labels))
        .route("/groups", get(people::groups))
        .route("/servers", get(tools::servers))
        .route("/cells", get(tools::cells))
}

/// What uses agents, and answers them.
fn approvers() -> Router<Arc<Sessions>> {
    Router::new()
        .route("/sessions", post(start))
        .route("/sessions/{id}/stop", post(stop))
        .route("/sessions/{id}/attach", get(attach::attach))
        .route("/sessions/{id}/exec", get(attach::exec))
        .route("/approvals/{id}/answer", post(people::answer))
        // They may start a cell, or connect with a secret.
        .route("/servers/{name}", get(tools::server))
        .route("/agents/{name}/tools", get(tools::agent_tools))
        .route("/servers/{name}/table", get(tools::table))
}

/// What changes the installation.
fn owners() -> Router<Arc<Sessions>> {
    Router::new()
        .route("/shutdown", post(shut_down))
        .route("/doctor", post(host::doctor))
        .route("/images", post(host::add_image).delete(host::remove_image))
        .route("/labels/lower", post(labels::lower))
        .route("/ledger/erase", post(people::erase))
        .route("/people/{name}", put(people::put_person).delete(people::remove_person))
        .route("/servers/{name}", put(tools::put_server).delete(tools::remove_server))
        .route("/servers/{name}/table", put(tools::put_table))
        .route("/agents/{name}/apply", post(tools::apply))
        .route("/secrets", get(secrets::secrets))
        .route("/secrets/{name}", put(secrets::set).delete(secrets::remove))
        .route("/secrets/{name}/rotate", post(secrets::rotate))
        .route("/secrets/{name}/login", post(secrets::login))
        .route("/secrets/{name}/login/paste", post(secrets::paste))
        .route("/groups/{group}/{name}", put(people::join_group).delete(people::leave_group))
}

/// A problem as a response.
pub(crate) struct Failed(pub(crate) Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

type Answer<T> = Result<T, Failed>;

/// Reads a JSON body; a mistake in it is told with its place.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body)
        .map_err(|e| Failed(Problem::new(ProblemKind::Invalid, format!("the request can't be read: {e}"))))
}

/// Reads an id from a path.
pub(crate) fn id(text: &str) -> Answer<SessionId> {
    text.parse::<SessionId>().map_err(|e| Failed(Problem::new(ProblemKind::Invalid, e.to_string())))
}

/// Does what must not be left half done by whoever asked for it and went away; the daemon's end waits for it. That it failed
/// is logged where nobody hears it any more.
async fn to_its_end<T, F>(sessions: Arc<Sessions>, work: impl FnOnce(Arc<Sessions>) -> F) -> Answer<T>
where
    T: Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let work = work(Arc::clone(&sessions));
    let begun = sessions.begun(async move {
        if let Err(Err(Failed(problem))) = tell.send(work.await) {
            tracing::error!(%problem, "what was asked for failed, and whoever asked had gone");
        }
    });
    if !begun {
        return Err(Failed(Problem::new(ProblemKind::Busy, "the daemon is ending: nothing was changed")));
    }
    told.await.map_err(|_| internal("it broke off half-way: the daemon's log says more"))?
}

async fn unknown() -> Failed {
    Failed(Problem::new(ProblemKind::NotFound, "there is no such path in this version of the API"))
}

async fn status(State(sessions): Shared) -> Json<Status> {
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        sessions: sessions.count(),
    })
}

async fn shut_down(State(sessions): Shared) -> Json<()> {
    sessions.end.cancel();
    Json(())
}

async fn agents(State(sessions): Shared) -> Json<Vec<AgentView>> {
    Json(sessions.agents.list())
}

async fn agent(State(sessions): Shared, Path(name): Path<String>) -> Answer<Response> {
    let name: AgentName = name.parse().map_err(|e: domain::NameError| {
        Failed(Problem::new(ProblemKind::Invalid, format!("`{name}` names no agent: {e}")))
    })?;
    let found = sessions.agents.find(&name)?;
    sessions.servers.known.classify(&sessions.tools);
    bounded(&name, &applied::details(&sessions, found).await?)
}

/// An answer that is as long as an agent's files and tools make it: one that no client takes is refused with why.
fn bounded(agent: &AgentName, answer: &impl Serialize) -> Answer<Response> {
    let text = serde_json::to_vec(answer).map_err(internal)?;
    if text.len() > MAX_JSON {
        let why = format!(
            "what the files of {agent} and the tools that they name say takes {} bytes to show, {MAX_JSON} are the most",
            text.len()
        );
        let hint =
            "put fewer and longer lines into its policy.cedar and instructions, or name fewer tool servers";
        return Err(Failed(Problem::new(ProblemKind::Invalid, why).hint(hint)));
    }
    Ok(([("content-type", "application/json")], text).into_response())
}

async fn list(State(sessions): Shared) -> Json<Vec<SessionView>> {
    Json(sessions.views())
}

async fn start(State(sessions): Shared, Caller(person): Caller, body: Bytes) -> Answer<Json<SessionView>> {
    let request: NewSession = json(&body)?;
    Ok(Json(sessions.start(request, Some(person.name)).await?))
}

async fn show(State(sessions): Shared, Path(session): Path<String>) -> Answer<Json<SessionView>> {
    Ok(Json(sessions.view(id(&session)?)?))
}

/// Answers once the session has ended.
async fn stop(State(sessions): Shared, Path(session): Path<String>, body: Bytes) -> Answer<Json<()>> {
    let StopRequest { now } = json(&body)?;
    let session = sessions.running(id(&session)?)?;
    session.stop(now);
    session.ended().await;
    Ok(Json(()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(sessions): Shared,
    Path(session): Path<String>,
    Query(Follow { follow }): Query<Follow>,
) -> Answer<Response> {
    let lines = sessions.journals(id(&session)?)?.read().await.map_err(internal)?;
    let stream = futures::stream::try_unfold(lines, move |mut lines| async move {
        let line = lines.next(follow).await?;
        Ok::<_, std::io::Error>(line.map(|line| (Bytes::from(line), lines)))
    });
    Ok(lines::response(Body::from_stream(stream)))
}

async fn put_workspace(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(session): Path<String>,
    body: Bytes,
) -> Answer<Json<()>> {
    let session = sessions.running(id(&session)?)?;
    let none = || Failed(Problem::new(ProblemKind::Conflict, "the session doesn't wait for a workspace"));
    // Whoever comes when none is waited for tells it nothing.
    let taker = session.workspace().ok_or_else(none)?;
    if let Err(error) = sessions.steered(&session, &by.name).await {
        session.waits(taker);
        return Err(internal(error));
    }
    taker.send(body.into()).map(Json).map_err(|_| none())
}

async fn get_workspace(State(sessions): Shared, Path(session): Path<String>) -> Answer<Response> {
    let session = id(&session)?;
    sessions.view(session)?;
    match tokio::fs::read(sessions.shelf.workspace(session)).await {
        Ok(archive) => Ok(([("content-type", "application/x-tar")], archive).into_response()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = "the session has left no workspace: it had none, or its harness has not ended";
            Err(Failed(Problem::new(ProblemKind::Conflict, message)))
        }
        Err(error) => Err(internal(error)),
    }
}

fn internal(error: impl std::fmt::Display) -> Failed {
    Failed(Problem::new(ProblemKind::Internal, error.to_string()))
}

#[cfg(test)]
mod tests;
