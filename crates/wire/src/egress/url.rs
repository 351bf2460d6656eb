//! The parts of a URL, each in its one canonical form: what two readers could read in two ways is refused, not repaired.
//!
//! Rules are matched on this form, and this form is sent: so a server can't see another URL than the one decided on.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Scheme;

/// Most bytes of a path.
pub const MAX_PATH: usize = 8 << 10;
/// Most bytes of a query.
pub const MAX_QUERY: usize = 16 << 10;
/// Most bytes of a host name.
const MAX_HOST: usize = 253;
/// Most bytes of a label of a host name.
const MAX_LABEL: usize = 63;

/// Why a URL has no canonical form: for people, and in the words of who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// The scheme, or what stands in its place.
    #[error("the URL must begin with `http://` or `https://`")]
    Scheme,
    /// Before the path.
    #[error("the host is not acceptable: {0}")]
    Host(&'static str),
    /// After the host.
    #[error("the port must be a number from 1 to 65535, without zeros in front")]
    Port,
    /// From the first slash.
    #[error("the path is not acceptable: {0}")]
    Path(&'static str),
    /// After the question mark.
    #[error("the query is not acceptable: {0}")]
    Query(&'static str),
}

/// Host and port, in their canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// As in [`super::EgressRequest::host`].
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Authority {
    /// Reads `host`, `host:port` or `[address]:port`; without a port it is `usual`.
    ///
    /// # Errors
    /// When it has no canonical form.
    pub fn parse(text: &str, usual: u16) -> Result<Self, UrlFault> {
        if text.contains('@') {
            return Err(UrlFault::Host("a user name in a URL is not taken; use a header"));
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(UrlFault::Host("`[` without `]`"))?;
                let port = match rest.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if rest.is_empty() => None,
                    None => return Err(UrlFault::Port),
                };
                (Name::Address6(address), port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (Name::Other(name), Some(port)),
                None => (Name::Other(text), None),
            },
        };
        let host = match name {
            Name::Address6(address) => address6(address)?,
            Name::Other(name) => name_or_address4(name)?,
        };
        let port = port.map_or(Ok(usual), self::port)?;
        Ok(Self { host, port })
    }
}

enum Name<'a> {
    Address6(&'a str),
    Other(&'a str),
}

/// A whole URL, in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// How it is reached.
    pub scheme: Scheme,
    /// Where it is.
    pub authority: Authority,
    /// Begins with `/`.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it has no canonical form.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlFault::Scheme)?;
        let scheme = if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else {
            return Err(UrlFault::Scheme);
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(UrlFault::Scheme)?;
        let authority = Authority::parse(authority, scheme.usual_port())?;
        let target =
            if target.starts_with('/') { Cow::from(target) } else { Cow::from(format!("/{target}")) };
        let (path, query) = path_and_query(&target)?;
        Ok(Self { scheme, authority, path, query })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write(f, self.scheme, &self.authority.host, self.authority.port, &self.path, self.query.as_deref())
    }
}

pub(super) fn write(
    f: &mut std::fmt::Formatter<'_>,
    scheme: Scheme,
    host: &str,
    port: u16,
    path: &str,
    query: Option<&str>,
) -> std::fmt::Result {
    f.write_str(scheme.as_str())?;
    f.write_str("://")?;
    if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
    if port != scheme.usual_port() {
        write!(f, ":{port}")?;
    }
    f.write_str(path)?;
    query.map_or(Ok(()), |query| write!(f, "?{query}"))
}

/// A host name or an address, as it stands in [`super::EgressRequest::host`], in its canonical form.
///
/// # Errors
/// When it has none.
pub fn host(text: &str) -> Result<String, UrlFault> {
    if text.contains(':') { address6(text) } else { name_or_address4(text) }
}

/// A path and perhaps a query, as they stand in the first line of a request.
///
/// # Errors
/// When they have no canonical form.
pub fn path_and_query(text: &str) -> Result<(String, Option<String>), UrlFault> {
    if text.contains('#') {
        return Err(UrlFault::Path("a `#` and what follows it is not for a server"));
    }
    match text.split_once('?') {
        Some((before, after)) => Ok((path(before)?, Some(query(after)?))),
        None => Ok((path(text)?, None)),
    }
}

/// A path. `@scope%2fname`, as npm writes it, becomes `@scope/name`, which registries take alike.
///
/// # Errors
/// When it has no canonical form.
pub fn path(text: &str) -> Result<String, UrlFault> {
    let Some(segments) = text.strip_prefix('/') else { return Err(UrlFault::Path("it must begin with `/`")) };
    if text.len() > MAX_PATH {
        return Err(UrlFault::Path("it is longer than 8 KiB"));
    }
    let mut path = String::with_capacity(text.len());
    let mut segments = segments.split('/').peekable();
    while let Some(text) = segments.next() {
        if text.is_empty() && segments.peek().is_some() {
            return Err(UrlFault::Path("it has an empty part (`//`), which servers read in different ways"));
        }
        path.push('/');
        match scoped(text) {
            Some((scope, name)) => {
                segment(scope, &mut path)?;
                path.push('/');
                segment(name, &mut path)?;
            }
            None => segment(text, &mut path)?,
        }
    }
    if path.len() > MAX_PATH {
        return Err(UrlFault::Path("it is longer than 8 KiB"));
    }
    Ok(path)
}

/// The two parts of `@scope%2fname`.
fn scoped(text: &str) -> Option<(&str, &str)> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_unreserved);
    let (scope, name) = text.split_once("%2f").or_else(|| text.split_once("%2F"))?;
    (is_name(scope.strip_prefix('@')?) && is_name(name)).then_some((scope, name))
}

