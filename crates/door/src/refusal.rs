//! Refusals, as a harness of each protocol can read them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;
use wire::model::{Dialect, FailureKind, ModelFailure};

/// The response that tells of a failure. Harnesses are told not to try again: nothing here gets better by itself.
pub(crate) fn response(dialect: Option<Dialect>, failure: &ModelFailure) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(failure.kind.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    with_status(dialect, failure, status)
}

/// The response to a request that belongs to no dialect, or is wrong as HTTP.
pub(crate) fn http(dialect: Option<Dialect>, status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    with_status(dialect, &ModelFailure { kind: FailureKind::Malformed, message: message.to_owned() }, status)
}

fn with_status(
    dialect: Option<Dialect>,
    failure: &ModelFailure,
    status: StatusCode,
) -> Response<Full<Bytes>> {
    let message = format!("lazaret: {}", failure.message);
    let kind = match failure.kind {
        FailureKind::Malformed => "invalid_request_error",
        FailureKind::NotGranted | FailureKind::LimitReached => "permission_error",
        FailureKind::Upstream => "api_error",
    };
    let body = match dialect {
        Some(Dialect::OpenAiResponses | Dialect::OpenAiChat) => {
            json!({"error": {"message": message, "type": kind, "param": null, "code": failure.kind}})
        }
        Some(Dialect::AnthropicMessages | Dialect::AnthropicCountTokens) | None => {
            // The code is no field of this protocol, whose clients pass over it; the built-in harness reads it.
            json!({"type": "error", "error": {"type": kind, "message": message, "code": failure.kind}})
        }
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-should-retry", HeaderValue::from_static("false"));
    response
}
