//! The way to a provider: one client, patience at every step, and another try only while nothing has come back.

use std::time::Duration;

use dial::{Client, DialError, Dialer};
use policy::ModelCall;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};

use crate::permit::Permit;

/// How long to wait for a provider, and how often to ask it again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// From the request to the response's head.
    pub first_byte: Duration,
    /// Between two pieces of a response.
    pub idle: Duration,
    /// Times a request is sent at most.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub first_wait: Duration,
    /// Before any attempt, even when the provider asks for more: it is then not asked again.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
            attempts: 4,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

/// Why no response came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    #[error("it is not asked: {}", .0.told_in_cell())]
    Refused(DialError),
    #[error("it broke off before it answered: {0}")]
    BrokeOff(String),
    #[error("it did not answer within {} s", .0.as_secs_f32())]
    Late(Duration),
}

/// A client that connects where this dialer does, and follows no redirect.
pub(crate) fn client(dialer: &Dialer, patience: &Patience) -> Result<Client, reqwest::Error> {
    dialer.client(|builder| builder.connect_timeout(patience.connect))
}

/// Sends one request, once. Tries of one call share its permit.
pub(crate) async fn send(
    client: &Client,
    patience: &Patience,
    _permit: &Permit<ModelCall>,
    (url, headers, body): (Url, HeaderMap, String),
) -> Result<Response, UpstreamError> {
    let refused = |error: DialError| {
        told(&error);
        UpstreamError::Refused(error)
    };
    let request = client.request(Method::POST, url).map_err(refused)?;
    let sent = request.headers(headers).body(body).send();
    match tokio::time::timeout(patience.first_byte, sent).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.is_connect() => Err(match dial::refusal(&error) {
            Some(error) => refused(error),
            None => UpstreamError::Unreachable(told(&error)),
        }),
        Ok(Err(error)) => Err(UpstreamError::BrokeOff(told(&error))),
        Err(_elapsed) => Err(UpstreamError::Late(patience.first_byte)),
    }
}

/// A failure in words of this host's, for a program in a cell; the daemon's log has what isn't for that.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let (all, told) = (dial::told(error), dial::told_in_cell(error));
    if all != told {
        tracing::warn!(error = all, "a request did not leave");
    }
    told
}

/// How long to wait before another attempt, when one makes sense.
pub(crate) fn wait_before_retry(
    patience: &Patience,
    attempt: u32,
    outcome: &Result<Response, UpstreamError>,
) -> Option<Duration> {
    if attempt >= patience.attempts {
        return None;
    }
    let backed_off = patience.first_wait.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let wait = match outcome {
        Ok(response) if is_passing(response.status()) => asked_for(response.headers()).unwrap_or(backed_off),
        // It may have worked on the request: to ask again could cost twice.
        Ok(_) | Err(UpstreamError::Late(_) | UpstreamError::BrokeOff(_)) => return None,
        Err(UpstreamError::Refused(_)) => return None,
        Err(UpstreamError::Unreachable(_)) => backed_off,
    };
    (wait <= patience.longest_wait).then_some(wait)
}

/// Whether a status tells of a fault that may pass by itself.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504 | 529)
}

/// `retry-after` in seconds; dates are not read.
fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_not_told_of_the_proxys_log_in() {
        let why = "the secret `corp` is not bound to it".to_owned();
        let error = DialError::Proxy { host: "api.example.com".to_owned(), port: 443, why };
        for told in [told(&error), UpstreamError::Refused(error).to_string()] {
            assert!(told.contains("the organisation's proxy") && !told.contains("corp`"), "{told}");
        }
    }
}
