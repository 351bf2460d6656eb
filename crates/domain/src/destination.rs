//! Where something may go: scheme, host, port and the beginning of a path. Written in one spelling only; what has another
//! is refused, not repaired.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{UserInAddress, refuse_user};

/// Most bytes in a destination.
const MAX: usize = 2048;
/// Most bytes in a host's name (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Longer than any needs to be.
    #[error("an address has at most {MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// It says who asks.
    #[error(transparent)]
    User(#[from] UserInAddress),
    /// None of the schemes.
    #[error("`{0}` doesn't begin with https:// (or http://, imaps://, smtps://, smtp://)")]
    Scheme(String),
    /// Not a host in its usual spelling.
    #[error(
        "`{0}` is no host: write a name in lower case such as api.example.com, or an address in its usual spelling"
    )]
    Host(String),
    /// Not a port.
    #[error("`{0}` is no port")]
    Port(String),
    /// A path with more than one spelling.
    #[error(
        "`{0}` is no path to compare with: write it without `?`, `#`, `//`, `.` and `..`, and encode only what must be, \
         as %2A"
    )]
    Path(String),
}

/// How something is carried to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// A request in the clear.
    Http,
    /// A request in TLS.
    Https,
    /// Mail that is read, in TLS (RFC 8314).
    Imaps,
    /// Mail that is sent, in TLS (RFC 8314).
    Smtps,
    /// Mail that is sent, once STARTTLS has brought TLS (RFC 3207).
    Smtp,
}

impl Scheme {
    /// As URLs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Imaps => "imaps",
            Self::Smtps => "smtps",
            Self::Smtp => "smtp",
        }
    }

    /// The port where none is written.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Imaps => 993,
            Self::Smtps => 465,
            Self::Smtp => 587,
        }
    }

    /// Whether it carries HTTP; else mail.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    const ALL: [Self; 5] = [Self::Https, Self::Http, Self::Imaps, Self::Smtps, Self::Smtp];
}

/// What a request is about to do, in its one canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// How it is carried.
    pub scheme: Scheme,
    /// The host, in lower case; an address without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// An upper-case token.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
}

/// A place where something may go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Begins with `/`, and doesn't end with one unless that is all.
    path: String,
}

impl Destination {
    /// How requests are carried there.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host; an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How paths there begin.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the host is this machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Whether the request goes to this host, at this port, in this way; to whatever path.
    #[must_use]
    pub fn is_at(&self, target: &Target<'_>) -> bool {
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        self.scheme == target.scheme && self.port == target.port && self.host == host
    }

    /// Whether the request goes here: paths are compared segment by segment.
    #[must_use]
    pub fn covers(&self, target: &Target<'_>) -> bool {
        self.is_at(target) && begins(target.path, &self.path)
    }

    /// Whether all that goes to the other goes here too.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host == other.host
            && self.port == other.port
            && begins(&other.path, &self.path)
    }
}

/// Whether a path begins with the segments of another. What has no one meaning begins with nothing.
fn begins(path: &str, prefix: &str) -> bool {
    let Some(rest) = path.strip_prefix(prefix.trim_end_matches('/')) else { return false };
    (rest.is_empty() || rest.starts_with('/')) && (prefix == "/" || leads_on(path))
}

/// Whether no reader of a path can come to leave what it begins with. Canonical paths never do; this holds for others too.
fn leads_on(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let hidden = ["%2e", "%2f", "%5c", "\\"].iter().any(|escape| lower.contains(escape));
    !hidden && !path.split('/').any(|part| matches!(part, "." | ".."))
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        if text.len() > MAX {
            return Err(DestinationError::TooLong(text.len()));
        }
        refuse_user(text)?;
        let of = |scheme: Scheme| Some((scheme, text.strip_prefix(scheme.as_str())?.strip_prefix("://")?));
        let found = Scheme::ALL.into_iter().find_map(of);
        let (scheme, rest) = found.ok_or_else(|| DestinationError::Scheme(short(text)))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) =
            match authority.rfind(':').filter(|at| !authority.get(*at..).is_some_and(|t| t.contains(']'))) {
                Some(at) => (authority.get(..at).unwrap_or_default(), authority.get(at.saturating_add(1)..)),
                None => (authority, None),
            };
        let port = match port {
            None => scheme.port(),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') => {
                digits.parse().map_err(|_| DestinationError::Port(short(digits)))?
            }
            Some(other) => return Err(DestinationError::Port(short(other))),
        };
        if !scheme.is_http() && path != "/" {
            return Err(DestinationError::Path(short(path)));
        }
        Ok(Self { scheme, host: checked_host(host)?, port, path: checked_path(path)? })
    }
}

fn checked_host(host: &str) -> Result<String, DestinationError> {
    let bad = || DestinationError::Host(short(host));
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(bad)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| bad())?;
        return (address.to_string() == inner).then(|| inner.to_owned()).ok_or_else(bad);
    }
    if host.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == host) {
        return Ok(host.to_owned());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label that begins with a digit is an address in some spelling, or nothing.
    let last = host.rsplit('.').next().unwrap_or_default();
    let sound = host.len() <= MAX_HOST
        && host.split('.').all(label)
        && !last.starts_with(|c: char| c.is_ascii_digit());
    sound.then(|| host.to_owned()).ok_or_else(bad)
}

