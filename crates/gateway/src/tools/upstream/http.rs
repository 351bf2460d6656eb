//! MCP over HTTP: one request per message, whose response is JSON or a stream of events. Bodies are bounded, redirects
//! are not followed, and the host's credential is added here and taken out of what comes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dial::Client;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Method, RequestBuilder, Response, Url};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage, ServerResult};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use vault::Scrubber;
use wire::tools::ToolFailure;

use crate::credential::{Asks, Credential, Shown};

use super::strict::{self, Faults, MESSAGE, failed};

/// Most bytes of one stream of events.
const MAX_STREAM: usize = 64 << 20;
/// Most bytes that are read of a response that is an error.
const MAX_ERROR: usize = 64 << 10;
/// The header that names a session.
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Most bytes of a session's name.
const MAX_SESSION: usize = 256;

/// Sends the messages of one connection.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) client: Client,
    /// Where all messages go.
    pub(super) url: Url,
    pub(super) credential: Credential,
    /// How long the server may be silent.
    pub(super) patience: Duration,
    pub(super) faults: Faults,
}

/// Why a message got no response; the connection's first fault tells the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(String);

type Failed = StreamableHttpError<Unanswered>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// A response, and what its request showed: it must not come back, and where it is withdrawn, all ends.
struct Answered {
    response: Response,
    shown: Shown,
}

impl Post {
    /// Notes the fault that ends the connection.
    fn fault(&self, fault: ToolFailure) -> Failed {
        let why = fault.message.clone();
        self.faults.note(fault);
        StreamableHttpError::Client(Unanswered(why))
    }

    /// A request to the server, which is asked at its one address.
    fn request(&self, method: Method) -> Result<RequestBuilder, Failed> {
        self.client
            .request(method, self.url.clone())
            .map_err(|refused| self.fault(failed(crate::upstream::told(&refused))))
    }

