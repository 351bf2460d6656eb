//! The tools' endpoint: MCP over streamable HTTP as the guest's programs speak it, turned into typed questions.
//!
//! Every message is read whole and strictly before the MCP library sees it, and the library sees only what was written
//! anew. No sessions are kept: each request stands for itself, in the newest revision, which knows none, and in the
//! older ones, which allow it. So there is nothing that a program could pile up here, and a request ends when its
//! program goes away or cancels it.

mod calls;
mod convert;
mod server;
mod slow;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use wire::json::Json;
use wire::mux::{Opener, Stream};
use wire::tools::BODY;

use crate::DoorLimits;
use crate::endpoint::{self, Bodies};

use calls::Calls;
use server::ToolServer;

/// The one path.
const PATH: &str = "/mcp";
/// Requests that wait for the daemon at once; more wait for those.
const WAITING: usize = 32;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Serves the connections of one guest.
#[derive(Clone)]
pub(crate) struct ToolsEndpoint {
    mcp: StreamableHttpService<ToolServer, NeverSessionManager>,
    calls: Calls,
    bodies: Bodies,
    limits: DoorLimits,
}

/// A message that can't be taken: its status, and JSON-RPC's code for it.
struct Refused(StatusCode, i32, String);

impl ToolsEndpoint {
    pub(crate) fn new(daemon: Opener, bodies: Bodies, limits: DoorLimits) -> Self {
        let server = ToolServer::new(daemon, WAITING);
        // By default the library allows the loopback's names as `Host`, and no others.
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .enforce_origin_validation()
            .with_max_request_body_bytes(BODY.bytes.saturating_mul(2))
            .with_sse_keep_alive(Some(limits.keep_alive));
        let factory = move || Ok(server.clone());
        let mcp = StreamableHttpService::new(factory, Arc::new(NeverSessionManager::default()), config);
        Self { mcp, calls: Calls::default(), bodies, limits }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self, connection: Stream) {
        endpoint::serve(connection, &self.limits, |request| self.answer(request)).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != PATH {
            return refusal(&Refused(StatusCode::NOT_FOUND, -32600, format!("MCP is served at `{PATH}`")));
        }
        match self.checked(request).await {
            Ok(request) => {
                let mcp = self.mcp.clone();
                let answer = async move { mcp.handle(request).await.map(BodyExt::boxed_unsync) };
                slow::answer(Box::pin(answer), self.limits.keep_alive).await
            }
            Err(refused) => refusal(&refused),
        }
    }

    /// The request with its message written anew. A message that cancels another has done so.
    async fn checked(&self, request: Request<Incoming>) -> Result<Request<Full<Bytes>>, Refused> {
        let (mut head, body) = request.into_parts();
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            let why = "send the body as it is, without `content-encoding`".to_owned();
            return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, -32600, why));
        }
        let (_room, body) = self
            .bodies
            .read(body, BODY.bytes)
            .await
            .map_err(|fault| Refused(fault.status(), -32600, fault.to_string()))?;
        if head.method != http::Method::POST {
            // The library says what it thinks of it.
            return Ok(Request::from_parts(head, Full::default()));
        }
        let message = Json::parse(&body, BODY).map_err(|why| {
            Refused(StatusCode::BAD_REQUEST, -32700, format!("the body is not acceptable JSON: {why}"))
        })?;
        if !matches!(message, Json::Object(_)) {
            let why = format!("the body is {} and not one message; batches are not taken", message.kind());
            return Err(Refused(StatusCode::BAD_REQUEST, -32600, why));
        }
        if let Some(call) = self.calls.take_note(&message) {
            head.extensions.insert(call);
        }
        let body = message.to_string();
        head.headers.remove(header::TRANSFER_ENCODING);
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        Ok(Request::from_parts(head, Full::from(body)))
    }
}

fn refusal(Refused(status, code, message): &Refused) -> Response<Body> {
    let message = format!("lazaret: {message}");
    let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": message}});
    let mut response = Response::new(Full::from(error.to_string()).boxed_unsync());
    *response.status_mut() = *status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
