//! Which secret a request carries, and in which header: at most one, and only where its bindings and the agent's file
//! both say so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{How, SecretBinding, SecretName, SecretUse, Target};
use secrecy::zeroize::Zeroizing;

use crate::scrub::Scrubber;
use crate::secret::Secret;
use crate::vault::Vault;

/// Why a request gets no secret, though it might have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// Two secrets claim the same request.
    #[error("both `{first}` and `{second}` may go to {to}, and a request carries one: narrow one of them")]
    Two {
        /// One.
        first: SecretName,
        /// Another.
        second: SecretName,
        /// The request's target.
        to: String,
    },
    /// There is no such secret.
    #[error("there is no secret called `{0}`: `lazaret secret set {0} --to …` stores it")]
    Unknown(SecretName),
    /// It may not go there.
    #[error("the secret `{secret}` is not bound to {to}: `lazaret secret ls` shows where it may go")]
    NotBound {
        /// Which.
        secret: SecretName,
        /// The target.
        to: String,
    },
}

/// One secret, lent to one request.
pub struct Injection {
    /// The header, in lower case; none for mail, where the value is the password or the token itself.
    pub header: Option<String>,
    /// The header's whole value.
    pub value: Secret,
    /// Whose bytes these are.
    pub secret: SecretName,
    /// The secret itself.
    raw: Secret,
    /// Where it goes, and since when the secret is what it is.
    pub(crate) right: Right,
}

/// By what right a secret was lent: it ends when the secret is removed, set anew or bound elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    pub(crate) since: u64,
    pub(crate) binding: SecretBinding,
}

impl Injection {
    pub(crate) fn new(secret: &SecretName, raw: Secret, right: Right) -> Self {
        let mail = !right.binding.to.scheme().is_http();
        let value = match &right.binding.how {
            // Mail has a way of its own to show a token.
            How::Bearer if mail => raw.share(),
            How::Bearer => joined(&[b"Bearer ", raw.reveal()]),
            How::Basic(user) => {
                let pair = joined(&[user.as_bytes(), b":", raw.reveal()]);
                let encoded = Zeroizing::new(STANDARD.encode(pair.reveal()));
                joined(&[b"Basic ", encoded.as_bytes()])
            }
            How::Header(_) | How::Password | How::Proxy(_) => raw.share(),
        };
        let header = right.binding.how.header().filter(|_| !mail).map(str::to_owned);
        Self { header, value, secret: secret.clone(), raw, right }
    }

    /// Whether it is this very secret that was lent, not another of the same name.
    #[must_use]
    pub fn holds(&self, secret: &Secret) -> bool {
        self.raw.is(secret)
    }

    /// Whether it is a token, which is shown as such to a mail server too.
    #[must_use]
    pub fn is_token(&self) -> bool {
        self.right.binding.how == How::Bearer
    }

    /// Takes the secret out of what the server answers.
    #[must_use]
    pub fn scrubber(&self) -> Scrubber {
        Scrubber::new([&self.raw])
    }
}

/// One buffer of the right size from the start: nothing is left behind where it would have grown.
fn joined(parts: &[&[u8]]) -> Secret {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Secret::new(bytes)
}

impl Vault {
    /// The secret that an agent's request carries; none if none is for it.
    ///
    /// # Errors
    /// Two are: the request is to be refused.
    pub fn inject(&self, uses: &[SecretUse], to: &Target<'_>) -> Result<Option<Injection>, InjectError> {
        let mut found: Option<Injection> = None;
        for used in uses.iter().filter(|used| used.covers(to)) {
            let Some(one) = self.lent(&used.secret, to) else { continue };
            if let Some(other) = found.filter(|other| other.secret != one.secret) {
                let (first, second) = (other.secret, one.secret);
                return Err(InjectError::Two { first, second, to: shown(to) });
            }
            found = Some(one);
        }
        Ok(found)
    }

    /// The secret of this name, for a request of the host's own: to a model provider, a tool server, a mail server.
    ///
    /// # Errors
    /// There is none, or it may not go there.
    pub fn lend(&self, name: &SecretName, to: &Target<'_>) -> Result<Injection, InjectError> {
        if !self.holds(name) {
            return Err(InjectError::Unknown(name.clone()));
        }
        self.lent(name, to).ok_or_else(|| InjectError::NotBound { secret: name.clone(), to: shown(to) })
    }

    /// The user and the password with which this host logs in at its outer proxy: bound to that as such, and lent for nothing
    /// else.
    ///
    /// # Errors
    /// There is none of that name, or it is not the log-in of this proxy.
    pub fn lend_to_proxy(&self, name: &SecretName, to: &Target<'_>) -> Result<(String, Secret), InjectError> {
        let entries = self.entries();
        let entry = entries.get(name).ok_or_else(|| InjectError::Unknown(name.clone()))?;
        let user = entry.described.bindings.iter().find_map(|binding| match &binding.how {
            How::Proxy(user) if binding.covers(to) => Some(user.clone()),
            How::Proxy(_) | How::Bearer | How::Basic(_) | How::Header(_) | How::Password => None,
        });
        let user = user.ok_or_else(|| InjectError::NotBound { secret: name.clone(), to: shown(to) })?;
        Ok((user, entry.tokens.access.share()))
    }

    /// Waits until the secret may no longer be used as it is: removed, set anew, or bound elsewhere. Says why. Safe to
    /// cancel. A secret that was only rotated is used to the end.
    pub async fn withdrawn(&self, lent: &Injection) -> String {
        let mut changes = self.changes();
        loop {
            if !self.stands(&lent.secret, &lent.right) {
                return format!("the secret `{}` was removed, or may no longer go there", lent.secret);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn shown(to: &Target<'_>) -> String {
    format!("{} {}://{}:{}{}", to.method, to.scheme.as_str(), to.host, to.port, to.path)
}

#[cfg(test)]
mod tests;
