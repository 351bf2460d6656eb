//! Who calls: the person that the kernel's word about the connection makes of it, and what their role allows.

use std::sync::Arc;

use api::{Problem, ProblemKind};
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use domain::{PersonName, Role};
use futures::{Stream, StreamExt as _};
use store::Person;

use super::{Failed, internal};
use crate::listener::People;
use crate::session::Sessions;

/// The user at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) u32);

impl Connected<IncomingStream<'_, People>> for Peer {
    fn connect_info(stream: IncomingStream<'_, People>) -> Self {
        Self(stream.io().uid())
    }
}

/// The person who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Person);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Failed(Problem::new(ProblemKind::Refused, "nobody is known on this connection")))
    }
}

/// Told to who may no longer do what they do.
pub(super) const LOST: &str = "your role here has changed";

/// The right of who calls, which may end while what they asked for goes on.
#[derive(Clone)]
pub(crate) struct Standing {
    gate: Gate,
    uid: u32,
    person: PersonName,
}

impl Standing {
    /// Waits until whoever called is somebody else or nobody here, or has a lesser role than the route asks for. What can't be
    /// found out is taken for that.
    pub(super) async fn lost(self) {
        let sessions = &self.gate.sessions;
        let mut changes = sessions.people();
        loop {
            let now = sessions.store().person_of_uid(self.uid).await;
            let stands = |now: Person| now.name == self.person && now.role >= self.gate.least;
            if !now.ok().flatten().is_some_and(stands) {
                return;
            }
            if changes.changed().await.is_err() {
                // Nobody changes any more: the daemon ends.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Standing {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        let standing = parts.extensions.get::<Self>().cloned();
        standing
            .ok_or_else(|| Failed(Problem::new(ProblemKind::Refused, "nobody is known on this connection")))
    }
}

/// What a route asks of who calls it.
#[derive(Clone)]
pub(super) struct Gate {
    sessions: Arc<Sessions>,
    least: Role,
}

impl Gate {
    pub(super) fn new(sessions: &Arc<Sessions>, least: Role) -> Self {
        Self { sessions: Arc::clone(sessions), least }
    }
}

/// Lets through whoever has the role, as the store knows them now.
pub(super) async fn check(
    State(gate): State<Gate>,
    ConnectInfo(Peer(uid)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let person = match gate.sessions.store().person_of_uid(uid).await {
        Ok(Some(person)) => person,
        Ok(None) => {
            return refused(
                format!("the OS user {uid} is nobody here"),
                "an owner adds people: `lazaret person add`",
            );
        }
        Err(error) => return internal(error).into_response(),
    };
    if person.role < gate.least {
        let message = format!("{} is {}, and this needs {}", person.name, person.role, gate.least);
        return refused(
            message,
            "an owner can do it, or change your role: `lazaret person add NAME --role ROLE`",
        );
    }
    let standing = Standing { gate, uid, person: person.name.clone() };
    request.extensions_mut().insert(Caller(person));
    request.extensions_mut().insert(standing.clone());
    next.run(request).await.map(|body| {
        // What is whole already is theirs.
        if body.size_hint().exact().is_some() {
            return body;
        }
        Body::from_stream(while_it_stands(body, standing))
    })
}

/// What is told as long as whoever asked may hear it; then it breaks off, so that nobody takes it for whole.
fn while_it_stands(body: Body, standing: Standing) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    let start = Some((body.into_data_stream(), Box::pin(standing.lost())));
    futures::stream::unfold(start, |state| async move {
        let (mut body, mut lost) = state?;
        tokio::select! {
            biased;
            () = &mut lost => Some((Err(axum::Error::new(std::io::Error::other(LOST))), None)),
            next = body.next() => next.map(|piece| (piece, Some((body, lost)))),
        }
    })
}

fn refused(message: String, hint: &str) -> Response {
    Failed(Problem::new(ProblemKind::Refused, message).hint(hint)).into_response()
}
