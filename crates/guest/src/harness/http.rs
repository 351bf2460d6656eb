//! Plain HTTP/1.1 to the endpoints on the container's loopback, and one turn of the model over it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::conversation::Turn;
use super::dialect::{Api, Ask, Building, TurnError, error_message};
use super::sse;

/// Longest wait for the connection.
const CONNECT: Duration = Duration::from_secs(20);
/// Longest wait for the head of the answer: the host may retry a busy provider meanwhile.
const HEAD: Duration = Duration::from_secs(600);
/// Longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(300);
/// Most bytes of an error's body that are read.
const MAX_ERROR: usize = 64 * 1024;
/// Most bytes of one event.
const MAX_EVENT: usize = 4 * 1024 * 1024;
/// Most bytes of one streamed answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why there was no turn.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModelError {
    /// The endpoint's address can't be used.
    #[error("`{0}` is not the address of an endpoint: use http://127.0.0.1:PORT")]
    Address(String),
    /// The connection failed.
    #[error("the endpoint can't be reached: {0}")]
    Connection(String),
    /// It took too long.
    #[error("the endpoint gave no {what} for {} s", .after.as_secs())]
    Silent {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The session has used up its tokens.
    #[error("{0}")]
    LimitReached(String),
    /// The request was refused, by the host or the provider.
    #[error("the model refused the request ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The reason given.
        message: String,
    },
    /// The answer can't be used.
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// The answer has too many bytes.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer ended too early.
    #[error("the model's answer was cut short{0}")]
    Cut(String),
}

/// An HTTP server on the container's loopback.
#[derive(Debug, Clone)]
pub(super) struct Server {
    address: SocketAddr,
    host: String,
}

impl Server {
    /// The server at `url`, and the path in it: `http`, an IP address or `localhost`, a port, and perhaps a path.
    ///
    /// # Errors
    /// When the text is anything else.
    pub(super) fn with_path(url: &str) -> Result<(Self, String), ModelError> {
        let bad = || ModelError::Address(url.chars().take(200).collect());
        let uri: Uri = url.parse().map_err(|_not_a_uri| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(bad());
        }
        let host = authority.as_str().replace("localhost", "127.0.0.1");
        let address = if authority.port().is_some() { host.parse() } else { format!("{host}:80").parse() };
        Ok((Self { address: address.map_err(|_not_an_address| bad())?, host }, uri.path().to_owned()))
    }

    /// Sends JSON; the connection lives as long as the set that drives it.
    ///
    /// # Errors
    /// When the server can't be reached, or takes too long to begin its answer.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(Response<Incoming>, JoinSet<()>), ModelError> {
        let failed = |e: &dyn std::fmt::Display| ModelError::Connection(e.to_string());
        let stream = timeout(CONNECT, TcpStream::connect(self.address))
            .await
            .map_err(|_elapsed| ModelError::Silent { what: "connection", after: CONNECT })?
            .map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        let mut driver = JoinSet::new();
        // Its failure shows in the response or its body.
        driver.spawn(async move { drop(connection.await) });
        let mut request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| failed(&e))?;
        let response = timeout(HEAD, sender.send_request(request))
            .await
            .map_err(|_elapsed| ModelError::Silent { what: "answer", after: HEAD })?
            .map_err(|e| failed(&e))?;
        Ok((response, driver))
    }
}

/// A body that is read with patience and a limit.
pub(super) struct Body {
    body: Incoming,
    left: usize,
}

impl Body {
    pub(super) fn new(body: Incoming, max: usize) -> Self {
        Self { body, left: max }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When there are too many of them, or none for too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ModelError> {
        let Some(bytes) = next_bytes(&mut self.body).await? else { return Ok(None) };
        self.left = self.left.checked_sub(bytes.len()).ok_or(ModelError::TooLarge)?;
        Ok(Some(bytes))
    }

    /// All of it.
    ///
    /// # Errors
    /// As for the next bytes.
    pub(super) async fn whole(&mut self) -> Result<Vec<u8>, ModelError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

/// Where the model is, and how it is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    server: Server,
    api: Api,
}

impl Endpoint {
    /// An endpoint at `url`: `http`, an IP address or `localhost`, a port, and no path.
    ///
    /// # Errors
    /// When the text is anything else.
    pub(super) fn new(url: &str, api: Api) -> Result<Self, ModelError> {
        let (server, path) = Server::with_path(url)?;
        if !matches!(path.as_str(), "" | "/") {
            return Err(ModelError::Address(url.chars().take(200).collect()));
        }
        Ok(Self { server, api })
    }

    /// Asks for one turn.
    ///
    /// # Errors
    /// As [`ModelError`] says.
    pub(super) async fn turn(&self, ask: &Ask<'_>) -> Result<Turn, ModelError> {
        let headers = [("accept", "text/event-stream"), ("anthropic-version", "2023-06-01")];
        let body = self.api.body(ask).to_string();
        let (response, _connection) = self.server.post(self.api.path(), &headers, body).await?;
        if response.status().is_success() {
            self.read_turn(response.into_body()).await
        } else {
            Err(refusal(response).await)
        }
    }

    async fn read_turn(&self, body: Incoming) -> Result<Turn, ModelError> {
        let mut parser = sse::Parser::new(MAX_EVENT);
        let mut turn = Building::default();
        let mut body = Body::new(body, MAX_ANSWER);
        while let Some(bytes) = body.next().await? {
            let events = parser.feed(&bytes).map_err(|e| TurnError::Malformed(e.to_string()))?;
            for event in events {
                self.api.take(&event, &mut turn)?;
            }
        }
        if turn.is_complete() { Ok(turn.finish()) } else { Err(ModelError::Cut(String::new())) }
    }
}

async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, ModelError> {
    let frame = timeout(SILENCE, body.frame())
        .await
        .map_err(|_elapsed| ModelError::Silent { what: "bytes", after: SILENCE })?;
    match frame {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(e)) => Err(ModelError::Cut(format!(": {e}"))),
    }
}

/// What an answer that is not a success says.
async fn refusal(response: Response<Incoming>) -> ModelError {
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ERROR {
        match next_bytes(&mut body).await {
            Ok(Some(more)) => bytes.extend_from_slice(&more),
            Ok(None) => break,
            Err(e) => return e,
        }
    }
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message: String = error_message(&value).chars().take(2000).collect();
    let limit = value.pointer("/error/code").and_then(Value::as_str) == Some("limit-reached");
    if limit { ModelError::LimitReached(message) } else { ModelError::Refused { status, message } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_with_a_port_are_endpoints() {
        for good in ["http://127.0.0.1:8181", "http://localhost:8181/", "http://[::1]:80"] {
            assert!(Endpoint::new(good, Api::Chat).is_ok(), "{good}");
        }
        for bad in [
            "https://127.0.0.1:1",
            "127.0.0.1:1",
            "http://example.com:80",
            "http://127.0.0.1:1/v1",
            "",
            "http://u@127.0.0.1:1",
        ] {
            assert!(Endpoint::new(bad, Api::Chat).is_err(), "{bad}");
        }
    }
}
