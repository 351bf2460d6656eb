//! Signing in with a token instead of a password: what is said of it is the same over IMAP and SMTP.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::Destination;
use vault::Secret;

use crate::failure::Failure;

/// A way to show a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The standard's (RFC 7628).
    OauthBearer,
    /// What was there before it; some offer nothing else.
    Xoauth2,
}

impl Mechanism {
    /// The best that a server offers.
    pub(crate) fn offered<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, Failure> {
        let known = names.filter_map(|name| {
            let known = [Self::OauthBearer, Self::Xoauth2];
            known.into_iter().find(|one| name.eq_ignore_ascii_case(one.name()))
        });
        known.min_by_key(|one| *one == Self::Xoauth2).ok_or_else(|| {
            Failure::server("the mail server takes no tokens: it offers neither OAUTHBEARER nor XOAUTH2")
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
        }
    }

    /// What shows the token, in base64.
    pub(crate) fn shows(self, user: &str, to: &Destination, token: &Secret) -> Result<String, Failure> {
        let token = token.reveal_text().ok_or_else(|| Failure::server("the token is no text"))?;
        let said = match self {
            Self::OauthBearer => {
                let user = user.replace('=', "=3D").replace(',', "=2C");
                let (host, port) = (to.host(), to.port());
                format!("n,a={user},\u{1}host={host}\u{1}port={port}\u{1}auth=Bearer {token}\u{1}\u{1}")
            }
            Self::Xoauth2 => format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}"),
        };
        Ok(STANDARD.encode(said))
    }

    /// What is said to a server that first tells why it refuses; then it says no.
    pub(crate) fn hears(self) -> &'static str {
        match self {
            // One byte 1, in base64.
            Self::OauthBearer => "AQ==",
            Self::Xoauth2 => "",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_way_goes_before_the_other_and_neither_is_no_way() {
        let offered = |names: &[&str]| Mechanism::offered(names.iter().copied()).ok();
        assert_eq!(offered(&["PLAIN", "XOAUTH2", "OAUTHBEARER"]), Some(Mechanism::OauthBearer));
        assert_eq!(offered(&["LOGIN", "xoauth2"]), Some(Mechanism::Xoauth2));
        assert_eq!(offered(&["PLAIN", "LOGIN", "XOAUTH"]), None);
    }

    #[test]
    fn a_token_is_shown_as_the_standard_has_it() {
        let to = "imaps://server.example.com".parse().unwrap();
        let shown = |mechanism: Mechanism, user: &str| {
            let shown = mechanism.shows(user, &to, &"vF9dft4qmT".into()).unwrap();
            String::from_utf8(STANDARD.decode(shown).unwrap()).unwrap()
        };
        assert_eq!(
            shown(Mechanism::OauthBearer, "a=b,c@example.com"),
            "n,a=a=3Db=2Cc@example.com,\u{1}host=server.example.com\u{1}port=993\u{1}auth=Bearer vF9dft4qmT\u{1}\u{1}"
        );
        assert_eq!(
            shown(Mechanism::Xoauth2, "u@example.com"),
            "user=u@example.com\u{1}auth=Bearer vF9dft4qmT\u{1}\u{1}"
        );
    }
}
