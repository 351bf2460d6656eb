//! Tokens that a log-in gave (OAuth): what it takes to renew one is kept beside it, and shown to nobody but who gave it.

use domain::{SecretBinding, SecretName, Subscription};
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::vault::{ChangeError, Entry, Vault, held};

/// What a person asked for when they logged in, so that it can be asked for again: nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, from = "Recorded")]
pub struct Asked {
    /// Where it began.
    pub at: Began,
    /// What the token should allow; empty: what was offered.
    pub scopes: Vec<String>,
    /// Hosts that may take part beside where it began: the person said yes to each.
    pub trust: Vec<String>,
}

/// Where a log-in began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Began {
    /// At a tool server.
    Server(String),
    /// At an authorization server.
    Issuer(String),
    /// At a token endpoint, with a refresh token that the person had.
    Token(String),
}

/// As it is read: the first vaults held the tool server alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Recorded {
    Asked { at: Began, scopes: Vec<String>, trust: Vec<String> },
    Server(String),
}

impl From<Recorded> for Asked {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Asked { at, scopes, trust } => Self { at, scopes, trust },
            Recorded::Server(url) => Self { at: Began::Server(url), scopes: Vec::new(), trust: Vec::new() },
        }
    }
}

/// What may be told of a log-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// What was asked for; none: for a subscription, of which all is known.
    #[serde(default, alias = "server")]
    pub asked: Option<Asked>,
    /// Who gave the token: the authorization server.
    pub issuer: String,
    /// Where it is renewed.
    pub token_url: String,
    /// Where it is revoked, as far as is known.
    #[serde(default)]
    pub revocation_url: Option<String>,
    /// The name of the client that asks.
    pub client: String,
    /// Whether it was registered for this log-in alone.
    #[serde(default)]
    pub registered: bool,
    /// Whether the client shows its secret in a header, not in the form.
    pub basic: bool,
    /// What the token is for (RFC 8707), where the log-in said so.
    pub resource: Option<String>,
    /// What it allows, as far as is known.
    pub scopes: Vec<String>,
    /// Until when it is good, in milliseconds since 1970, as far as is known.
    pub expires: Option<u64>,
    /// The subscription that it is of, if it is of one.
    #[serde(default)]
    pub subscription: Option<Subscription>,
    /// The account that requests must name, where the subscription wants that.
    #[serde(default)]
    pub account: Option<String>,
}

/// The secret parts of a log-in.
pub struct Tokens {
    /// What requests carry.
    pub access: Secret,
    /// What renews it; none: people log in again.
    pub refresh: Option<Secret>,
    /// The client's own secret, where it has one.
    pub client_secret: Option<Secret>,
}

/// A log-in as it is kept.
pub struct Kept {
    /// What may be told of it.
    pub login: Login,
    /// Its secret parts.
    pub tokens: Tokens,
    /// When its bytes were last changed, in milliseconds since 1970.
    pub rotated: u64,
    /// Which log-in it is, of those that the secret had.
    since: u64,
}

impl Login {
    /// Whether another log-in was given to the same client by the same server. Some servers forget all that they gave to a
    /// client when they are told to forget one of it.
    #[must_use]
    pub fn is_of_one_client_with(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.client == other.client
    }
}

impl Kept {
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let described = &entry.described;
        let login = described.login.clone()?;
        Some(Self { login, tokens: entry.tokens.share(), rotated: described.rotated, since: entry.since })
    }

    /// The same log-in, renewed.
    #[must_use]
    pub fn with(&self, login: Login, tokens: Tokens) -> Self {
        Self { login, tokens, rotated: self.rotated, since: self.since }
    }
}

impl Tokens {
    pub(crate) fn share(&self) -> Self {
        Self {
            access: self.access.share(),
            refresh: self.refresh.as_ref().map(Secret::share),
            client_secret: self.client_secret.as_ref().map(Secret::share),
        }
    }

    fn check(&self) -> Result<(), ChangeError> {
        let all = [Some(&self.access), self.refresh.as_ref(), self.client_secret.as_ref()];
        Ok(all.into_iter().flatten().try_for_each(Secret::check)?)
    }
}

impl Vault {
    /// Stores what a log-in gave, in place of a secret of the same name; gives the log-in that this came of, if it did.
    ///
    /// # Errors
    /// As [`Vault::set`].
    pub fn log_in(
        &self,
        name: &SecretName,
        (login, tokens): (Login, Tokens),
        bindings: Vec<SecretBinding>,
        now: u64,
    ) -> Result<Option<Kept>, ChangeError> {
        tokens.check()?;
        self.put(name, (tokens, Some(login)), bindings, now)
    }

    /// The log-in that a secret comes of; none if it comes of none, or is not there.
    #[must_use]
    pub fn login(&self, name: &SecretName) -> Option<Kept> {
        self.entries().get(name).and_then(Kept::of)
    }

    /// Keeps what the renewal of a log-in gave, unless the secret is another by now. Requests that run go on.
    ///
    /// # Errors
    /// There is none any more, it can't be kept, or the file can't be written.
    pub fn renewed(&self, name: &SecretName, renewed: &Kept, now: u64) -> Result<(), ChangeError> {
        renewed.tokens.check()?;
        self.change(|entries, _| {
            let entry = held(entries, name)?;
            if entry.since != renewed.since {
                return Err(ChangeError::Unknown(name.clone()));
            }
            entry.described.login = Some(renewed.login.clone());
            entry.described.rotated = now;
            entry.tokens = renewed.tokens.share();
            Ok(())
        })
    }
}
