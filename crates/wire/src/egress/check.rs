//! Whether a request is in its canonical form. The door makes it so; the daemon looks again, since the door might have
//! been fooled.

use super::url::{self, UrlFault};
use super::{EgressRequest, Scheme};

/// Most header fields of a request.
pub const MAX_HEADERS: usize = 100;
/// Most bytes of all header fields of a request.
pub const MAX_HEADER_BYTES: usize = 32 << 10;
/// Most bytes of a method.
const MAX_METHOD: usize = 32;

/// Names of headers that concern one connection only, or that the message itself decides.
const OF_ONE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What of a request is not in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// The method.
    #[error("a method is an upper-case word, and neither CONNECT nor TRACE leaves")]
    Method,
    /// The URL has no canonical form.
    #[error("{0}")]
    Url(#[from] UrlFault),
    /// The URL has another form than this.
    #[error("the URL is not in its canonical form")]
    Form,
    /// A header's name.
    #[error("the header `{0}` does not leave: it is malformed, or concerns one connection only")]
    Name(String),
    /// A header's value.
    #[error("the value of the header `{0}` has control characters")]
    Value(String),
    /// The headers together.
    #[error("a request has at most {MAX_HEADERS} header fields of {} KiB together", MAX_HEADER_BYTES >> 10)]
    Headers,
    /// The body.
    #[error("a body of no bytes is none")]
    Body,
    /// A push that doesn't say what it pushes, or something else that does.
    #[error("what is pushed is not said where it must be")]
    Push,
}

/// Whether a header concerns one connection only, or says what the message itself decides: it does not leave.
#[must_use]
pub fn stays(name: &str) -> bool {
    OF_ONE_CONNECTION.contains(&name) || name.starts_with("proxy-")
}

impl EgressRequest {
    /// Holds it against its canonical form.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self) -> Result<(), NotCanonical> {
        let is_word = (1..=MAX_METHOD).contains(&self.method.len())
            && self.method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !is_word || matches!(self.method.as_str(), "CONNECT" | "TRACE") {
            return Err(NotCanonical::Method);
        }
        if self.port == 0 {
            return Err(UrlFault::Port.into());
        }
        let query = self.query.as_deref().map(url::query).transpose()?;
        if url::host(&self.host)? != self.host || url::path(&self.path)? != self.path || query != self.query {
            return Err(NotCanonical::Form);
        }
        if self.body == super::BodyLength::Known(0) {
            return Err(NotCanonical::Body);
        }
        if self.push.is_some() != self.is_push() {
            return Err(NotCanonical::Push);
        }
        self.check_headers()
    }

    /// Whether its method and path are those of a `git push`.
    #[must_use]
    pub fn is_push(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/git-receive-pack")
    }

    fn check_headers(&self) -> Result<(), NotCanonical> {
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            return Err(NotCanonical::Headers);
        }
        for (name, value) in &self.headers {
            if name.is_empty() || !name.bytes().all(is_token) || stays(name) {
                return Err(NotCanonical::Name(name.escape_default().take(100).collect()));
            }
            if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return Err(NotCanonical::Value(name.clone()));
            }
        }
        Ok(())
    }
}

/// Its URL.
impl std::fmt::Display for EgressRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        url::write(f, self.scheme, &self.host, self.port, &self.path, self.query.as_deref())
    }
}

impl Scheme {
    /// The port where nothing is said.
    #[must_use]
    pub fn usual_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// As a URL begins.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A character of a header's name, in lower case.
fn is_token(byte: u8) -> bool {
    const OTHERS: &[u8] = b"!#$%&'*+-.^_`|~";
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || OTHERS.contains(&byte)
}
