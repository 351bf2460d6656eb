//! Why nobody is logged in.

use dial::DialError;

use crate::Party;

/// Why nobody is logged in. What a server said is told in short, and never a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// Not asked at all.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Not an address that tokens may be asked at.
    #[error("`{0}` can't be asked for tokens: write https://host, or http:// for this machine")]
    BadUrl(String),
    /// It failed on the way.
    #[error("`{url}` can't be asked: {why}")]
    Network {
        /// Where.
        url: String,
        /// The reason.
        why: String,
    },
    /// What it answers is not what it should.
    #[error("`{url}` {why}")]
    Metadata {
        /// Where.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server doesn't say who gives tokens for it.
    #[error("`{0}` doesn't say who gives tokens for it: name its authorization server with --issuer")]
    NoServer(String),
    /// It lacks what this way takes.
    #[error("`{issuer}` offers no {what}")]
    Lacks {
        /// Who.
        issuer: String,
        /// What.
        what: &'static str,
    },
    /// Others take part whom nobody named.
    #[error("`{began}` has others take part in the log-in, whom you didn't name: {}", named(parties))]
    Elsewhere {
        /// Where it began.
        began: String,
        /// Who.
        parties: Vec<Party>,
    },
    /// Another server gives the tokens than the one that the client is known to.
    #[error(
        "`{issuer}` gives tokens there now, and not `{known_to}`, to which the client is known: if that is right, log in anew with \
         --server or --issuer, and the client that is known there with --client"
    )]
    OtherIssuer {
        /// To whom the client is known.
        known_to: String,
        /// Who gives tokens now.
        issuer: String,
    },
    /// A refresh token for a client that was made for another log-in.
    #[error(
        "a refresh token is good for the client that it was given to: say where it is from with --server, --issuer or \
         --token-url, and name that client with --client"
    )]
    NotItsClient,
    /// More than is kept of a log-in.
    #[error("of one log-in no more than {most} {what}")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Not what a token may be asked for.
    #[error(
        "a log-in asks for up to {most} scopes, each of up to {bytes} characters without blanks and quotes"
    )]
    Scopes {
        /// How many there may be.
        most: usize,
        /// How long one may be.
        bytes: usize,
    },
    /// It says no.
    #[error("`{issuer}` gives no token: {why}")]
    Refused {
        /// Who.
        issuer: String,
        /// The error's code.
        why: String,
    },
    /// It forgets no token.
    #[error("`{issuer}` doesn't revoke it: {why}")]
    NotRevoked {
        /// Who.
        issuer: String,
        /// The error's code.
        why: String,
    },
    /// Nobody came back from the browser.
    #[error("nobody logged in within {minutes} minutes{}: try again", at_last(last.as_deref()))]
    Late {
        /// How long was waited.
        minutes: u64,
        /// What was wrong the last time that it was asked.
        last: Option<Box<OauthError>>,
    },
    /// Somebody came back who should not have.
    #[error("the answer of the browser is not of `{expected}`, where the log-in began: try again")]
    MixedUp {
        /// Who was asked.
        expected: String,
    },
    /// The ports that browsers may come back to are taken.
    #[error(
        "nothing can listen on port {} of this machine, where alone the browser may come back to: {why}; end what does \
         (another log-in?), or log in with a code that is typed (--device)", all(.ports)
    )]
    Ports {
        /// Which.
        ports: Vec<u16>,
        /// The reason.
        why: String,
    },
    /// A token is of no account that could be named.
    #[error("`{issuer}` gives a token, but doesn't say of whose account: {why}")]
    NoAccount {
        /// Who.
        issuer: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Something of this host failed.
    #[error("logging in failed: {0}")]
    Host(String),
}

fn named(parties: &[Party]) -> String {
    let one = |party: &Party| format!("`{}`, which {}", party.origin, party.does);
    parties.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn at_last(error: Option<&OauthError>) -> String {
    error.map_or_else(String::new, |error| format!(" (the last time it was asked: {error})"))
}

fn all(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    ports.join(" or ")
}