/// Bytes that a path may not hold, encoded or not.
const NOT_IN_A_PATH: &str = "it has an encoded slash, backslash or control character";

fn segment(text: &str, to: &mut String) -> Result<(), UrlFault> {
    let bytes = decoded(text).map_err(UrlFault::Path)?;
    if bytes.iter().any(|(byte, _)| byte.is_ascii_control() || matches!(byte, b'/' | b'\\')) {
        return Err(UrlFault::Path(NOT_IN_A_PATH));
    }
    let plain: Vec<u8> = bytes.iter().map(|(byte, _)| *byte).collect();
    let Ok(plain) = std::str::from_utf8(&plain) else {
        return Err(UrlFault::Path("what is percent-encoded in it is not UTF-8"));
    };
    // Some servers cut a segment at its first semicolon.
    if matches!(plain.split(';').next(), Some("." | "..")) {
        return Err(UrlFault::Path("it has a `.` or `..` part"));
    }
    // Some servers decode twice.
    let twice = decoded_again(plain);
    if twice.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b'/' | b'\\'))
        || matches!(twice.split(|byte| *byte == b';').next(), Some(b"." | b".."))
    {
        return Err(UrlFault::Path("it is percent-encoded twice"));
    }
    encode(&bytes, is_pchar, to);
    Ok(())
}

/// A query. It is data: slashes and line ends may be encoded in it.
///
/// # Errors
/// When it has no canonical form.
pub fn query(text: &str) -> Result<String, UrlFault> {
    const TOO_LONG: UrlFault = UrlFault::Query("it is longer than 16 KiB");
    if text.len() > MAX_QUERY {
        return Err(TOO_LONG);
    }
    let bytes = decoded(text).map_err(UrlFault::Query)?;
    if bytes.iter().any(|(byte, _)| *byte == 0) {
        return Err(UrlFault::Query("it has an encoded zero byte"));
    }
    let mut query = String::with_capacity(text.len());
    // An apostrophe is encoded by what browsers and many libraries do.
    encode(&bytes, |byte| byte != b'\'' && (is_pchar(byte) || matches!(byte, b'/' | b'?')), &mut query);
    if query.len() > MAX_QUERY { Err(TOO_LONG) } else { Ok(query) }
}