    async fn send(
        &self,
        method: Method,
        body: String,
        session: Option<Arc<str>>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Answered, Failed> {
        let mut all: HeaderMap = headers.into_iter().collect();
        if let Some(session) = session.and_then(|session| HeaderValue::from_str(&session).ok()) {
            all.insert(SESSION, session);
        }
        all.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if !body.is_empty() {
            all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let mut answered = self.once(&method, body.clone(), all.clone()).await?;
        let refused = answered.response.status() == StatusCode::UNAUTHORIZED;
        if refused && self.credential.refused(answered.shown.lent.as_ref()).await {
            // Its token had ended early: there is another, and the message was not looked at.
            answered = self.once(&method, body, all).await?;
        }
        let status = answered.response.status();
        if status.is_redirection() {
            let why = "it answered with a redirect, and none is ever followed";
            return Err(self.fault(failed(why).hint("a person can give the server's own address")));
        }
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let why = format!("it refused the host's credential (HTTP {})", status.as_u16());
            return Err(self.fault(failed(why).hint("a person can check the server's credential")));
        }
        Ok(answered)
    }

    /// Sends a message as it is, with what the server wants to see.
    async fn once(&self, method: &Method, body: String, mut headers: HeaderMap) -> Result<Answered, Failed> {
        let asks = Asks { url: &self.url, method: method.as_str(), team: None, api: None };
        let shown = self.credential.put_into(&mut headers, asks).await;
        let shown = shown.map_err(|why| self.fault(failed(format_args!("it can't be asked: {why}"))))?;
        let sent = self.request(method.clone())?.headers(headers).body(body).send();
        let sent = tokio::select! {
            sent = tokio::time::timeout(self.patience, sent) => sent,
            why = self.credential.withdrawn(shown.lent.as_ref()) => return Err(self.fault(failed(why))),
        };
        match sent {
            Ok(Ok(response)) => Ok(Answered { response, shown }),
            Ok(Err(error)) => Err(self.fault(failed(crate::upstream::told(&error)))),
            Err(_elapsed) => Err(self.fault(self.silent())),
        }
    }

    fn silent(&self) -> ToolFailure {
        failed(format_args!("it was silent for {} s", self.patience.as_secs_f32()))
    }

    /// A body of at most so many bytes. Of a longer one there is the beginning, or a fault.
    async fn body(&self, answered: Answered, max: usize, whole: bool) -> Result<String, Failed> {
        let Answered { response, shown } = answered;
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        loop {
            let piece = tokio::select! {
                piece = tokio::time::timeout(self.patience, pieces.next()) => piece,
                why = self.credential.withdrawn(shown.lent.as_ref()) => return Err(self.fault(failed(why))),
            };
            match piece.map_err(|_elapsed| self.fault(self.silent()))? {
                None => break,
                Some(Err(error)) => return Err(self.fault(failed(crate::upstream::told(&error)))),
                Some(Ok(piece)) if bytes.len() + piece.len() > max => {
                    if whole {
                        return Err(self.fault(strict::too_large()));
                    }
                    break;
                }
                Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            }
        }
        match String::from_utf8(shown.scrubber.whole(&bytes)) {
            Ok(text) => Ok(text),
            Err(error) if !whole => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            Err(_) => Err(self.fault(failed("it sent a body that is not UTF-8"))),
        }
    }

    /// A response that is no success: perhaps a JSON-RPC error, else a fault.
    async fn refused(
        &self,
        answered: Answered,
        message: &ClientJsonRpcMessage,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let status = answered.response.status();
        let text = self.body(answered, MAX_ERROR, false).await?;
        let said = strict::read(&text).ok().map(|read| read.message);
        let error = match (&said, message) {
            (Some(ServerJsonRpcMessage::Error(said)), _) => Some(said.error.clone()),
            // An older server does not know the question with which a newer one is found out.
            (Some(_) | None, ClientJsonRpcMessage::Request(request))
                if matches!(request.request, ClientRequest::DiscoverRequest(_))
                    && status.is_client_error() =>
            {
                Some(ErrorData::invalid_request(format!("HTTP {}", status.as_u16()), None))
            }
            (Some(_) | None, _) => None,
        };
        match (error, message) {
            (Some(error), ClientJsonRpcMessage::Request(request)) => {
                let answer = ServerJsonRpcMessage::error(error, Some(request.id.clone()));
                Ok(StreamableHttpPostResponse::Json(answer, None))
            }
            (Some(_) | None, _) => {
                Err(self.fault(failed(format_args!("it answered HTTP {}", status.as_u16()))))
            }
        }
    }

    /// The messages of a stream of events, up to the answer to the request with this id.
    fn events(self, answered: Answered, asked: Option<String>) -> Events {
        let Answered { response, shown: Shown { lent, scrubber } } = answered;
        let held = Arc::new((self.credential, lent));
        let (faults, large) = (self.faults.clone(), self.faults.clone());
        let patience = self.patience;
        let mut left = MAX_STREAM;
        let mut event = MESSAGE.bytes;
        let pieces = response.bytes_stream().map(move |piece| {
            let piece = piece.map_err(|error| Unanswered(crate::upstream::told(&error)))?;
            // An event ends with an empty line; to take any line's end for it only loosens the bound up to the stream's.
            event = if piece.contains(&b'\n') { MESSAGE.bytes } else { event.saturating_sub(piece.len()) };
            left = left.saturating_sub(piece.len());
            if left == 0 || event == 0 {
                large.note(strict::too_large());
                return Err(Unanswered(strict::too_large().message));
            }
            Ok(piece)
        });
        let events = Box::pin(SseStream::from_bytes_stream(scrubbed(pieces, scrubber)));
        let state = (events, asked, false);
        stream::unfold(state, move |(mut events, asked, answered)| {
            let (faults, held) = (faults.clone(), Arc::clone(&held));
            async move {
                if answered {
                    // What comes after the answer is not looked at.
                    return None;
                }
                // A stream that belongs to no request may be silent for ever.
                let patience = if asked.is_some() { patience } else { Duration::MAX };
                let (credential, lent) = held.as_ref();
                let next = tokio::select! {
                    next = tokio::time::timeout(patience, events.next()) => checked(next, asked.as_deref()),
                    why = credential.withdrawn(lent.as_ref()) => Err(failed(why)),
                };
                match next {
                    Ok(Some((event, answered))) => Some((Ok(event), (events, asked, answered))),
                    Ok(None) => None,
                    Err(fault) => {
                        let error = SseError::Body(fault.message.clone().into());
                        faults.note(fault);
                        Some((Err(error), (events, asked, true)))
                    }
                }
            }
        })
        .boxed()
    }
}

/// The pieces without what must not come back.
fn scrubbed(
    pieces: impl Stream<Item = Result<Bytes, Unanswered>> + Send + 'static,
    scrubber: Scrubber,
) -> BoxStream<'static, Result<Bytes, Unanswered>> {
    let state = (pieces.boxed(), Some(scrubber));
    stream::unfold(state, |(mut pieces, scrubber)| async {
        let mut scrubber = scrubber?;
        match pieces.next().await {
            Some(Ok(piece)) => Some((Ok(scrubber.push(&piece).into()), (pieces, Some(scrubber)))),
            Some(Err(error)) => Some((Err(error), (pieces, None))),
            None => Some((Ok(scrubber.finish().into()), (pieces, None))),
        }
    })
    .boxed()
}

