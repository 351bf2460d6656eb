//! What may leave a cell: requests in their canonical form, and the rules of `[egress]` that name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Answer, ApprovalRule, ByteSize, HostError, HostPattern};

/// Why a text is no request, or names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Not methods and a URL.
    #[error("`{0}` is not written as METHOD URL, such as GET https://api.example.com/v1/**")]
    Form(String),
    /// Not a method.
    #[error("`{0}` is no method: write GET, or several as GET,HEAD")]
    Method(String),
    /// All methods where they are allowed or asked for.
    #[error("`*` for the methods is for `deny` alone: name those that are meant")]
    EveryMethod,
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

    /// Whether its method is one that only reads.
    #[must_use]
    pub fn reads(&self) -> bool {
        READING.contains(&self.method.as_str())
    }
}

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
        write!(f, "{} {}", self.method, self.url())
    }
}

/// Reads `GET https://host/path`, which must be in its canonical form already.
impl FromStr for EgressTarget {
    type Err = EgressError;
    fn from_str(text: &str) -> Result<Self, EgressError> {
        let parts = Parts::of(text)?;
        let method = parts.methods;
        check_method(method)?;
        let host: HostPattern = parts.host.parse()?;
        if host.below().is_some() {
            return Err(EgressError::Host(HostError::NoHost(cut(parts.host))));
        }
        check_spelling(parts.path, false)?;
        parts.query.map_or(Ok(()), |query| check_spelling(query, false))?;
        Ok(Self {
            method: method.to_owned(),
            secure: parts.secure,
            host: host.as_str().trim_matches(['[', ']']).to_owned(),
            port: parts.port,
            path: parts.path.to_owned(),
            query: parts.query.map(str::to_owned),
        })
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

/// Holds a path or a query against the spelling that requests have; in a pattern, `*` is a wildcard.
fn check_spelling(text: &str, pattern: bool) -> Result<(), EgressError> {
    let wrong = |why| Err(EgressError::Spelling { text: cut(text), why });
    if text.len() > 8 << 10 {
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
                    Some(b'/' | b'\\' | 0) => {
                        return wrong("an encoded slash, backslash or zero never leaves");
                    }
                    Some(_) => length = 3,
                }
            }
            b'\\' | b'#' => return wrong("a backslash or `#` never leaves"),
            byte if byte.is_ascii_graphic() => {}
            _ => return wrong("other characters than those of ASCII are percent-encoded"),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    if text.starts_with('/') && text.split('/').any(|segment| segment == "." || segment == "..") {
        return wrong("`.` and `..` never leave");
    }
    if pattern && text.contains("***") {
        return wrong("there are `*` and `**`, no more");
    }
    Ok(())
}

fn is_upper_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)
}

/// Names requests: `GET,HEAD https://*.example.com/v1/**?*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressPattern {
    /// Empty: every method.
    methods: Vec<String>,
    secure: bool,
    host: HostPattern,
    port: u16,
    path: String,
    query: Option<String>,
    text: String,
}

impl EgressPattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its methods; empty: every one.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
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

    /// Whether it names a request. A denial without `?` is about any query, everything else without one about none.
    #[must_use]
    pub fn names(&self, target: &EgressTarget, denies: bool) -> bool {
        let query = match (&self.query, &target.query) {
            (None, None) => true,
            (None, Some(_)) => denies,
            (Some(pattern), Some(_)) if pattern == "*" => true,
            (Some(pattern), query) => query.as_ref() == Some(pattern) || (pattern == "*" && query.is_none()),
        };
        query
            && (self.methods.is_empty() || self.methods.contains(&target.method))
            && self.secure == target.secure
            && self.port == target.port
            && self.host.names(&target.host)
            && matches(self.path.as_bytes(), target.path.as_bytes())
    }

    /// A request that it names, for people.
    #[must_use]
    pub fn example(&self) -> EgressTarget {
        let host = match self.host.below() {
            Some(below) => format!("any.{below}"),
            None => self.host.as_str().trim_matches(['[', ']']).to_owned(),
        };
        let path = self.path.replace("**", "any/thing").replace('*', "any");
        let query = self.query.as_ref().map(|query| query.replace('*', "any=thing"));
        let method = self.methods.first().cloned().unwrap_or_else(|| "GET".to_owned());
        EgressTarget { method, secure: self.secure, host, port: self.port, path, query }
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
            check_spelling(query, true)?;
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
    /// Its line in the agent file, counted from 1.
    pub line: usize,
}

