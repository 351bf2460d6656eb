//! What may leave a cell: requests in their canonical form, and the rules of `[egress]` that name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Answer, ApprovalRule, ByteSize, HostError, HostPattern, UserInAddress, refuse_user};

/// Why a text is no request, or names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Its URL says who asks.
    #[error(transparent)]
    User(#[from] UserInAddress),
    /// Not methods and a URL.
    #[error("`{0}` is not written as METHOD URL, such as GET https://api.example.com/v1/**")]
    Form(String),
    /// Not a method.
    #[error("`{0}` is no method: write GET, or several as GET,HEAD")]
    Method(String),
    /// All methods where they are allowed or asked for.
    #[error("`*` for the methods is for `deny` alone: name those that are meant")]
    EveryMethod,
    /// A rule about git.
    #[error(
        "`{0}` is not written as FETCH URL or PUSH URL REFS, such as PUSH https://git.example.com/app refs/heads/agent/*"
    )]
    Git(String),
    /// A rule that takes too much for what runs nothing, or that needs no such word.
    #[error(
        "`no-ci` says that nothing runs where such refs are pushed: it stands in `allow` alone, after refs that are named more \
         closely than `refs/heads/*`"
    )]
    NoCi,
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port.
    #[error("`{0}` is no port from 1 to 65535")]
    Port(String),
    /// The path or query has another spelling than requests have.
    #[error("`{text}` is not spelled as requests are: {why}")]
    Spelling {
        /// The path or query.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// Where a request goes, and how, in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EgressTarget {
    /// An upper-case token.
    pub method: String,
    /// Whether it goes in TLS.
    pub secure: bool,
    /// A name in lower case, or an address; an IPv6 one without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Begins with `/`.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// For a `git push`, the full names of the refs that it changes; else none.
    pub refs: Vec<String>,
}

impl EgressTarget {
    /// The URL without its query.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}{}", self.site(), self.path)
    }

    /// Scheme, host, and port where it isn't the usual one.
    #[must_use]
    pub fn site(&self) -> String {
        let scheme = scheme(self.secure);
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual_port(self.secure) {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }

    /// The whole URL.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.place()),
            None => self.place(),
        }
    }

    /// The same as a push of these refs.
    ///
    /// # Errors
    /// It is no push, or one of the refs has a name that no rule can have.
    pub fn pushing(self, refs: Vec<String>) -> Result<Self, EgressError> {
        refs.iter().try_for_each(|name| check_ref(name, false))?;
        let target = Self { refs, ..self };
        if target.refs.is_empty() || target.pushes() {
            Ok(target)
        } else {
            Err(EgressError::Form(cut(&target.to_string())))
        }
    }

    /// Whether its method is one that only reads, or it is a `git fetch`.
    #[must_use]
    pub fn reads(&self) -> bool {
        READING.contains(&self.method.as_str()) || self.fetches()
    }

    /// Whether it is the second half of a `git fetch`, whose body says what is wanted.
    #[must_use]
    pub fn fetches(&self) -> bool {
        self.method == "POST" && self.query.is_none() && self.path.ends_with(FETCH_PATH)
    }

    /// Whether it is a `git push`.
    #[must_use]
    pub fn pushes(&self) -> bool {
        self.method == "POST" && self.path.ends_with(PUSH_PATH)
    }

    /// Whether a server could take it for a push, in whatever spelling; the door passes on the usual one alone.
    fn could_push(&self) -> bool {
        let pushes = |part: &str| {
            let (name, rest) = part.split_at_checked(PUSH_NAME.len()).unwrap_or_default();
            let rest = rest.trim_start_matches('.');
            name.eq_ignore_ascii_case(PUSH_NAME) && (rest.is_empty() || rest.starts_with([';', '%']))
        };
        !READING.contains(&self.method.as_str()) && self.path.split('/').any(pushes)
    }

    /// Whether its query says nothing but that git begins.
    #[must_use]
    pub fn begins_git(&self) -> bool {
        let begins = self.method == "GET" && self.path.ends_with(BEGIN_PATH);
        begins && self.query.as_deref().is_some_and(|query| query == FETCH_QUERY || query == PUSH_QUERY)
    }
}

/// How git's requests over HTTP end (gitprotocol-http).
const BEGIN_PATH: &str = "/info/refs";
const FETCH_PATH: &str = "/git-upload-pack";
const PUSH_PATH: &str = "/git-receive-pack";
const PUSH_NAME: &str = "git-receive-pack";
const FETCH_QUERY: &str = "service=git-upload-pack";
const PUSH_QUERY: &str = "service=git-receive-pack";

