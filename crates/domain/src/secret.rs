//! Secrets as everybody may know them: their names, where they may go and in which header. Never their bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Destination, Scheme, SecretName, Target};

/// What a name begins with in the environment of a cell.
const VARIABLE: &str = "LAZARET_SECRET_";
/// What a placeholder begins with.
const PLACEHOLDER: &str = "lazaret-secret-";

impl SecretName {
    /// The variable of a cell's environment that holds the placeholder, for programs that insist on a key.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE}{}", self.as_str().to_ascii_uppercase().replace('-', "_"))
    }

    /// What a cell gets to see instead of the secret. It opens nothing: the host overwrites the header that holds it.
    #[must_use]
    pub fn placeholder(&self) -> String {
        format!("{PLACEHOLDER}{self}")
    }
}

/// A variable of a cell's environment that a person chose for a placeholder, such as `GITHUB_TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlaceholderVariable(String);

/// Why a text names no such variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// It is none.
    #[error("a variable is 1 to 64 of A to Z, 0 to 9 and `_`, and begins with a letter")]
    Form,
    /// It is what a cell's programs need otherwise.
    #[error("`{0}` says something else to programs in a cell")]
    Taken(String),
}

/// Variables by which programs in a cell find each other, their way out, and whom they trust there.
const TAKEN: &[&str] = &[
    "ALL_PROXY",
    "BASH_ENV",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "ENV",
    "GIT_SSL_CAINFO",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IFS",
    "LANG",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NODE_USE_ENV_PROXY",
    "NO_PROXY",
    "PATH",
    "PIP_CERT",
    "PWD",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "USER",
];

impl PlaceholderVariable {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PlaceholderVariable {
    type Error = VariableError;
    fn try_from(text: String) -> Result<Self, VariableError> {
        let sound = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !sound {
            return Err(VariableError::Form);
        }
        let taken = TAKEN.contains(&text.as_str())
            || ["LAZARET_", "LC_", "LD_"].iter().any(|prefix| text.starts_with(prefix));
        if taken { Err(VariableError::Taken(text)) } else { Ok(Self(text)) }
    }
}

impl From<PlaceholderVariable> for String {
    fn from(variable: PlaceholderVariable) -> Self {
        variable.0
    }
}

/// Why a secret can't be bound so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// None of the ways that there are.
    #[error(
        "`{0}` is no way to show a secret: write bearer, basic:USER, header:NAME, password or proxy:USER"
    )]
    How(String),
    /// A header that says how the request is carried, or what no header is called.
    #[error("`{0}` is no header that can carry a secret")]
    Header(String),
    /// A user's name that Basic authentication can't carry.
    #[error("`{0}` is no user's name: 1 to {max} printable ASCII characters without `:`", max = How::MAX)]
    User(String),
    /// Not a method.
    #[error("`{0}` is no method: write it in upper case, such as GET")]
    Method(String),
    /// A header for mail, or a log-in for requests.
    #[error(
        "`{to}` doesn't take a secret as `{how}`: mail takes it as password, or a log-in's token as bearer; a proxy as \
         proxy:USER; everything else in a header"
    )]
    NotSo {
        /// Where.
        to: String,
        /// How.
        how: String,
    },
    /// The log-in of a part of a proxy.
    #[error("`{0}` is no whole proxy: bind its log-in to http(s)://host:port, without a path and methods")]
    PartOfProxy(String),
    /// Unencrypted to another machine.
    #[error("`{0}` would carry the secret unencrypted to another machine: use https")]
    PlainHttp(String),
}

/// How a secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum How {
    /// `authorization: Bearer …` (RFC 6750); to a mail server, the token of a log-in (RFC 7628).
    Bearer,
    /// `authorization: Basic …`, with this user's name (RFC 7617).
    Basic(String),
    /// This header, in lower case; nothing but the secret is its value.
    Header(String),
    /// As the password of a log-in, for mail.
    Password,
    /// As the password of this user at the outer proxy: to no request, only when the proxy is asked for a connection.
    Proxy(String),
}

impl How {
    /// Most bytes of a user's or a header's name.
    pub const MAX: usize = 128;

    /// The header of requests, in lower case; none for a password.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Bearer | Self::Basic(_) => Some("authorization"),
            Self::Header(name) => Some(name),
            Self::Password | Self::Proxy(_) => None,
        }
    }

    /// The user at the outer proxy; none if it goes elsewhere.
    #[must_use]
    pub fn proxy_user(&self) -> Option<&str> {
        match self {
            Self::Proxy(user) => Some(user),
            Self::Bearer | Self::Basic(_) | Self::Header(_) | Self::Password => None,
        }
    }
}

