//! Whose mailbox it is, and where.

use std::fmt;

use domain::{Destination, Scheme};
use vault::Secret;

use crate::Address;

/// Most bytes of what one signs in as.
const MAX_USER: usize = 254;

/// A mailbox and the way to send from it.
pub struct Account {
    /// Where it is and who signs in.
    pub place: Place,
    /// With what.
    pub key: Key,
}

/// What one signs in with.
pub enum Key {
    /// A password, or what the provider calls an app password.
    Password(Secret),
    /// The token of a log-in (OAuth).
    Token(Secret),
}

impl Key {
    /// Its bytes.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Password(secret) | Self::Token(secret) => secret,
        }
    }
}

/// Where a mailbox is. Every connection to it is encrypted before anything is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(crate) imap: Destination,
    pub(crate) smtp: Destination,
    pub(crate) user: String,
    pub(crate) from: Address,
}

/// What is wrong with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceError(String);

impl Place {
    /// A mailbox at `imaps://HOST[:PORT]`, sent from at `smtps://HOST[:PORT]`, or at `smtp://HOST[:PORT]`, where TLS begins
    /// with STARTTLS.
    ///
    /// # Errors
    /// When an address is another, or the user's name is none.
    pub fn new(imap: &str, smtp: &str, user: &str, from: &str) -> Result<Self, PlaceError> {
        let destination = |text: &str, schemes: &[Scheme]| {
            let destination: Destination = text.parse().map_err(|e| PlaceError(format!("{e}")))?;
            if !schemes.contains(&destination.scheme()) {
                let schemes: Vec<_> =
                    schemes.iter().map(|scheme| format!("{}://", scheme.as_str())).collect();
                return Err(PlaceError(format!("`{destination}` must begin with {}", schemes.join(" or "))));
            }
            Ok(destination)
        };
        if user.is_empty() || user.len() > MAX_USER || user.chars().any(char::is_control) {
            return Err(PlaceError(format!("`user` is a name of at most {MAX_USER} bytes on one line")));
        }
        Ok(Self {
            imap: destination(imap, &[Scheme::Imaps])?,
            smtp: destination(smtp, &[Scheme::Smtps, Scheme::Smtp])?,
            user: user.to_owned(),
            from: from.parse().map_err(|e| PlaceError(format!("`from`: {e}")))?,
        })
    }

    /// The servers that get to see what one signs in with.
    #[must_use]
    pub fn servers(&self) -> [&Destination; 2] {
        [&self.imap, &self.smtp]
    }

    /// Whether TLS begins only after a word in the clear; without it nothing is sent.
    pub(crate) fn sends_by_starttls(&self) -> bool {
        self.smtp.scheme() == Scheme::Smtp
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlaceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_reached_encrypted_or_not_at_all() {
        let place = |imap, smtp, user| Place::new(imap, smtp, user, "ada@acme.example");
        let imap = "imaps://mail.acme.example";
        for smtp in ["smtps://mail.acme.example", "smtps://127.0.0.1:10465", "smtp://mail.acme.example:25"] {
            assert!(place(imap, smtp, "ada").is_ok(), "{smtp}");
        }
        for bad in [
            "imap://a.example",
            "https://a.example",
            "smtps://a.example",
            "imaps://u:p@a.example",
            "imaps://a.example/b",
        ] {
            assert!(place(bad, "smtps://a.example", "ada").is_err(), "{bad}");
        }
        for bad in ["http://a.example", imap, "smtps://a.example\r\nb"] {
            assert!(place(imap, bad, "ada").is_err(), "{bad}");
        }
        assert!(place(imap, "smtps://a.example", "ada\r\nx").is_err());
        assert!(place(imap, "smtps://a.example", "").is_err());
        assert!(Place::new(imap, "smtps://a.example", "ada", "Ada <ada@acme.example>").is_err());
    }
}