impl EgressRule {
    /// Whether it is about a request.
    #[must_use]
    pub fn names(&self, target: &EgressTarget) -> bool {
        self.pattern.names(target, self.answer == Answer::Deny)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(pattern: &str, target: &str) -> bool {
        pattern.parse::<EgressPattern>().unwrap().names(&target.parse().unwrap(), false)
    }

    #[test]
    fn a_rule_names_methods_host_port_path_and_query() {
        let github = "GET https://api.github.com/repos/acme/**";
        for (pattern, target, named) in [
            (github, "GET https://api.github.com/repos/acme/a/b", true),
            (github, "GET https://api.github.com/repos/acme/", true),
            (github, "GET https://api.github.com/repos/acme", false),
            (github, "GET https://api.github.com/repos/acme2/a", false),
            (github, "POST https://api.github.com/repos/acme/a", false),
            (github, "GET http://api.github.com/repos/acme/a", false),
            (github, "GET https://api.github.com:8443/repos/acme/a", false),
            (github, "GET https://api.github.com.evil.org/repos/acme/a", false),
            (github, "GET https://api.github.com/repos/acme/a?b", false),
            ("GET https://a.example/**?*", "GET https://a.example/x?y=1", true),
            ("GET https://a.example/**?*", "GET https://a.example/x", true),
            ("GET https://a.example/x?y=1", "GET https://a.example/x?y=1", true),
            ("GET https://a.example/x?y=1", "GET https://a.example/x?y=2", false),
            ("GET https://a.example/x?y=1", "GET https://a.example/x", false),
            ("GET,HEAD https://*.example.com/*", "HEAD https://a.example.com/x", true),
            ("GET,HEAD https://*.example.com/*", "HEAD https://a.example.com/x/y", false),
            ("GET https://a.example/v*/x", "GET https://a.example/v1/x", true),
            ("GET https://a.example/v*/x", "GET https://a.example/v1/y/x", false),
            ("GET https://a.example/**/x", "GET https://a.example/v1/y/x", true),
            ("GET https://a.example", "GET https://a.example/", true),
            ("GET https://a.example:8443/", "GET https://a.example:8443/", true),
            ("GET https://[::1]:1/", "GET https://[::1]:1/", true),
        ] {
            assert_eq!(names(pattern, target), named, "{pattern} {target}");
        }
    }

    #[test]
    fn a_denial_is_about_any_query_and_any_method() {
        let deny: EgressPattern = "* https://a.example/admin/**".parse().unwrap();
        for target in ["GET https://a.example/admin/?x", "PURGE https://a.example/admin/y"] {
            assert!(deny.names(&target.parse().unwrap(), true), "{target}");
        }
        assert!(!deny.names(&"GET https://a.example/other".parse().unwrap(), true));
    }

    #[test]
    fn what_requests_never_look_like_is_a_mistake() {
        for bad in [
            "https://a.example/",
            "GET a.example/",
            "GET ftp://a.example/",
            "get https://a.example/",
            "GET, https://a.example/",
            "CONNECT https://a.example/",
            "GET https://A.example/",
            "GET https://*.com/",
            "GET https://user@a.example/",
            "GET https://a.example:0/",
            "GET https://a.example:/",
            "GET https://a.example/../x",
            "GET https://a.example/a%2fb",
            "GET https://a.example/a%2Fb",
            "GET https://a.example/%61",
            "GET https://a.example/%c3%a9",
            "GET https://a.example/\u{e9}",
            "GET https://a.example/a b",
            "GET https://a.example/a\\b",
            "GET https://a.example/#x",
            "GET https://a.example/***",
            "GET https://a.example/?x=*",
            "GET https://a.example/%",
            "GET https://127.1/",
            "",
        ] {
            assert!(bad.parse::<EgressPattern>().is_err(), "{bad}");
        }
        assert!("* https://a.example/".parse::<EgressPattern>().unwrap().methods().is_empty());
        assert!("GET https://a.example/%C3%A9".parse::<EgressPattern>().is_ok());
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = format!("GET https://a.example/{}x", "*a".repeat(200));
        let target = format!("GET https://a.example/{}", "a".repeat(4000));
        assert!(!names(&pattern, &target));
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_names_only_itself(a in "/[a-c/]{0,6}", b in "/[a-c/]{0,6}") {
            let (pattern, target) = (format!("GET https://a.example{a}"), format!("GET https://a.example{b}"));
            prop_assert_eq!(names(&pattern, &target), a == b);
        }

        #[test]
        fn its_example_is_named(path in "/[a-c/*]{0,8}", host in "(\\*\\.)?a\\.example", query in "(\\?\\*|\\?x=1)?") {
            if let Ok(pattern) = format!("GET https://{host}{path}{query}").parse::<EgressPattern>() {
                prop_assert!(pattern.names(&pattern.example(), false));
                prop_assert_eq!(pattern.example().to_string().parse(), Ok(pattern.example()));
            }
        }

        #[test]
        fn a_star_passes_no_slash(middle in "[a-c/]{0,6}") {
            let target = format!("GET https://a.example/x{middle}y");
            prop_assert_eq!(names("GET https://a.example/x*y", &target), !middle.contains('/'));
            prop_assert!(names("GET https://a.example/x**y", &target));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop(text.parse::<EgressPattern>());
            drop(format!("GET https://{text}").parse::<EgressTarget>());
        }
    }
}
