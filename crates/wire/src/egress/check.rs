//! Whether a request is in its canonical form. The door makes it so; the daemon looks again, since the door might have
//! been fooled.

use super::url::{self, UrlFault};
use super::{BodyLength, EgressRequest, Scheme};
use crate::git::PushError;

/// Most header fields of a request.
pub const MAX_HEADERS: usize = 64;
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

/// The last parts of the paths of git's requests: pushes, and fetches.
const PUSH: &str = "git-receive-pack";
const FETCH: &str = "git-upload-pack";

/// Headers by which some servers take another method or path for that of the request. What was decided on would not be
/// what is done, and without them something else would be done than the program asked for: so they are refused.
const OVERRIDES: &[&str] = &[
    "x-envoy-original-path",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-ms-original-url",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-url",
];

/// Headers that say for which host, or from whom, others passed a request on. Nobody has: they are dropped. `proxy` is
/// taken for a variable of that name by old CGI programs.
const OF_PROXIES: &[&str] =
    &["forwarded", "proxy", "true-client-ip", "x-client-ip", "x-host", "x-original-host", "x-real-ip"];

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
    /// A header that asks for another method or path.
    #[error(
        "the header `{0}` asks some servers for another method or path than the request's, which nobody decided on: send \
         the request by that method, to that path"
    )]
    Override(String),
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
    /// A push that no door could have read so.
    #[error("{0}")]
    Pushed(#[from] PushError),
    /// Nearly a request of git's.
    #[error(
        "the path is one of git's, but not the request: only GET REPOSITORY/info/refs?service=…, POST \
         REPOSITORY/git-upload-pack and POST REPOSITORY/git-receive-pack leave, written just so"
    )]
    Git,
}

/// Whether a header concerns one connection only, or says what the message itself or the way it took decides: it does not
/// leave. Many servers take `_` for `-`.
#[must_use]
pub fn stays(name: &str) -> bool {
    let name = name.replace('_', "-");
    OF_ONE_CONNECTION.contains(&name.as_str())
        || OF_PROXIES.contains(&name.as_str())
        || name.starts_with("proxy-")
        || name.starts_with("x-forwarded")
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
        if self.body == BodyLength::Known(0) {
            return Err(NotCanonical::Body);
        }
        self.check_git()?;
        self.check_headers()?;
        match &self.push {
            None if self.is_push() => Err(NotCanonical::Push),
            Some(_) if !self.is_push() => Err(NotCanonical::Push),
            // Nobody is asked about what would follow: no ref is named.
            Some(push) if push.changes.is_empty() && self.body != BodyLength::None => {
                Err(PushError::MoreThanNothing.into())
            }
            Some(push) => Ok(push.check()?),
            None => Ok(()),
        }
    }

    /// Whether its method and path are those of a `git push`.
    #[must_use]
    pub fn is_push(&self) -> bool {
        self.method == "POST" && self.path.rsplit('/').next() == Some(PUSH)
    }

    /// Refuses what is no request of git's, but might be one to a server that passes over a final slash, upper case or what
    /// follows a `;`: rules would not see that it pushes. Reading pages with such names is nothing of git's.
    fn check_git(&self) -> Result<(), NotCanonical> {
        let reads = matches!(self.method.as_str(), "GET" | "HEAD") && self.body == BodyLength::None;
        let parts: Vec<&str> = self.path.split('/').skip(1).map(bare).collect();
        let is = |part: &str, name: &str| part.eq_ignore_ascii_case(name);
        let packs = parts.iter().filter(|part| is(part, PUSH) || is(part, FETCH)).count();
        let query = self.query.as_deref().unwrap_or_default();
        let begins = query.to_ascii_lowercase().contains("service=git")
            && parts
                .windows(2)
                .any(|two| matches!(two, [info, refs] if is(info, "info") && is(refs, "refs")));
        let begins_so = self.method == "GET"
            && reads
            && self.path.ends_with("/info/refs")
            && query.strip_prefix("service=").is_some_and(|service| service == PUSH || service == FETCH);
        let packs_so = self.method == "POST"
            && self.query.is_none()
            && packs == 1
            && parts.len() > 1
            && self.path.rsplit('/').next().is_some_and(|last| last == PUSH || last == FETCH);
        if (begins && !begins_so) || (packs > 0 && !reads && !packs_so) {
            return Err(NotCanonical::Git);
        }
        Ok(())
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
            if OVERRIDES.contains(&name.replace('_', "-").as_str()) {
                return Err(NotCanonical::Override(name.clone()));
            }
            if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return Err(NotCanonical::Value(name.clone()));
            }
        }
        Ok(())
    }
}

/// A part of a path as lenient servers take it: without parameters, and without dots and spaces at its end.
fn bare(part: &str) -> &str {
    let end = part.to_ascii_uppercase().find("%3B").into_iter().chain(part.find(';')).min();
    let mut part = end.and_then(|end| part.get(..end)).unwrap_or(part);
    while let Some(shorter) = part.strip_suffix('.').or_else(|| part.strip_suffix("%20")) {
        part = shorter;
    }
    part
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