/// Methods that only read.
const READING: [&str; 2] = ["GET", "HEAD"];

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

fn usual_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl fmt::Display for EgressTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url())?;
        if self.refs.is_empty() { Ok(()) } else { write!(f, " {}", self.refs.join(",")) }
    }
}

/// Reads `GET https://host/path`, which must be in its canonical form already; after the URL of a push, its refs with
/// commas.
impl FromStr for EgressTarget {
    type Err = EgressError;
    fn from_str(text: &str) -> Result<Self, EgressError> {
        refuse_user(text)?;
        let (text, refs) = match text.rsplit_once(' ') {
            Some((text, refs)) if text.contains(' ') => (text, refs),
            Some(_) | None => (text, ""),
        };
        let refs: Vec<String> = refs.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let parts = Parts::of(text)?;
        let method = parts.methods;
        check_method(method)?;
        let host: HostPattern = parts.host.parse()?;
        if host.below().is_some() {
            return Err(EgressError::Host(HostError::NoHost(cut(parts.host))));
        }
        check_spelling(parts.path, false)?;
        parts.query.map_or(Ok(()), check_query)?;
        let target = Self {
            method: method.to_owned(),
            secure: parts.secure,
            host: host.as_str().trim_matches(['[', ']']).to_owned(),
            port: parts.port,
            path: parts.path.to_owned(),
            query: parts.query.map(str::to_owned),
            refs: Vec::new(),
        };
        target.pushing(refs)
    }
}

/// The parts of `METHODS URL`.
struct Parts<'t> {
    methods: &'t str,
    secure: bool,
    host: &'t str,
    port: u16,
    path: &'t str,
    query: Option<&'t str>,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Result<Self, EgressError> {
        let form = || EgressError::Form(cut(text));
        let (methods, url) = text.split_once(' ').ok_or_else(form)?;
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(form()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or_else(form)?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let number = port.parse().ok().filter(|port| digits && *port > 0);
                (host, number.ok_or_else(|| EgressError::Port(cut(port)))?)
            }
            Some(_) | None => (authority, usual_port(secure)),
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { methods, secure, host, port, path, query })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn check_method(method: &str) -> Result<(), EgressError> {
    let sound = (1..=32).contains(&method.len())
        && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
        && !["CONNECT", "TRACE"].contains(&method);
    if sound { Ok(()) } else { Err(EgressError::Method(cut(method))) }
}

/// Most bytes of a path and of a query, as the door has them.
const MAX_PATH: usize = 8 << 10;
const MAX_QUERY: usize = 16 << 10;

/// Holds a path against the spelling that requests have; in a pattern, `*` is a wildcard.
fn check_spelling(text: &str, pattern: bool) -> Result<(), EgressError> {
    let wrong = |why| Err(EgressError::Spelling { text: cut(text), why });
    check_bytes(text, MAX_PATH, |byte| match byte {
        b'/' | b'\\' | 0 => Some("an encoded slash, backslash or zero never leaves in a path"),
        _ => None,
    })?;
    if text.starts_with('/') && text.split('/').any(|segment| segment == "." || segment == "..") {
        return wrong("`.` and `..` never leave");
    }
    if pattern && text.contains("***") {
        return wrong("there are `*` and `**`, no more");
    }
    Ok(())
}

/// Holds a query against the spelling that requests have. It is data: all but a zero may be encoded in it.
fn check_query(text: &str) -> Result<(), EgressError> {
    check_bytes(text, MAX_QUERY, |byte| (byte == 0).then_some("an encoded zero never leaves"))
}

/// Holds each byte against what all of a URL has in common; `never` says which are not even there encoded, and why.
fn check_bytes(
    text: &str,
    most: usize,
    never: impl Fn(u8) -> Option<&'static str>,
) -> Result<(), EgressError> {
    let wrong = |why| Err(EgressError::Spelling { text: cut(text), why });
    if text.len() > most {
        return wrong("it is too long");
    }
    let mut rest = text;
    while let Some(byte) = rest.bytes().next() {
        let mut length = 1;
        match byte {
            b'%' => {
                let pair = rest.get(1..3).unwrap_or_default();
                let value = u8::from_str_radix(pair, 16).ok().filter(|_| pair.bytes().all(is_upper_hex));
                match value {
                    None => return wrong("a `%` is followed by two digits of 0 to 9 and A to F"),
                    Some(b) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
                        return wrong("letters, digits and -._~ are not percent-encoded");
                    }
                    Some(b) => match never(b) {
                        Some(why) => return wrong(why),
                        None => length = 3,
                    },
                }
            }
            b'\\' | b'#' => return wrong("a backslash or `#` never leaves"),
            byte if byte.is_ascii_graphic() => {}
            _ => return wrong("other characters than those of ASCII are percent-encoded"),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// Holds the name of a ref, or a pattern of such, against what refs are called.
fn check_ref(name: &str, pattern: bool) -> Result<(), EgressError> {
    let sound = |c: char| c.is_ascii_graphic() && !"~^:?[\\,".contains(c) && (pattern || c != '*');
    if name.starts_with("refs/") && name.len() <= 255 && name.chars().all(sound) && !name.contains("***") {
        return Ok(());
    }
    Err(EgressError::Git(cut(name)))
}

fn is_upper_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)
}

