//! MCP over HTTP: one request per message, whose response is JSON or a stream of events. Bodies are bounded, redirects
//! are not followed, and the host's credential is added here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dial::Client;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::{Method, RequestBuilder, Response, Url};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage, ServerResult};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use wire::tools::ToolFailure;

use crate::credential::{Asks, Credential};

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

impl Post {
    /// Notes the fault that ends the connection.
    fn fault(&self, fault: ToolFailure) -> Failed {
        let why = fault.message.clone();
        self.faults.note(fault);
        StreamableHttpError::Client(Unanswered(why))
    }

    /// A request to the server, which is asked at its one address.
    fn request(&self, method: Method) -> Result<RequestBuilder, Failed> {
        self.client.request(method, self.url.clone()).map_err(|refused| self.fault(failed(refused)))
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        session: Option<Arc<str>>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Response, Failed> {
        let mut all = http::HeaderMap::new();
        let asks = Asks { url: &self.url, team: None, anthropic: false };
        self.credential
            .put_into(&mut all, asks)
            .map_err(|why| self.fault(failed(format_args!("it can't be asked: {why}"))))?;
        all.extend(headers);
        if let Some(session) = session.and_then(|session| HeaderValue::from_str(&session).ok()) {
            all.insert(SESSION, session);
        }
        all.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        request = request.headers(all);
        let response = match tokio::time::timeout(self.patience, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.fault(failed(crate::upstream::cause(error)))),
            Err(_elapsed) => return Err(self.fault(self.silent())),
        };
        let status = response.status();
        if status.is_redirection() {
            let why = "it answered with a redirect, and none is ever followed";
            return Err(self.fault(failed(why).hint("a person can give the server's own address")));
        }
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let why = format!("it refused the host's credential (HTTP {})", status.as_u16());
            return Err(self.fault(failed(why).hint("a person can check the server's credential")));
        }
        Ok(response)
    }

    fn silent(&self) -> ToolFailure {
        failed(format_args!("it was silent for {} s", self.patience.as_secs_f32()))
    }

    /// A body of at most so many bytes. Of a longer one there is the beginning, or a fault.
    async fn body(&self, response: Response, max: usize, whole: bool) -> Result<String, Failed> {
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        loop {
            let piece = tokio::time::timeout(self.patience, pieces.next()).await;
            match piece.map_err(|_elapsed| self.fault(self.silent()))? {
                None => break,
                Some(Err(error)) => return Err(self.fault(failed(crate::upstream::cause(error)))),
                Some(Ok(piece)) if bytes.len() + piece.len() > max => {
                    if whole {
                        return Err(self.fault(strict::too_large()));
                    }
                    break;
                }
                Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) if !whole => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            Err(_) => Err(self.fault(failed("it sent a body that is not UTF-8"))),
        }
    }

    /// A response that is no success: perhaps a JSON-RPC error, else a fault.
    async fn refused(
        &self,
        response: Response,
        message: &ClientJsonRpcMessage,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let status = response.status();
        let text = self.body(response, MAX_ERROR, false).await?;
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
    fn events(self, response: Response, asked: Option<String>) -> Events {
        let (faults, large) = (self.faults.clone(), self.faults.clone());
        let patience = self.patience;
        let mut left = MAX_STREAM;
        let mut event = MESSAGE.bytes;
        let pieces = response.bytes_stream().map(move |piece| {
            let piece = piece.map_err(|error| Unanswered(crate::upstream::cause(error)))?;
            // An event ends with an empty line; to take any line's end for it only loosens the bound up to the stream's.
            event = if piece.contains(&b'\n') { MESSAGE.bytes } else { event.saturating_sub(piece.len()) };
            left = left.saturating_sub(piece.len());
            if left == 0 || event == 0 {
                large.note(strict::too_large());
                return Err(Unanswered(strict::too_large().message));
            }
            Ok(piece)
        });
        let events = Box::pin(SseStream::from_bytes_stream(pieces));
        let state = (events, asked, false);
        stream::unfold(state, move |(mut events, asked, answered)| {
            let faults = faults.clone();
            async move {
                if answered {
                    // What comes after the answer is not looked at.
                    return None;
                }
                // A stream that belongs to no request may be silent for ever.
                let next = match asked {
                    Some(_) => tokio::time::timeout(patience, events.next()).await,
                    None => Ok(events.next().await),
                };
                match checked(next, asked.as_deref()) {
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
        let request = self.request(Method::POST)?.header(CONTENT_TYPE, "application/json").body(body);
        let response = self.send(request, session, headers).await?;
        let status = response.status();
        let asked = id_of(&message);
        if status == StatusCode::NOT_FOUND && has_session {
            self.faults.note(failed("it has forgotten the session"));
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return self.refused(response, &message).await;
        }
        if asked.is_none() || status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let session = response.headers().get(SESSION).and_then(|name| name.to_str().ok());
        let session = session.filter(|name| name.len() <= MAX_SESSION).map(str::to_owned);
        if is(&response, "text/event-stream") {
            return Ok(StreamableHttpPostResponse::Sse(self.clone().events(response, asked), session));
        }
        if !is(&response, "application/json") {
            return Err(self.fault(failed("it answered with neither JSON nor events")));
        }
        let text = self.body(response, MESSAGE.bytes, true).await?;
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
        self.send(self.request(Method::DELETE)?, Some(session), headers).await.map(drop)
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session: Option<Arc<str>>,
        _last_event: Option<String>,
        _auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Failed> {
        let response = self.send(self.request(Method::GET)?, session, headers).await?;
        if !response.status().is_success() || !is(&response, "text/event-stream") {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        Ok(self.clone().events(response, None))
    }
}
