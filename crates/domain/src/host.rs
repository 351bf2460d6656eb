//! Hosts as people write them: one by its name or address, or all below a name.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{UserInAddress, refuse_user};

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It says who asks.
    #[error(transparent)]
    User(#[from] UserInAddress),
    /// Not a name of the form that is decided on.
    #[error("`{0}` is no host: write it in lower case, such as api.example.com, *.example.com or 192.0.2.1")]
    NoHost(String),
    /// All of a top-level domain.
    #[error("`{0}` would be every host of a top-level domain: name at least one more part")]
    TooWide(String),
    /// The port is not a number from 1 to 65535.
    #[error("`{0}` has no port from 1 to 65535 after its colon")]
    NoPort(String),
}

/// Most bytes of a host's name (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// One host, or with `*.` before it every host below that name, however deep, but not the name itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this host, which is in its canonical form: lower case, no final dot, an IPv6 address in
    /// brackets or without.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix) && !host.starts_with(suffix),
            None => bare(&self.0) == bare(host),
        }
    }

    /// The name below which every host is meant; none when the pattern names a single host.
    #[must_use]
    pub fn below(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

/// Whether a text is a host's name or address in its one usual spelling.
fn is_canonical(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| format!("[{address}]") == host);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_ipv4();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    // A name whose last part is a number would be read as an address by some.
    let last_is_number = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"));
    host.len() <= MAX_HOST && host.split('.').all(label) && !last_is_number
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        refuse_user(&text)?;
        let shown = || text.chars().take(80).collect();
        match text.strip_prefix("*.") {
            None if is_canonical(&text) => Ok(Self(text)),
            Some(suffix) if is_canonical(suffix) && suffix.parse::<IpAddr>().is_err() => {
                if suffix.contains('.') && !suffix.starts_with('[') {
                    Ok(Self(text))
                } else {
                    Err(HostError::TooWide(shown()))
                }
            }
            Some(_) | None => Err(HostError::NoHost(shown())),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::try_from(text.to_owned())
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host that the person named, perhaps with the one port that is meant: `git.corp.example`, `127.0.0.1:8443`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamedHost {
    /// Which hosts.
    pub host: HostPattern,
    /// Which port; none: every one.
    pub port: Option<u16>,
}

impl NamedHost {
    /// Whether it names this host at this port.
    #[must_use]
    pub fn names(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|named| named == port) && self.host.names(host)
    }
}

impl TryFrom<String> for NamedHost {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        refuse_user(&text)?;
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let number = port.parse().ok().filter(|port: &u16| *port > 0 && !text.contains("+"));
                let number = number.ok_or_else(|| HostError::NoPort(text.chars().take(80).collect()))?;
                (host, Some(number))
            }
            Some(_) | None => (text.as_str(), None),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

impl FromStr for NamedHost {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::try_from(text.to_owned())
    }
}

impl From<NamedHost> for String {
    fn from(named: NamedHost) -> Self {
        named.to_string()
    }
}

impl fmt::Display for NamedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_in_one_spelling() {
        for good in
            ["api.example.com", "*.example.com", "localhost", "192.0.2.1", "[::1]", "xn--bcher-kva.example"]
        {
            assert_eq!(good.parse::<HostPattern>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "*.",
            "*.com",
            "*com.example",
            "a.*.example",
            "API.example",
            "a..b",
            "a.",
            ".a",
            "a b",
            "127.1",
            "0x7f.1",
            "2130706433",
            "a.1",
            "a.0x1",
            "::1",
            "[0::1]",
            "[::1",
            "*.[::1]",
            "*.192.0.2.1",
            "b\u{fc}cher.example",
            "-a.example",
            "a/b",
            "a@b",
            "a:80",
            "a%2eb",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_names_what_lies_below_and_nothing_beside() {
        let below: HostPattern = "*.example.com".parse().unwrap();
        for (host, named) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            ("aexample.com", false),
            (".example.com", false),
            ("a.example.com.evil.org", false),
        ] {
            assert_eq!(below.names(host), named, "{host}");
        }
        let one: HostPattern = "[::1]".parse().unwrap();
        assert!(one.names("::1") && one.names("[::1]") && !one.names("::2"));
    }

    #[test]
    fn a_port_is_one_or_all() {
        let one: NamedHost = "127.0.0.1:8443".parse().unwrap();
        assert!(one.names("127.0.0.1", 8443) && !one.names("127.0.0.1", 443));
        let all: NamedHost = "[::1]".parse().unwrap();
        assert!(all.names("::1", 1) && all.names("::1", 2));
        assert_eq!("[::1]:80".parse::<NamedHost>().unwrap().to_string(), "[::1]:80");
        for bad in ["a:0", "a:", "a:65536", "a:+80", "a:b", ":80", "a:80:80"] {
            assert!(bad.parse::<NamedHost>().is_err(), "{bad}");
        }
    }
}
