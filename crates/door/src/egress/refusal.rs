//! What a program reads when its request does not leave: one or two lines of text, for whoever reads its output.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};

use super::Body;

/// A request that does not leave.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
    hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What is wrong as HTTP, or has no canonical form.
    pub(super) fn malformed(fault: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fault.to_string())
    }

    /// The daemon's word.
    pub(super) fn told(status: u16, why: String, hint: Option<String>) -> Self {
        let status = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 400);
        Self { status: status.unwrap_or(StatusCode::BAD_GATEWAY), why, hint }
    }

    /// The door failed, or lost the daemon.
    pub(super) fn failed(why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, format!("the request was not sent: {why}"))
    }

    pub(super) fn text(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!("lazaret: {}\n{hint}", self.why)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = Full::new(Bytes::from(self.text())).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        // RFC 9209: not the server's word, but of something on the way.
        let from = HeaderValue::from_static("lazaret; error=http_request_denied");
        headers.insert("proxy-status", from);
        response
    }
}