/// What of git a pattern names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Git {
    Fetch,
    /// Pushes that change such refs.
    Push {
        refs: String,
        /// Whether a person says that nothing runs at the host when they do.
        no_ci: bool,
    },
}

/// How a rule says that.
const NO_CI: &str = "no-ci";

/// Names requests: `GET,HEAD https://*.example.com/v1/**?*`; or what git does with a repository: `FETCH
/// https://git.example.com/acme/*`, `PUSH https://git.example.com/acme/app refs/heads/agent/*`, and with `no-ci` after that,
/// where nothing runs on what is pushed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressPattern {
    /// Empty: every method.
    methods: Vec<String>,
    secure: bool,
    host: HostPattern,
    port: u16,
    /// For git, the repository's, without a final `.git`.
    path: String,
    query: Option<String>,
    git: Option<Git>,
    text: String,
}

impl EgressPattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names every method.
    #[must_use]
    pub fn is_every_method(&self) -> bool {
        self.methods.is_empty() && self.git.is_none()
    }

    /// Its hosts.
    #[must_use]
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Whether it leaves nothing open but the method.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.host.below().is_none() && !self.path.contains('*') && self.query.as_deref() != Some("*")
    }

    /// Whether it is about fetching from a repository.
    #[must_use]
    pub fn is_fetch(&self) -> bool {
        self.git == Some(Git::Fetch)
    }

    /// Whether it is about pushes, and doesn't say that nothing runs on them.
    #[must_use]
    pub fn may_run(&self) -> bool {
        matches!(self.git, Some(Git::Push { no_ci: false, .. }))
    }

    /// Whether it is about pushes, and says that nothing runs on them.
    #[must_use]
    pub fn runs_nothing(&self) -> bool {
        matches!(self.git, Some(Git::Push { no_ci: true, .. }))
    }

    /// Whether the agent chooses what such requests say: by a method that does more than read, by any query, or by what is
    /// pushed.
    #[must_use]
    pub fn speaks(&self) -> bool {
        let reads = |method: &String| ["GET", "HEAD"].contains(&method.as_str());
        match &self.git {
            Some(Git::Push { .. }) => true,
            Some(Git::Fetch) => false,
            None => {
                self.query.as_deref() == Some("*")
                    || self.methods.is_empty()
                    || !self.methods.iter().all(reads)
            }
        }
    }

    /// A rule about pushes as it would be if it said that nothing runs on them.
    #[must_use]
    pub fn with_no_ci(&self) -> Option<Self> {
        if self.may_run() { format!("{} {NO_CI}", self.text).parse().ok() } else { None }
    }

    /// Whether it names a request, by a rule that answers so. A denial without `?` is about any query, everything else
    /// without one about none. A push is allowed by a rule that names all of its refs, and asked about or denied by one
    /// that names any of them; one that says no ref, as git begins it and tries out whether it may, is denied by no rule
    /// about pushes. Rules that aren't about git allow none.
    #[must_use]
    pub fn names(&self, target: &EgressTarget, answer: Answer) -> bool {
        let denies = answer == Answer::Deny;
        let there = self.secure == target.secure && self.port == target.port && self.host.names(&target.host);
        if let Some(git) = &self.git {
            return there && self.names_git(git, target, answer);
        }
        if target.could_push() && !denies {
            return false;
        }
        let query = match (&self.query, &target.query) {
            (None, None) => true,
            (None, Some(_)) => denies,
            (Some(pattern), Some(_)) if pattern == "*" => true,
            (Some(pattern), query) => query.as_ref() == Some(pattern) || (pattern == "*" && query.is_none()),
        };
        query
            && there
            && (self.methods.is_empty() || self.methods.contains(&target.method))
            && matches(self.path.as_bytes(), target.path.as_bytes())
    }

    fn names_git(&self, git: &Git, target: &EgressTarget, answer: Answer) -> bool {
        let (query, path) = match git {
            Git::Fetch => (FETCH_QUERY, FETCH_PATH),
            Git::Push { .. } => (PUSH_QUERY, PUSH_PATH),
        };
        let begins = target.begins_git() && target.query.as_deref() == Some(query);
        let repository = match target.path.strip_suffix(BEGIN_PATH) {
            Some(repository) if begins => repository,
            Some(_) | None if target.method == "POST" && target.query.is_none() => {
                target.path.strip_suffix(path).unwrap_or_default()
            }
            Some(_) | None => return false,
        };
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        if !matches(self.path.as_bytes(), repository.as_bytes()) {
            return false;
        }
        let named = |pattern: &String, name: &String| matches(pattern.as_bytes(), name.as_bytes());
        match git {
            Git::Push { refs, .. } if !begins && answer == Answer::Allow => {
                target.refs.iter().all(|name| named(refs, name))
            }
            Git::Push { refs, .. } if !begins && !target.refs.is_empty() => {
                target.refs.iter().any(|name| named(refs, name))
            }
            Git::Push { .. } => answer != Answer::Deny,
            Git::Fetch => true,
        }
    }

    /// Whether it is about pushes.
    fn is_push(&self) -> bool {
        matches!(self.git, Some(Git::Push { .. }))
    }

    /// Whether it is about a push to this ref, whatever the repository.
    fn names_ref(&self, name: &str) -> bool {
        matches!(&self.git, Some(Git::Push { refs, .. }) if matches(refs.as_bytes(), name.as_bytes()))
    }

    /// A request that it names, for people.
    #[must_use]
    pub fn example(&self) -> EgressTarget {
        let host = match self.host.below() {
            Some(below) => format!("any.{below}"),
            None => self.host.as_str().trim_matches(['[', ']']).to_owned(),
        };
        let plain = |text: &str| text.replace("**", "any/thing").replace('*', "any");
        let path = plain(&self.path);
        let (secure, port) = (self.secure, self.port);
        match &self.git {
            Some(Git::Fetch) => {
                let (path, query) = (path + BEGIN_PATH, Some(FETCH_QUERY.to_owned()));
                return EgressTarget {
                    method: "GET".to_owned(),
                    secure,
                    host,
                    port,
                    path,
                    query,
                    refs: vec![],
                };
            }
            Some(Git::Push { refs, .. }) => {
                let (path, refs) = (path + PUSH_PATH, vec![plain(refs)]);
                return EgressTarget {
                    method: "POST".to_owned(),
                    secure,
                    host,
                    port,
                    path,
                    query: None,
                    refs,
                };
            }
            None => {}
        }
        let query = self.query.as_ref().map(|query| query.replace('*', "any=thing"));
        let method = self.methods.first().cloned().unwrap_or_else(|| "GET".to_owned());
        EgressTarget { method, secure, host, port, path, query, refs: vec![] }
    }

    /// A request that it names for each of its methods, for people.
    #[must_use]
    pub fn examples(&self) -> Vec<EgressTarget> {
        let first = self.example();
        let others = self
            .methods
            .iter()
            .skip(1)
            .map(|method| EgressTarget { method: method.clone(), ..first.clone() });
        std::iter::once(first.clone()).chain(others.collect::<Vec<_>>()).collect()
    }

    /// Reads a rule about git.
    fn git(text: &str) -> Result<Self, EgressError> {
        let wrong = || EgressError::Git(cut(text));
        let mut words = text.split(' ');
        let (verb, url, refs) = (words.next(), words.next().ok_or_else(wrong)?, words.next());
        let git = match (verb, refs, words.next()) {
            (Some("FETCH"), None, None) => Git::Fetch,
            (Some("PUSH"), Some(refs), None) => {
                check_ref(refs, true)?;
                Git::Push { refs: refs.to_owned(), no_ci: false }
            }
            (Some("PUSH"), Some(refs), Some(NO_CI)) => {
                check_ref(refs, true)?;
                // Many hosts run something for any branch or tag.
                let close = |kind| refs.strip_prefix(kind).is_some_and(|rest| !rest.starts_with('*'));
                if !close("refs/heads/") && !close("refs/tags/") {
                    return Err(EgressError::NoCi);
                }
                Git::Push { refs: refs.to_owned(), no_ci: true }
            }
            (_, _, _) => return Err(wrong()),
        };
        let whole = format!("GET {url}");
        let parts = Parts::of(&whole)?;
        check_spelling(parts.path, true)?;
        let path = parts.path.strip_suffix(".git").unwrap_or(parts.path);
        if words.next().is_some() || parts.query.is_some() || path.len() < 2 || path.ends_with('/') {
            return Err(wrong());
        }
        let (host, path) = (parts.host.parse()?, path.to_owned());
        let (secure, port, text) = (parts.secure, parts.port, text.to_owned());
        Ok(Self { methods: Vec::new(), secure, host, port, path, query: None, git: Some(git), text })
    }
}