/// One event: whether it is the answer that was asked for, or a fault.
fn checked(
    next: Result<Option<Result<Sse, SseError>>, tokio::time::error::Elapsed>,
    asked: Option<&str>,
) -> Result<Option<(Sse, bool)>, ToolFailure> {
    let event = match next {
        Err(_elapsed) => return Err(failed("it was silent for too long")),
        Ok(None) if asked.is_some() => return Err(failed("it broke off before it answered")),
        // A stream that belongs to no request may end as it likes.
        Ok(None) => return Ok(None),
        Ok(Some(Err(_))) if asked.is_none() => return Ok(None),
        Ok(Some(Err(error))) => return Err(failed(error)),
        Ok(Some(Ok(event))) => event,
    };
    let Some(data) = event.data.as_deref().filter(|data| !data.is_empty()) else {
        return Ok(Some((event, false)));
    };
    let answers = strict::read(data)?.answers;
    match (answers, asked) {
        (Some(id), Some(asked)) if id == asked => Ok(Some((event, true))),
        (Some(_), _) => Err(failed("it answered what it was not asked")),
        (None, _) => Ok(Some((event, false))),
    }
}

/// A server that answers the question with which a newer one is found out as it answers anything, with nothing, is an
/// older one.
fn discovered(asked: &ClientJsonRpcMessage, answer: ServerJsonRpcMessage) -> ServerJsonRpcMessage {
    match (asked, &answer) {
        (ClientJsonRpcMessage::Request(request), ServerJsonRpcMessage::Response(response))
            if matches!(request.request, ClientRequest::DiscoverRequest(_))
                && matches!(response.result, ServerResult::EmptyResult(_)) =>
        {
            let error = ErrorData::invalid_request("it answered nothing", None);
            ServerJsonRpcMessage::error(error, Some(request.id.clone()))
        }
        _ => answer,
    }
}

/// The id of a request, as JSON.
fn id_of(message: &ClientJsonRpcMessage) -> Option<String> {
    match message {
        ClientJsonRpcMessage::Request(request) => serde_json::to_string(&request.id).ok(),
        ClientJsonRpcMessage::Response(_)
        | ClientJsonRpcMessage::Notification(_)
        | ClientJsonRpcMessage::Error(_) => None,
    }
}

fn is(response: &Response, kind: &str) -> bool {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case(kind)))
}

impl StreamableHttpClient for Post {
    type Error = Unanswered;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let has_session = session.is_some();
        let body = serde_json::to_string(&message)?;
        let answered = self.send(Method::POST, body, session, headers).await?;
        let response = &answered.response;
        let status = response.status();
        let asked = id_of(&message);
        if status == StatusCode::NOT_FOUND && has_session {
            self.faults.note(failed("it has forgotten the session"));
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return self.refused(answered, &message).await;
        }
        if asked.is_none() || status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let session = response.headers().get(SESSION).and_then(|name| name.to_str().ok());
        let session = session.filter(|name| name.len() <= MAX_SESSION).map(str::to_owned);
        if is(response, "text/event-stream") {
            return Ok(StreamableHttpPostResponse::Sse(self.clone().events(answered, asked), session));
        }
        if !is(response, "application/json") {
            return Err(self.fault(failed("it answered with neither JSON nor events")));
        }
        let text = self.body(answered, MESSAGE.bytes, true).await?;
        let read = strict::read(&text).map_err(|fault| self.fault(fault))?;
        if read.answers != asked {
            return Err(self.fault(failed("it answered what it was not asked")));
        }
        Ok(StreamableHttpPostResponse::Json(discovered(&message, read.message), session))
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session: Arc<str>,
        _auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        self.send(Method::DELETE, String::new(), Some(session), headers).await.map(drop)
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session: Option<Arc<str>>,
        _last_event: Option<String>,
        _auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Failed> {
        let answered = self.send(Method::GET, String::new(), session, headers).await?;
        let response = &answered.response;
        if !response.status().is_success() || !is(response, "text/event-stream") {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        Ok(self.clone().events(answered, None))
    }
}
