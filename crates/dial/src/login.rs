//! The log-in at the outer proxy: who has it is asked for it once for each connection, and it is shown to that proxy alone, in a
//! `CONNECT`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::Proxy;

/// Most bytes of a user's name, and of a password: proxies take no longer heads.
const MAX_USER: usize = 128;
const MAX_PASSWORD: usize = 1024;

/// Who has the log-in at the outer proxy.
pub trait ProxyLogin: Send + Sync {
    /// The log-in.
    ///
    /// # Errors
    /// Why there is none now, in words for the person.
    fn log_in(&self) -> Result<ProxyUser, String>;
}

/// A user of the proxy's, with the password. It can't be printed.
pub struct ProxyUser {
    user: String,
    password: SecretString,
}

impl ProxyUser {
    /// A user and the password, as Basic authentication carries them (RFC 7617).
    ///
    /// # Errors
    /// They can't be carried so.
    pub fn new(user: String, password: SecretString) -> Result<Self, String> {
        let plain = user.bytes().all(|b| (b == b' ' || b.is_ascii_graphic()) && b != b':');
        if !plain || !(1..=MAX_USER).contains(&user.len()) {
            return Err(format!(
                "the proxy's user has 1 to {MAX_USER} printable ASCII characters without `:`"
            ));
        }
        let text = password.expose_secret();
        if text.len() > MAX_PASSWORD || text.bytes().any(|b| b.is_ascii_control()) {
            return Err(format!(
                "a proxy's password has at most {MAX_PASSWORD} bytes and no control character"
            ));
        }
        Ok(Self { user, password })
    }

    /// The value of `proxy-authorization`.
    pub(crate) fn header(&self) -> Zeroizing<String> {
        let password = self.password.expose_secret();
        let mut pair = Zeroizing::new(String::with_capacity(MAX_USER + MAX_PASSWORD + 1));
        for part in [self.user.as_str(), ":", password] {
            pair.push_str(part);
        }
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let mut value = Zeroizing::new(String::with_capacity(encoded.len() + 6));
        value.push_str("Basic ");
        value.push_str(&encoded);
        value
    }

    /// The proxy's address with the log-in in it, the one way to tell reqwest anew for each connection.
    pub(crate) fn in_url(&self, proxy: &Proxy) -> Zeroizing<String> {
        let encoded = |text: &str| {
            let mut all = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
            for byte in text.bytes() {
                all.push_str(&format!("%{byte:02X}"));
            }
            all
        };
        let (user, password) = (encoded(&self.user), encoded(self.password.expose_secret()));
        let written = proxy.to_string();
        let (scheme, place) = written.split_once("://").unwrap_or_default();
        Zeroizing::new(format!("{scheme}://{}:{}@{place}", user.as_str(), password.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_is_carried_as_it_is_and_what_can_not_be_is_refused() {
        let made = |user: &str, password: &str| ProxyUser::new(user.to_owned(), password.into());
        let ann = made("CORP\\ann", "p%41:ß@/ #").unwrap();
        assert_eq!(ann.header().as_str(), format!("Basic {}", STANDARD.encode("CORP\\ann:p%41:ß@/ #")));
        let url: reqwest::Url = ann.in_url(&"http://proxy.example:3128".parse().unwrap()).parse().unwrap();
        assert_eq!((url.host_str(), url.port()), (Some("proxy.example"), Some(3128)));
        assert_eq!(url.password(), Some("%70%25%34%31%3A%C3%9F%40%2F%20%23"));
        for (user, password) in [
            ("", "p"),
            ("a:b", "p"),
            ("a\r\nx: y", "p"),
            ("ß", "p"),
            ("a", "p\r\nx: y"),
            ("a", &"p".repeat(2000)),
        ] {
            assert!(made(user, password).is_err(), "{user:?}");
        }
    }
}
