//! The model endpoint: HTTP/1.1 as the guest's programs speak it, turned into typed requests; answers stream back.

use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use wire::frame::{self, LARGE};
use wire::host::{DoorOpens, ModelAnswer};
use wire::model::{Dialect, Grants, MAX_BYTES, ModelFailure, ModelRequest, pass_header, rebuild};
use wire::mux::{Opener, Stream};

use crate::DoorLimits;
use crate::endpoint::{self, Bodies};
use crate::frames::CHUNK_FRAME;
use crate::refusal;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Serves the connections of one guest.
#[derive(Clone)]
pub(crate) struct ModelEndpoint {
    daemon: Opener,
    bodies: Bodies,
    limits: DoorLimits,
}

impl ModelEndpoint {
    pub(crate) fn new(daemon: Opener, bodies: Bodies, limits: DoorLimits) -> Self {
        Self { daemon, bodies, limits }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self, connection: Stream) {
        endpoint::serve(connection, &self.limits, |request| self.answer(request)).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let dialect = Dialect::of_path(request.uri().path());
        let answered = match (request.method(), request.uri().path(), dialect) {
            (&Method::POST, _, Some(dialect)) => self.model(dialect, request).await,
            (&Method::GET, "/v1/models", None) => self.ask(&DoorOpens::Models, None, None).await,
            (_, _, Some(dialect)) => {
                Err(refusal::http(Some(dialect), StatusCode::METHOD_NOT_ALLOWED, "this path takes POST"))
            }
            (_, path, None) => Err(refusal::http(None, StatusCode::NOT_FOUND, &unknown(path))),
        };
        answered
            .unwrap_or_else(|refusal| refusal.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
    }

    async fn model(
        &self,
        dialect: Dialect,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Response<Full<Bytes>>> {
        if request.headers().contains_key(header::CONTENT_ENCODING) {
            let why = "send the body as it is, without `content-encoding`";
            return Err(refusal::http(Some(dialect), StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let headers = passed_headers(dialect, request.headers());
        let read = self.bodies.read(request.into_body(), MAX_BYTES).await;
        let (room, body) =
            read.map_err(|fault| refusal::http(Some(dialect), fault.status(), &fault.to_string()))?;
        let rebuilt = rebuild(dialect, &body, &Grants::default())
            .map_err(|refused| refusal::response(Some(dialect), &refused.into()))?;
        drop(body);
        let request = ModelRequest { dialect, body: rebuilt.to_string(), headers };
        drop(rebuilt);
        self.ask(&DoorOpens::Model(request), Some(dialect), Some(room)).await
    }

    /// Asks the daemon, and makes its answer a response.
    async fn ask(
        &self,
        question: &DoorOpens,
        dialect: Option<Dialect>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Response<Body>, Response<Full<Bytes>>> {
        let lost = |_| refusal::http(dialect, StatusCode::BAD_GATEWAY, "the daemon can't be reached");
        let mut daemon = self.daemon.open().await.map_err(|error| lost(error.to_string()))?;
        let question = frame::encode(question, LARGE).map_err(|error| lost(error.to_string()))?;
        daemon.write_all(&question).await.map_err(|error| lost(error.to_string()))?;
        daemon.flush().await.map_err(|error| lost(error.to_string()))?;
        drop((question, room));
        match frame::read(&mut daemon, CHUNK_FRAME.max(frame::SMALL)).await {
            Ok(Some(ModelAnswer::Failed(failure))) => Err(refusal::response(dialect, &shortened(failure))),
            Ok(Some(ModelAnswer::Head { status, content_type, headers })) => {
                streamed(daemon, status, &content_type, headers).ok_or_else(|| lost("a bad head".to_owned()))
            }
            Ok(Some(ModelAnswer::Body(_) | ModelAnswer::End) | None) => Err(lost("no head".to_owned())),
            Err(error) => Err(lost(error.to_string())),
        }
    }
}

fn passed_headers(dialect: Dialect, headers: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let pass = |(name, value): (&HeaderName, &HeaderValue)| {
        text(value).and_then(|value| pass_header(dialect, name.as_str(), &value))
    };
    headers.iter().filter_map(pass).collect()
}

fn unknown(path: &str) -> String {
    let path: String = path.chars().take(60).flat_map(char::escape_default).collect();
    let known = Dialect::ALL.map(Dialect::path).join("`, `");
    format!("`{path}` is not served: this endpoint has `{known}` and `/v1/models`")
}

/// A failure's message at a length that fits a response.
fn shortened(mut failure: ModelFailure) -> ModelFailure {
    failure.message = failure.message.chars().take(2000).collect();
    failure
}

/// A response whose body comes from the daemon, piece by piece as the guest takes it. Dropped, it lets the daemon's
/// stream go, and the daemon gives the request up.
fn streamed(
    daemon: Stream,
    status: u16,
    content_type: &str,
    headers: Vec<(String, String)>,
) -> Option<Response<Body>> {
    let pieces = stream::try_unfold(daemon, |mut daemon| async move {
        match frame::read(&mut daemon, CHUNK_FRAME).await {
            Ok(Some(ModelAnswer::Body(bytes))) => Ok(Some((Frame::data(Bytes::from(bytes)), daemon))),
            Ok(Some(ModelAnswer::End)) => Ok(None),
            // Cut before its end: the guest must not take it for the whole.
            Ok(Some(ModelAnswer::Failed(_) | ModelAnswer::Head { .. }) | None) => {
                Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
            }
            Err(error) => Err(std::io::Error::other(error)),
        }
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces)));
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).ok()?);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().insert(name, HeaderValue::from_str(&value).ok()?);
    }
    Some(response)
}