/// Whether a path is what a pattern says: `*` is anything without a slash, `**` anything.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    // For each place in the path, whether the pattern so far can end there.
    let mut ends = vec![false; path.len().saturating_add(1)];
    if let Some(first) = ends.first_mut() {
        *first = true;
    }
    let mut rest = pattern;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        let stars = *token == b'*';
        let all = stars && after.first() == Some(&b'*');
        if all {
            rest = after.get(1..).unwrap_or_default();
        }
        let mut next = vec![false; ends.len()];
        let mut open = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let byte = at.checked_sub(1).and_then(|before| path.get(before));
            let before = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(false);
            if stars {
                let goes_on = open && byte.is_some_and(|byte| all || *byte != b'/');
                open = goes_on || ends.get(at).copied().unwrap_or(false);
                *slot = open;
            } else {
                *slot = before && byte == Some(token);
            }
        }
        ends = next;
    }
    ends.last().copied().unwrap_or(false)
}

impl TryFrom<String> for EgressPattern {
    type Error = EgressError;
    fn try_from(text: String) -> Result<Self, EgressError> {
        refuse_user(&text)?;
        if ["FETCH", "PUSH"].contains(&text.split(' ').next().unwrap_or_default()) {
            return Self::git(&text);
        }
        let parts = Parts::of(&text)?;
        let mut methods: Vec<String> = Vec::new();
        if parts.methods != "*" {
            for method in parts.methods.split(',') {
                check_method(method)?;
                methods.push(method.to_owned());
            }
        }
        check_spelling(parts.path, true)?;
        if let Some(query) = parts.query {
            check_query(query)?;
            if query != "*" && query.contains('*') {
                let why = "`?*` is any query; else it is written out";
                return Err(EgressError::Spelling { text: cut(query), why });
            }
        }
        Ok(Self {
            methods,
            secure: parts.secure,
            host: parts.host.parse()?,
            port: parts.port,
            path: parts.path.to_owned(),
            query: parts.query.map(str::to_owned),
            git: None,
            text: text.clone(),
        })
    }
}

