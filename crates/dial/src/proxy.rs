//! The outer proxy: asked by `CONNECT` for a connection, in which all that follows is the peer's. Where it wants a log-in, that
//! question carries it, and nothing else does.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use domain::{NamedHost, Scheme};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{DialError, ProxyUser, shown};

/// Most bytes of a proxy's answer.
const MAX_ANSWER: usize = 8 << 10;

/// The one way to log in.
const BASIC: &str = "Basic";
/// What is told of a proxy that wants to know who asks.
const WANTS_LOG_IN: &str = "it wants a log-in: `lazaret secret set NAME --to ITS-ADDRESS --as proxy:USER` stores one, and \
    `proxy_credential = \"secret:NAME\"` in [network] of config.toml has it used";
/// What is told of one that was shown a log-in.
const REFUSES_LOG_IN: &str = "it refuses the log-in that `proxy_credential` in [network] of config.toml names: store the right \
    one by `lazaret secret set`, or its new password by `lazaret secret rotate`";
/// What is told where it isn't known which of both it is.
pub(crate) const WANTS_ANOTHER: &str = "it wants a log-in, or another one than the secret has that `proxy_credential` in \
    [network] of config.toml names (docs/egress.md says how it is stored)";

/// Why a text is not the address of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a proxy: write http://host:port or https://host:port, without a user")]
pub struct BadProxy(String);

/// Where the outer proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    host: String,
    port: u16,
    named: NamedHost,
}

impl Proxy {
    /// How it is spoken to: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its name, or its address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether what it is told could be read on its way there.
    #[must_use]
    pub fn is_overheard(&self) -> bool {
        let literal = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        let here = self.host == "localhost" || literal.is_ok_and(|address| address.is_loopback());
        !self.in_tls() && !here
    }

    pub(crate) fn in_tls(&self) -> bool {
        self.scheme == Scheme::Https
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
        let (scheme, authority) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(authority), _) => (Scheme::Http, authority),
            (None, Some(authority)) => (Scheme::Https, authority),
            (None, None) => return Err(bad()),
        };
        let authority = authority.trim_end_matches('/');
        let named: NamedHost = authority.parse().map_err(|_| bad())?;
        let port = named.port.ok_or_else(bad)?;
        if named.host.below().is_some() {
            return Err(bad());
        }
        Ok(Self { scheme, host: named.host.as_str().to_owned(), port, named })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.named)
    }
}

/// What the proxy is asked for a connection to a host, and by whom.
pub(crate) fn asking(
    host: &str,
    port: u16,
    user: Option<&ProxyUser>,
) -> Result<Zeroizing<String>, DialError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(DialError::NoHost { host: shown(host) });
    }
    let bare = host.contains(':') && !host.starts_with('[');
    let host = if bare { format!("[{host}]") } else { host.to_owned() };
    let user = user.map(ProxyUser::header);
    let (name, value) = user.as_ref().map_or(("", ""), |user| ("proxy-authorization: ", user.as_str()));
    let end = if user.is_some() { "\r\n" } else { "" };
    Ok(Zeroizing::new(format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n{name}{value}{end}\r\n"
    )))
}

/// Asks the proxy, perhaps with a log-in; the error is what it said. What follows on the stream is the peer's, so no byte after
/// the answer is read.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    asking: &str,
    logs_in: bool,
) -> Result<(), String> {
    stream.write_all(asking.as_bytes()).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(format!("its answer has more than {MAX_ANSWER} bytes"));
        }
        answer.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let number = status.filter(|status| status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit()));
    match number {
        Some(status) if status.starts_with('2') => Ok(()),
        Some("407") => Err(wants(&answer, logs_in)),
        // It was told who asks, and may repeat that in words.
        Some(status) if logs_in => Err(format!("it answered HTTP {status}")),
        None if logs_in => Err("it answered what is no HTTP".to_owned()),
        Some(_) | None => Err(format!("it answered `{}`", shown(line))),
    }
}

/// What is told of a proxy that wants a log-in, or another one.
fn wants(answer: &str, logs_in: bool) -> String {
    let fields = answer.lines().filter_map(|line| line.split_once(':'));
    let offers = fields.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"));
    let schemes: Vec<&str> = offers.filter_map(|(_, value)| value.split_whitespace().next()).collect();
    let known = ["Basic", "Bearer", "Digest", "Kerberos", "Negotiate", "NTLM"];
    let schemes: BTreeSet<&str> =
        known.into_iter().filter(|known| schemes.iter().any(|one| one.eq_ignore_ascii_case(known))).collect();
    if !schemes.is_empty() && !schemes.contains(BASIC) {
        let offered: Vec<&str> = schemes.into_iter().collect();
        return format!(
            "it wants a log-in by {}, and Lazaret has {BASIC} only: run a proxy on this machine that logs in there for you, and \
             name that in [network] proxy",
            offered.join(" or ")
        );
    }
    if logs_in { REFUSES_LOG_IN.to_owned() } else { WANTS_LOG_IN.to_owned() }
}
