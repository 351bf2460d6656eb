//! HTTP of the scripted model: routes, key, faults, and the body as whole JSON or as events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use wire::model::Dialect;

use super::answer::Answer;
use super::{Conversation, Fault, Recorded, Reply, ScriptedModel, next_reply};

/// Most bytes of a request.
const MAX_BODY: usize = 64 << 20;

/// The pause before a connection is broken on purpose.
const BEFORE_CUT: Duration = Duration::from_millis(100);

/// Serves the model until the listener fails or the future is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: tokio::net::TcpListener, model: Arc<ScriptedModel>) -> io::Result<()> {
    axum::serve(listener, Router::new().fallback(handle).with_state(model)).await
}

async fn handle(State(model): State<Arc<ScriptedModel>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    };
    model.record(Recorded {
        line: format!("{} {path}", head.method),
        headers: text_headers(&head.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    if !has_key(&head.headers, &model.key) {
        return error(StatusCode::UNAUTHORIZED, "this key is not known here");
    }
    if path == "/v1/models" {
        return models(&model);
    }
    match Dialect::of_path(&path) {
        Some(dialect) => answer(&model, dialect, &body),
        None => error(StatusCode::NOT_FOUND, "there is nothing at this path"),
    }
}

fn text_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let bearer = format!("Bearer {key}");
    headers.get("x-api-key").is_some_and(|found| found == key)
        || headers.get(header::AUTHORIZATION).is_some_and(|found| *found == *bearer)
}

/// An error that every dialect's clients can read.
fn error(status: StatusCode, message: &str) -> Response {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::NOT_FOUND => "not_found_error",
        _other => "api_error",
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    (status, Json(body)).into_response()
}

fn models(model: &ScriptedModel) -> Response {
    let entry = |name: &String| json!({"id": name, "object": "model", "type": "model", "display_name": name});
    let names =
        model.scripts.iter().map(|script| &script.name).chain(model.aliases.iter().map(|(name, _)| name));
    let data: Vec<_> = names.map(entry).collect();
    Json(json!({"object": "list", "data": data, "has_more": false})).into_response()
}

fn answer(model: &ScriptedModel, dialect: Dialect, body: &Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return error(StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    let conversation = Conversation::read(dialect, &request);
    let Some(script) = model.script_of(&conversation.model) else {
        return error(StatusCode::NOT_FOUND, &format!("there is no script `{}`", conversation.model));
    };
    let fault = model.next_fault();
    match fault {
        Some(Fault::Status { status, retry_after }) => return failing(status, retry_after),
        Some(Fault::Redirect) => return redirect(),
        Some(Fault::CutAfter(_) | Fault::Slow(_) | Fault::Huge(_) | Fault::NoUsage) | None => {}
    }
    let mut reply = next_reply(script, &conversation);
    if let (Some(Fault::Huge(bytes)), Reply::Text(text)) = (fault, &mut reply) {
        let piece = format!("{} ", "x".repeat(16 * 1024 - 1));
        text.insert_str(0, &piece.repeat(bytes.div_ceil(piece.len())));
    }
    let answer = Answer {
        number: model.next_number(),
        model: conversation.model,
        reply,
        input_tokens: (body.len() as u64).div_ceil(4),
    };
    if conversation.streams && dialect != Dialect::AnthropicCountTokens {
        let events = answer.events(dialect).into_iter().map(|event| without_usage(event, fault)).collect();
        return streamed(events, fault, "text/event-stream");
    }
    let whole = without_usage(answer.whole(dialect).to_string(), fault);
    streamed(vec![whole], fault, "application/json")
}

fn without_usage(text: String, fault: Option<Fault>) -> String {
    if fault == Some(Fault::NoUsage) { text.replace("\"usage\":", "\"unsaid\":") } else { text }
}

fn failing(status: u16, retry_after: Option<u32>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = error(status, "as the test asked for");
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn redirect() -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://127.0.0.1:9/v1/messages")]).into_response()
}

fn streamed(events: Vec<String>, fault: Option<Fault>, content_type: &'static str) -> Response {
    let cut = match fault {
        Some(Fault::CutAfter(events)) => Some(events),
        Some(_) | None => None,
    };
    let pause = match fault {
        Some(Fault::Slow(pause)) => Some(pause),
        Some(_) | None => None,
    };
    let kept = cut.unwrap_or(events.len());
    let parts =
        events.into_iter().take(kept).map(Ok).chain(cut.map(|_| Err(io::Error::other("cut, as asked"))));
    let parts = stream::iter(parts).then(move |part| async move {
        // What came before a cut is to arrive: a body that fails at once takes it along.
        if let Some(pause) = pause.or(part.is_err().then_some(BEFORE_CUT)) {
            tokio::time::sleep(pause).await;
        }
        part
    });
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(parts)).into_response()
}