fn checked_path(path: &str) -> Result<String, DestinationError> {
    let bad = || DestinationError::Path(short(path));
    let path = if path == "/" { path } else { path.strip_suffix('/').unwrap_or(path) };
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => {
                let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok()).ok_or_else(bad)?;
                let encoded = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
                let one_spelling = digits == digits.to_ascii_uppercase()
                    && !digits.starts_with('+')
                    && !unreserved(encoded)
                    && !b"/\\%\0".contains(&encoded);
                if !one_spelling {
                    return Err(bad());
                }
                after.get(2..).unwrap_or_default()
            }
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'=' => after,
            other if unreserved(other) => after,
            _other => return Err(bad()),
        };
    }
    let plain = path == "/" || path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    (plain && path.starts_with('/')).then(|| path.to_owned()).ok_or_else(bad)
}

/// RFC 3986, section 2.3.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn short(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        if self.path == "/" { Ok(()) } else { f.write_str(&self.path) }
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;
    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Destination {
        text.parse().unwrap()
    }

    fn https<'a>(host: &'a str, path: &'a str) -> Target<'a> {
        Target { scheme: Scheme::Https, host, port: 443, method: "GET", path }
    }

    #[test]
    fn paths_are_compared_by_whole_segments() {
        let repos = at("https://api.github.com/repos/acme");
        for (path, covered) in [
            ("/repos/acme", true),
            ("/repos/acme/", true),
            ("/repos/acme/x", true),
            ("/repos/acme-evil", false),
            ("/repos/acme/../evil", false),
            ("/repos/acme/%2e%2E/evil", false),
            ("/repos/acme/x%2F..%2f../evil", false),
            ("/repos/acme/..%5Cevil", false),
            ("/repos/acme/\\..\\evil", false),
            ("/repos", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(repos.covers(&https("api.github.com", path)), covered, "{path}");
        }
        // Nothing is left where everything is meant.
        assert!(at("https://api.github.com").covers(&https("api.github.com", "/any%2Fthing")));
    }

    #[test]
    fn another_host_port_or_scheme_is_elsewhere() {
        let api = at("https://api.github.com");
        let here = https("api.github.com", "/");
        assert!(api.covers(&here));
        assert!(!api.covers(&Target { port: 8443, ..here }));
        assert!(!api.covers(&Target { scheme: Scheme::Http, ..here }));
        for host in ["github.com", "api.github.com.evil.example", "API.github.com", "api.github.com."] {
            assert!(!api.covers(&https(host, "/")), "{host}");
        }
        assert!(at("https://[::1]:8443").is_at(&Target { port: 8443, ..https("::1", "/") }));
    }

    #[test]
    fn only_one_spelling_is_taken() {
        for bad in [
            "",
            "https://",
            "ftp://a",
            "api.github.com",
            "https://A.example",
            "https://a.example.",
            "https://u@a",
            "https://a:0",
            "https://a:080",
            "https://a:65536",
            "https://a:",
            "https://127.1",
            "https://0x7f.1",
            "https://2130706433",
            "https://127.0.0.01",
            "https://[::0001]",
            "https://[::1",
            "https://a..b",
            "https://-a",
            "https://a/..",
            "https://a/b/./c",
            "https://a//b",
            "https://a/%2e%2e",
            "https://a/%2F",
            "https://a/%61",
            "https://a/%2a",
            "https://a/%",
            "https://a/%+1",
            "https://a/?q",
            "https://a/#f",
            "https://a/ b",
            "https://a/é",
            "https://*.example",
            "https://a\\b",
            "imaps://a/inbox",
        ] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
        for good in [
            "https://api.github.com",
            "https://a/b",
            "https://127.0.0.1:8443",
            "http://[::1]:1/x",
            "https://a/%2A",
            "imaps://imap.example.com",
            "smtp://a:25",
        ] {
            assert_eq!(at(good).to_string(), good);
        }
        assert_eq!(at("https://a:443/b/").to_string(), "https://a/b");
    }

    #[test]
    fn what_is_included_is_covered_too() {
        assert!(at("https://a").includes(&at("https://a/b")));
        assert!(!at("https://a/b").includes(&at("https://a")));
        assert!(!at("https://a/b").includes(&at("https://a/bc")));
        assert!(!at("https://a").includes(&at("https://a:8443")));
    }

    proptest! {
        #[test]
        fn a_destination_reads_back_as_it_was_written(text in "https?://[a-z0-9.:\\[\\]-]{1,20}(/[a-zA-Z0-9%._~/-]{0,20})?") {
            if let Ok(read) = text.parse::<Destination>() {
                prop_assert_eq!(at(&read.to_string()), read);
            }
        }
    }
}
