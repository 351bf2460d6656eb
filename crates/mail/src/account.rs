//! Whose mailbox it is, and where.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;

use crate::Address;

/// Most bytes of a host's name.
const MAX_HOST: usize = 253;
/// Most bytes of what one signs in as.
const MAX_USER: usize = 254;

/// A mailbox and the way to send from it. Its password is never printed.
#[derive(Debug, Clone)]
pub struct Account {
    /// Where the mail is.
    pub imap: Endpoint,
    /// Where mail is sent.
    pub smtp: Endpoint,
    /// Who signs in at both.
    pub user: String,
    /// Whom mail is from.
    pub from: Address,
    /// The password, or what the provider calls an app password.
    pub password: SecretString,
}

/// A mail server. Every connection to it is encrypted before anything is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether TLS begins only after a word in plain text (STARTTLS); without it nothing is sent.
    pub(crate) starts_plain: bool,
}

/// What is wrong with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountError(String);

impl Endpoint {
    /// `imaps://host[:993]`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn imap(text: &str) -> Result<Self, AccountError> {
        let how = "it is written imaps://HOST[:PORT]";
        let rest = text.strip_prefix("imaps://").ok_or_else(|| wrong(text, how))?;
        Self::parse(rest, 993, false).ok_or_else(|| wrong(text, how))
    }

    /// `smtps://host[:465]`, or `smtp://host[:587]`, where TLS begins with STARTTLS.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn smtp(text: &str) -> Result<Self, AccountError> {
        let how = "it is written smtps://HOST[:PORT], or smtp://HOST[:PORT] for STARTTLS";
        let parsed = match text.split_once("://") {
            Some(("smtps", rest)) => Self::parse(rest, 465, false),
            Some(("smtp", rest)) => Self::parse(rest, 587, true),
            Some(_) | None => None,
        };
        parsed.ok_or_else(|| wrong(text, how))
    }

    fn parse(rest: &str, usual: u16, starts_plain: bool) -> Option<Self> {
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, u16::from_str(port).ok().filter(|port| *port > 0)?),
            None => (rest, usual),
        };
        let in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let named = (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(in_name);
        named.then(|| Self { host: host.to_ascii_lowercase(), port, starts_plain })
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Account {
    /// Whether one may sign in under this name.
    ///
    /// # Errors
    /// When it is empty, too long, or has control characters.
    pub fn check_user(user: &str) -> Result<(), AccountError> {
        if user.is_empty() || user.len() > MAX_USER || user.chars().any(char::is_control) {
            return Err(AccountError(format!("`user` is a name of at most {MAX_USER} bytes on one line")));
        }
        Ok(())
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccountError {}

fn wrong(text: &str, how: &str) -> AccountError {
    let shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    AccountError(format!("`{shown}` is no mail server: {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_encrypted_or_not_at_all() {
        let at = |host: &str, port, starts_plain| Endpoint { host: host.to_owned(), port, starts_plain };
        assert_eq!(Endpoint::imap("imaps://Mail.acme.example"), Ok(at("mail.acme.example", 993, false)));
        assert_eq!(Endpoint::imap("imaps://127.0.0.1:10993"), Ok(at("127.0.0.1", 10993, false)));
        assert_eq!(Endpoint::smtp("smtps://mail.acme.example"), Ok(at("mail.acme.example", 465, false)));
        assert_eq!(Endpoint::smtp("smtp://mail.acme.example:25"), Ok(at("mail.acme.example", 25, true)));
        for bad in [
            "imap://a.example",
            "imaps://",
            "imaps://a:0",
            "imaps://a:99999",
            "imaps://u:p@a.example",
            "imaps://a/b",
            "a.example",
            "imaps://a b",
        ] {
            assert!(Endpoint::imap(bad).is_err(), "{bad}");
        }
        for bad in ["smtp+plain://a.example", "imaps://a.example", "smtps://a?tls=no", "smtps://a\r\nb"] {
            assert!(Endpoint::smtp(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let account = Account {
            imap: Endpoint::imap("imaps://a.example").unwrap(),
            smtp: Endpoint::smtp("smtps://a.example").unwrap(),
            user: "ada".to_owned(),
            from: "ada@a.example".parse().unwrap(),
            password: "hunter2".to_owned().into(),
        };
        assert!(!format!("{account:?}").contains("hunter2"));
        assert!(Account::check_user("ada\r\nx").is_err() && Account::check_user("").is_err());
    }
}
