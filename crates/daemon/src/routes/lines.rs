//! Long answers: one JSON value a line, as they come.

use std::sync::Arc;

use api::{Problem, Step};
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::session::Tell;

/// Progress that waits to be sent; more is left out.
const WAITING: usize = 32;

/// An answer of lines.
pub(super) fn response(body: Body) -> Response {
    ([("content-type", "application/x-ndjson")], body).into_response()
}

/// Does some work, and sends its progress and its end. The work stops when nobody waits for it any more.
pub(super) fn steps<T, W>(work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce(Tell) -> BoxFuture<'static, Result<T, Problem>>,
{
    let (sender, told) = mpsc::channel::<String>(WAITING);
    let tell: Tell = Arc::new(move |message| {
        // Full: the person sees the next one.
        drop(sender.try_send(message));
    });
    let stream = futures::stream::unfold(Some((work(tell), told)), |state| async {
        let (mut work, mut told) = state?;
        tokio::select! {
            biased;
            Some(message) = told.recv() => Some((line(&Step::<T>::Progress(message)), Some((work, told)))),
            done = &mut work => {
                let step = match done {
                    Ok(done) => Step::Done(done),
                    Err(problem) => Step::Failed(problem),
                };
                Some((line(&step), None))
            }
        }
    });
    response(Body::from_stream(stream))
}

/// One line.
pub(super) fn line<T: Serialize>(value: &T) -> Result<Bytes, std::io::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line.into())
}
