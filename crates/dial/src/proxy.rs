//! The outer proxy: asked by `CONNECT` for a connection, in which all that follows is the peer's.

use std::fmt;
use std::str::FromStr;

use domain::NamedHost;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{DialError, shown};

/// Most bytes of a proxy's answer.
const MAX_ANSWER: usize = 8 << 10;

/// What is told of a proxy that wants to know who asks.
const WANTS_LOG_IN: &str = "it wants a log-in, and none can be configured: run a proxy on this machine that logs in there for \
    you, and name that in [network] proxy";

/// Why a text is not the address of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a proxy: write http://host:port, without a user")]
pub struct BadProxy(String);

/// Where the outer proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    named: NamedHost,
}

impl Proxy {
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The person named it by configuring it.
    pub(crate) fn named(&self) -> NamedHost {
        self.named.clone()
    }
}

impl FromStr for Proxy {
    type Err = BadProxy;
    fn from_str(text: &str) -> Result<Self, BadProxy> {
        // What is told of a bad one must not tell a password.
        let bad = || BadProxy(text.rsplit('@').next().unwrap_or_default().chars().take(80).collect());
        let authority = text.strip_prefix("http://").ok_or_else(bad)?.trim_end_matches('/');
        let named: NamedHost = authority.parse().map_err(|_| bad())?;
        let port = named.port.ok_or_else(bad)?;
        if named.host.below().is_some() {
            return Err(bad());
        }
        Ok(Self { host: named.host.as_str().to_owned(), port, named })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.named)
    }
}

/// What the proxy is asked for a connection to a host.
pub(crate) fn asking(host: &str, port: u16) -> Result<String, DialError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(DialError::NoHost { host: shown(host) });
    }
    let bare = host.contains(':') && !host.starts_with('[');
    let host = if bare { format!("[{host}]") } else { host.to_owned() };
    Ok(format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n"))
}

/// Asks the proxy; the error is what it said. What follows on the stream is the peer's, so no byte after
/// the answer is read.
pub(crate) async fn connect(stream: &mut TcpStream, asking: &str) -> Result<(), String> {
    stream.write_all(asking.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(format!("its answer has more than {MAX_ANSWER} bytes"));
        }
        answer.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        Some("407") => Err(WANTS_LOG_IN.to_owned()),
        Some(_) | None => Err(format!("it answered `{}`", shown(&line))),
    }
}