/// Each byte, and whether it was percent-encoded.
fn decoded(text: &str) -> Result<Vec<(u8, bool)>, &'static str> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (bytes.next().and_then(digit), bytes.next().and_then(digit));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err("a `%` is not followed by two hexadecimal digits");
                };
                decoded.push((high << 4 | low, true));
            }
            b'\\' => return Err("it has a backslash"),
            b'#' => return Err("it has a `#`"),
            b'!'..=b'~' => decoded.push((byte, false)),
            _ => return Err("it has a space, a control character or a letter that is not percent-encoded"),
        }
    }
    Ok(decoded)
}

/// What a server makes of it that decodes once more.
fn decoded_again(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match (byte, after) {
            (b'%', [high, low, after @ ..]) => digit(*high).zip(digit(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match escaped {
            Some(((high, low), after)) => {
                decoded.push(high << 4 | low);
                rest = after;
            }
            None => decoded.push(*byte),
        }
    }
    decoded
}

/// Writes unreserved characters plain, other plain ones that are allowed as they are, and all else encoded.
fn encode(bytes: &[(u8, bool)], allowed: impl Fn(u8) -> bool, to: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let hex = |nibble: u8| HEX.get(usize::from(nibble & 15)).copied().unwrap_or('0');
    for (byte, encoded) in bytes {
        if is_unreserved(*byte) || (!encoded && allowed(*byte)) {
            to.push(char::from(*byte));
        } else {
            to.push('%');
            to.push(hex(byte >> 4));
            to.push(hex(*byte));
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_pchar(byte: u8) -> bool {
    const OTHERS: &[u8] = b"!$&'()*+,;=:@";
    is_unreserved(byte) || OTHERS.contains(&byte)
}

fn port(text: &str) -> Result<u16, UrlFault> {
    let digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().map_err(|_| UrlFault::Port) } else { Err(UrlFault::Port) }
}

fn address6(text: &str) -> Result<String, UrlFault> {
    let text = text.to_ascii_lowercase();
    let unusual =
        UrlFault::Host("an address of IPv6 must be written in its usual short form, without a zone");
    let address = Ipv6Addr::from_str(&text).map_err(|_| unusual)?;
    // Another way to write an address of IPv4.
    if address.to_ipv4_mapped().is_some() || text.contains('.') {
        return Err(UrlFault::Host("an address of IPv4 inside one of IPv6 is not taken"));
    }
    if address.to_string() == text { Ok(text) } else { Err(unusual) }
}

fn name_or_address4(text: &str) -> Result<String, UrlFault> {
    let text = text.to_ascii_lowercase();
    if !text.is_ascii() {
        return Err(UrlFault::Host(
            "write it in ASCII (`xn--…`); letters that look alike are not guessed at",
        ));
    }
    if text.is_empty() || text.len() > MAX_HOST {
        return Err(UrlFault::Host("a name has 1 to 253 characters"));
    }
    if text.ends_with('.') {
        return Err(UrlFault::Host("write it without the final dot"));
    }
    for label in text.split('.') {
        let inside =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if label.is_empty() || label.len() > MAX_LABEL || !label.bytes().all(inside) {
            return Err(UrlFault::Host("its parts have 1 to 63 letters, digits, `-` or `_`"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(UrlFault::Host("no part of it begins or ends with `-`"));
        }
    }
    if ends_in_a_number(&text)
        && Ipv4Addr::from_str(&text).map(|address| address.to_string()).as_deref() != Ok(&text)
    {
        return Err(UrlFault::Host("an address of IPv4 must be written as four decimal numbers"));
    }
    Ok(text)
}

/// Whether some reader would take it for an address of IPv4: decimal, octal, hexadecimal, short.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
}