/// Headers that say how a request is carried, or by which some servers take another method, path or host for that of the
/// request: a secret in one of them would change what the request is.
const NEVER: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-envoy-original-path",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-ms-original-url",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-url",
];

/// Whether a header, in lower case, says what the request is. Many servers take `_` for `-`.
fn is_never(name: &str) -> bool {
    let name = name.replace('_', "-");
    NEVER.contains(&name.as_str()) || name.starts_with("proxy-") || name.starts_with("x-forwarded")
}

impl FromStr for How {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        if text == "bearer" {
            return Ok(Self::Bearer);
        }
        if text == "password" {
            return Ok(Self::Password);
        }
        let user = text.strip_prefix("basic:").map(|user| (user, Self::Basic as fn(String) -> Self));
        let at_proxy = || text.strip_prefix("proxy:").map(|user| (user, Self::Proxy as fn(String) -> Self));
        if let Some((user, how)) = user.or_else(at_proxy) {
            let sound = (1..=Self::MAX).contains(&user.len())
                && user.bytes().all(|b| (b == b' ' || b.is_ascii_graphic()) && b != b':');
            return sound.then(|| how(user.to_owned())).ok_or_else(|| BindingError::User(short(user)));
        }
        if let Some(name) = text.strip_prefix("header:") {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let lower = name.to_ascii_lowercase();
            let sound = (1..=Self::MAX).contains(&name.len()) && name.bytes().all(token) && !is_never(&lower);
            return sound.then_some(Self::Header(lower)).ok_or_else(|| BindingError::Header(short(name)));
        }
        Err(BindingError::How(short(text)))
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Basic(user) => write!(f, "basic:{user}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Password => f.write_str("password"),
            Self::Proxy(user) => write!(f, "proxy:{user}"),
        }
    }
}

impl TryFrom<String> for How {
    type Error = BindingError;
    fn try_from(text: String) -> Result<Self, BindingError> {
        text.parse()
    }
}

impl From<How> for String {
    fn from(how: How) -> Self {
        how.to_string()
    }
}

/// Where a secret may go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretBinding {
    /// The place.
    pub to: Destination,
    /// The methods of requests that may carry it; empty: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// In which header, or as what.
    pub how: How,
}

impl SecretBinding {
    /// Refuses what no secret may be bound to: one that comes of a log-in, or one that does not.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, of_login: bool) -> Result<(), BindingError> {
        let method = |method: &String| {
            !((1..=16).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_uppercase()))
        };
        if let Some(bad) = self.methods.iter().find(|name| method(name)) {
            return Err(BindingError::Method(short(bad)));
        }
        // Mail servers take tokens and passwords, and each as what it is.
        let good = match self.how {
            How::Password => !self.to.scheme().is_http() && !of_login,
            How::Bearer => self.to.scheme().is_http() || of_login,
            How::Basic(_) | How::Header(_) => self.to.scheme().is_http(),
            How::Proxy(_) => self.to.scheme().is_http() && !of_login,
        };
        if !good {
            return Err(BindingError::NotSo { to: self.to.to_string(), how: self.how.to_string() });
        }
        if let How::Proxy(_) = self.how {
            let whole = self.to.path() == "/" && self.methods.is_empty();
            // Whether one may go to another machine in the clear is said where it is used: in the configuration.
            return if whole { Ok(()) } else { Err(BindingError::PartOfProxy(self.to.to_string())) };
        }
        if self.to.scheme() == Scheme::Http && !self.to.is_loopback() {
            return Err(BindingError::PlainHttp(self.to.to_string()));
        }
        Ok(())
    }

    /// Whether a request may carry the secret.
    #[must_use]
    pub fn covers(&self, target: &Target<'_>) -> bool {
        self.to.covers(target) && (self.methods.is_empty() || self.methods.contains(target.method))
    }
}