impl FromStr for EgressPattern {
    type Err = EgressError;
    fn from_str(text: &str) -> Result<Self, EgressError> {
        Self::try_from(text.to_owned())
    }
}

impl From<EgressPattern> for String {
    fn from(pattern: EgressPattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for EgressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One rule of `[egress]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRule {
    /// What it answers.
    pub answer: Answer,
    /// The requests that it is about.
    pub pattern: EgressPattern,
    /// Its line in the agent file, counted from 1; that of the preset's name, if it is of one. 0 if it is in no such file.
    pub line: usize,
    /// The preset that it is of.
    pub preset: Option<String>,
}

impl EgressRule {
    /// Whether it is about a request.
    #[must_use]
    pub fn names(&self, target: &EgressTarget) -> bool {
        self.pattern.names(target, self.answer)
    }
}

/// The table `[egress]`. What no rule names is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Its rules, in the order of the file.
    pub rules: Vec<EgressRule>,
    /// Most bytes of one request's body.
    pub body: ByteSize,
    /// Most requests of one session in a minute.
    pub requests_per_minute: u32,
    /// Most bytes that the agent sends in a day.
    pub bytes_out_per_day: ByteSize,
    /// Who is asked.
    pub approvals: ApprovalRule,
}

impl Egress {
    /// The rules that are about a request. A push one of whose refs no rule allows or asks about is denied whole. Where a
    /// push says no ref yet, nobody is asked about other refs than it may come to change.
    #[must_use]
    pub fn about(&self, target: &EgressTarget) -> Vec<&EgressRule> {
        let mut rules: Vec<&EgressRule> = self.rules.iter().filter(|rule| rule.names(target)).collect();
        let listed = |name: &String| {
            let about = |rule: &&EgressRule| rule.answer != Answer::Deny && rule.pattern.names_ref(name);
            rules.iter().any(about)
        };
        if !target.refs.iter().all(listed) {
            rules.retain(|rule| rule.answer == Answer::Deny);
        }
        if target.refs.is_empty() && rules.iter().any(|rule| rule.answer == Answer::Allow) {
            rules.retain(|rule| rule.answer != Answer::Ask || !rule.pattern.is_push());
        }
        rules
    }
}

#[cfg(test)]
mod tests;
