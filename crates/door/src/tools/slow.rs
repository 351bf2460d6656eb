//! Answers that take their time: when nothing has come for a while, the response begins, and says from time to time
//! that it is still to come. Programs give up a response that does not begin within minutes, and a person who is asked
//! may take hours.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::Body;

/// What clients pass over.
const SIGN_OF_LIFE: &[u8] = b":\n\n";

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

enum State {
    /// The answer is still to come.
    Waiting(Answer),
    /// It comes as events.
    Events(Body),
    /// It came whole.
    Over,
}

/// The answer itself when it comes within the patience; else a stream of events that it becomes part of.
pub(super) async fn answer(mut answer: Answer, patience: Duration) -> Response<Body> {
    if let Ok(response) = tokio::time::timeout(patience, &mut answer).await {
        return response;
    }
    let events = stream::unfold(State::Waiting(answer), move |state| next(state, patience));
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

type Step = Option<(Result<Frame<Bytes>, Infallible>, State)>;

async fn next(state: State, patience: Duration) -> Step {
    match state {
        State::Waiting(mut answer) => match tokio::time::timeout(patience, &mut answer).await {
            Err(_elapsed) => {
                Some((Ok(Frame::data(Bytes::from_static(SIGN_OF_LIFE))), State::Waiting(answer)))
            }
            Ok(response) => begin(response).await,
        },
        State::Events(body) => pass(body).await,
        State::Over => None,
    }
}

/// A message that is no event becomes one.
async fn begin(response: Response<Body>) -> Step {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_events = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let body = response.into_body();
    if is_events {
        return pass(body).await;
    }
    let message = match body.collect().await {
        Ok(message) => message.to_bytes(),
        Err(never) => match never {},
    };
    let event = [b"data: ", message.as_ref(), b"\n\n"].concat();
    Some((Ok(Frame::data(Bytes::from(event))), State::Over))
}

async fn pass(mut body: Body) -> Step {
    let frame = body.frame().await?;
    Some((frame, State::Events(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn response(kind: &'static str, body: &'static str) -> Response<Body> {
        let mut response = Response::new(Full::from(body).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    }

    #[tokio::test]
    async fn an_answer_that_comes_soon_is_left_as_it_is() {
        let quick = Box::pin(async { response("application/json", "{}") });
        assert_eq!(text(answer(quick, Duration::from_secs(600)).await).await, "{}");
    }

    #[tokio::test]
    async fn an_answer_that_takes_its_time_shows_signs_of_life() {
        for (kind, body) in [("application/json", "{}"), ("text/event-stream", "data: {}\n\n")] {
            let (ready, wait) = tokio::sync::oneshot::channel::<()>();
            let slow = Box::pin(async move {
                wait.await.unwrap();
                response(kind, body)
            });
            let mut answer = answer(slow, Duration::from_millis(5)).await;
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
            let sign = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(sign, SIGN_OF_LIFE);
            ready.send(()).unwrap();
            assert!(text(answer).await.ends_with("data: {}\n\n"), "{kind}");
        }
    }
}