impl fmt::Display for SecretBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, method) in self.methods.iter().enumerate() {
            write!(f, "{}{method}", if at == 0 { "" } else { "," })?;
        }
        if !self.methods.is_empty() {
            f.write_str(" ")?;
        }
        write!(f, "{} as {}", self.to, self.how)
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_names_the_secret_and_nothing_else() {
        let name: SecretName = "github-token".parse().unwrap();
        assert_eq!(name.variable(), "LAZARET_SECRET_GITHUB_TOKEN");
        assert_eq!(name.placeholder(), "lazaret-secret-github-token");
    }

    #[test]
    fn a_placeholder_takes_no_variable_that_says_something_else() {
        let variable = |text: &str| PlaceholderVariable::try_from(text.to_owned());
        for good in ["GITHUB_TOKEN", "NODE_AUTH_TOKEN", "OPENAI_API_KEY", "A1"] {
            assert_eq!(variable(good).unwrap().as_str(), good);
        }
        for bad in ["", "github_token", "A-B", "A=B", "A\n", "1A", "_A", &"A".repeat(65)] {
            assert_eq!(variable(bad), Err(VariableError::Form), "{bad}");
        }
        for taken in ["PATH", "LD_PRELOAD", "LAZARET_MODEL", "HTTPS_PROXY", "SSL_CERT_FILE", "NODE_OPTIONS"] {
            assert!(matches!(variable(taken), Err(VariableError::Taken(_))), "{taken}");
        }
    }

    #[test]
    fn a_secret_goes_only_in_headers_that_carry_one() {
        for good in
            ["bearer", "password", "basic:ann", "proxy:CORP\\ann", "header:x-api-key", "header:cookie"]
        {
            assert_eq!(good.parse::<How>().unwrap().to_string(), good);
        }
        assert_eq!("header:X-Api-Key".parse(), Ok(How::Header("x-api-key".to_owned())));
        for bad in [
            "",
            "Bearer",
            "basic",
            "basic:",
            "basic:a:b",
            "basic:a\n",
            "proxy",
            "proxy:",
            "proxy:a:b",
            "proxy:a\r\nb",
            "header:",
            "header:a b",
            "header:a\r\nb",
            "header:Host",
            "header:X-HTTP-Method-Override",
            "header:x_http_method",
            "header:x-original-url",
            "header:x-forwarded-host",
            "header:forwarded",
            "header:x-host",
            "header:Content-Length",
            "header:transfer-encoding",
            "header:proxy-authorization",
        ] {
            assert!(bad.parse::<How>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_never_bound_unencrypted_to_another_machine() {
        let bound = |to: &str, methods: &[&str]| {
            let methods = methods.iter().map(|method| (*method).to_owned()).collect();
            SecretBinding { to: to.parse().unwrap(), methods, how: How::Bearer }.check(false)
        };
        assert_eq!(bound("https://a", &["GET"]), Ok(()));
        assert_eq!(bound("http://127.0.0.1:8080", &[]), Ok(()));
        assert!(matches!(bound("http://a", &[]), Err(BindingError::PlainHttp(_))));
        assert!(matches!(bound("imaps://a", &[]), Err(BindingError::NotSo { .. })));
        assert!(matches!(bound("https://a", &["get"]), Err(BindingError::Method(_))));
    }

    #[test]
    fn the_log_in_of_a_proxy_is_bound_to_a_whole_proxy() {
        let bound = |to: &str, methods: &[&str], of_login: bool| {
            let methods = methods.iter().map(|method| (*method).to_owned()).collect();
            let how = "proxy:ann".parse().unwrap();
            SecretBinding { to: to.parse().unwrap(), methods, how }.check(of_login)
        };
        for to in ["https://proxy.example:3129", "http://127.0.0.1:3128", "http://proxy.example:3128"] {
            assert_eq!(bound(to, &[], false), Ok(()), "{to}");
        }
        let part = Err(BindingError::PartOfProxy("https://proxy.example/a".to_owned()));
        assert_eq!(bound("https://proxy.example/a", &[], false), part);
        assert!(matches!(bound("https://proxy.example", &["GET"], false), Err(BindingError::PartOfProxy(_))));
        assert!(matches!(bound("https://proxy.example", &[], true), Err(BindingError::NotSo { .. })));
        assert!(matches!(bound("imaps://proxy.example", &[], false), Err(BindingError::NotSo { .. })));
    }

    #[test]
    fn mail_takes_the_password_of_a_secret_and_the_token_of_a_log_in() {
        let bound = |to: &str, how: &str, of_login: bool| {
            let binding =
                SecretBinding { to: to.parse().unwrap(), methods: [].into(), how: how.parse().unwrap() };
            binding.check(of_login).is_ok()
        };
        for to in ["imaps://a", "smtps://a", "smtp://a"] {
            assert!(bound(to, "password", false) && bound(to, "bearer", true), "{to}");
            assert!(!bound(to, "password", true) && !bound(to, "bearer", false), "{to}");
            assert!(!bound(to, "header:x-key", true) && !bound(to, "basic:ann", false), "{to}");
        }
        assert!(!bound("https://a", "password", false) && !bound("https://a", "password", true));
    }

    #[test]
    fn methods_narrow_a_binding() {
        let methods = BTreeSet::from(["GET".to_owned()]);
        let binding = SecretBinding { to: "https://a".parse().unwrap(), methods, how: How::Bearer };
        let get = Target { scheme: Scheme::Https, host: "a", port: 443, method: "GET", path: "/" };
        assert!(binding.covers(&get));
        assert!(!binding.covers(&Target { method: "POST", ..get }));
        assert_eq!(binding.to_string(), "GET https://a as bearer");
    }
}
