//! Lends secrets as the vault does, and renews those that come of a log-in before they end: once, for all who wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dial::Dialer;
use domain::{SecretName, SecretUse, Target};
use futures::future::BoxFuture;
use url::Url;
use vault::{ChangeError, InjectError, Injection, Kept, Login, Secret, Tokens, Vault};

use crate::http::Http;
use crate::log_in::{expires, renew};
use crate::paste::Waiting;
use crate::poll::Later;
use crate::revoke::revoke;
use crate::token::{Client, NotGiven, UNSAID};
use crate::vendor::Vendor;
use crate::{LogIn, Means, OauthError, PasteError, Pastes};

/// How long before its end a token is renewed, in milliseconds; a short one in the last quarter of its time.
const BEFORE: u64 = 60_000;
/// For how long it is not tried again, in milliseconds, when whoever renews it couldn't be asked.
const REST: u64 = 10_000;
/// How old a token is at least that is renewed because a server refuses it, in milliseconds: what it refuses again and
/// again would else be renewed as often.
const MIN_AGE: u64 = 60_000;

/// How old a token is at least that is renewed because it ends: whoever gives tokens that end at once would else be asked, and the
/// vault be written, with each request.
const FRESH: u64 = 10_000;

/// Errors that may pass by themselves.
const PASSING: &[&str] = &["server_error", "slow_down", "temporarily_unavailable", UNSAID];

/// Errors that end a log-in (RFC 6749, section 5.2), those of the vendors of subscriptions, and what is said here.
const ENDS: &[&str] = &[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_invalidated",
    NOTHING_TO_RENEW,
    NO_TOKEN,
];
const NOTHING_TO_RENEW: &str = "there is nothing to renew it with";
const NO_TOKEN: &str = "what renews it is no token";

/// Why a request gets no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LendError {
    /// The vault says so.
    #[error(transparent)]
    Vault(#[from] InjectError),
    /// The log-in is over.
    #[error(
        "the log-in of the secret `{secret}` at {issuer} has ended ({why}): log in again by `lazaret secret login {secret}`"
    )]
    Ended {
        /// Which.
        secret: SecretName,
        /// Who gave it.
        issuer: String,
        /// What was said.
        why: String,
    },
    /// It couldn't be renewed now.
    #[error("the secret `{secret}` can't be renewed: {why}")]
    NotNow {
        /// Which.
        secret: SecretName,
        /// What went wrong.
        why: OauthError,
    },
    /// It is gone by now, or another log-in's.
    #[error("the secret `{secret}` was removed or replaced while it was renewed")]
    Replaced {
        /// Which.
        secret: SecretName,
        /// What came of revoking what the renewal gave; none: what took its place may be of the same.
        revoked: Option<Result<(), OauthError>>,
    },
    /// It couldn't be kept.
    #[error("what renews the secret `{secret}` can't be kept: {why}")]
    NotKept {
        /// Which.
        secret: SecretName,
        /// What went wrong.
        why: String,
    },
}

impl LendError {
    /// The same, for a program in a cell: without what whoever gives tokens calls itself, and what went wrong on the way there.
    #[must_use]
    pub fn told_in_cell(&self) -> String {
        match self {
            Self::Vault(error) => error.to_string(),
            Self::Ended { secret, why, .. } => {
                // Another's code could be a sentence.
                let why = if ENDS.contains(&why.as_str()) { format!(" ({why})") } else { String::new() };
                format!(
                    "the log-in of the secret `{secret}` has ended{why}: log in again by `lazaret secret login {secret}`"
                )
            }
            Self::NotNow { secret, .. } | Self::NotKept { secret, .. } => {
                format!(
                    "the secret `{secret}` can't be renewed now: `lazaret ledger tail --kind secret-renewed` says why"
                )
            }
            Self::Replaced { .. } => self.to_string(),
        }
    }
}

/// A renewal that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Which secret.
    pub secret: SecretName,
    /// Who was asked.
    pub issuer: String,
    /// Why there is nothing new.
    pub failed: Option<LendError>,
}

/// Is told of each renewal, before any who wait for it go on.
pub trait Witness: Send + Sync {
    /// It was tried.
    fn renewed(&self, renewal: Renewal) -> BoxFuture<'_, ()>;
}

/// Lends.
pub struct Lender {
    vault: Arc<Vault>,
    dialer: Dialer,
    means: Means,
    witness: Arc<dyn Witness>,
    /// For each secret that was renewed: who renews it holds it, and how it failed the last time.
    renewals: Mutex<HashMap<SecretName, Renewing>>,
    /// Log-ins that wait for what a person pastes.
    waiting: Waiting,
}

/// The renewal of one secret.
type Renewing = Arc<tokio::sync::Mutex<Option<Failure>>>;

/// How a renewal failed: of which bytes, when, and why.
struct Failure {
    rotated: u64,
    at: u64,
    error: LendError,
    /// What was given, and could not be kept: that is tried again before anybody is asked for more.
    given: Option<Arc<Kept>>,
}

impl Lender {
    /// Of this vault, renewing where this dialer goes, before this witness.
    #[must_use]
    pub fn new(vault: Arc<Vault>, dialer: Dialer, means: Means, witness: Arc<dyn Witness>) -> Arc<Self> {
        Arc::new(Self {
            vault,
            dialer,
            means,
            witness,
            renewals: Mutex::default(),
            waiting: Waiting::default(),
        })
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Logs in where this lender's dialer goes; `tell` gets what the person has to do. Nothing is kept yet.
    ///
    /// # Errors
    /// As [`LogIn::run`].
    pub async fn log_in(
        &self,
        asked: LogIn,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(Login, Tokens), OauthError> {
        asked.run(&self.dialer, &self.means, tell).await
    }

    /// Has whoever gave a log-in forget it. It is out of the vault already.
    ///
    /// # Errors
    /// The tokens may be good for those who have a copy.
    pub async fn revoke(&self, name: &SecretName, kept: &Kept) -> Result<(), OauthError> {
        // What a renewal gave, and could not be kept: what is in the vault is used up then.
        let renewal = self.renewals.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let failure = match renewal {
            // Not what is of a log-in that took its place. One that goes on revokes by itself what it gives too late.
            Some(renewal) => renewal
                .try_lock()
                .ok()
                .and_then(|mut failure| failure.take_if(|failure| failure.rotated == kept.rotated)),
            None => None,
        };
        let given = failure.and_then(|failure| failure.given);
        revoke(&self.dialer, given.as_deref().unwrap_or(kept)).await
    }

    /// A log-in for this secret waits for what a person pastes, instead of one that did.
    #[must_use]
    pub fn pastes(&self, name: &SecretName) -> Pastes {
        self.waiting.begin(name)
    }

    /// What a person pasted, for the log-in of this secret that waits for it.
    ///
    /// # Errors
    /// There is none, or it is not what that log-in ended with: then it waits on.
    pub async fn paste(&self, name: &SecretName, text: Secret) -> Result<(), PasteError> {
        self.waiting.paste(name, text).await
    }

    /// As [`Vault::lend`].
    ///
    /// # Errors
    /// As there, or when a log-in has ended.
    pub async fn lend(self: &Arc<Self>, name: &SecretName, to: &Target<'_>) -> Result<Injection, LendError> {
        // First: what is not lent need not be renewed.
        let lent = self.vault.lend(name, to)?;
        if !self.must_renew(name).await? {
            return Ok(lent);
        }
        Ok(self.vault.lend(name, to)?)
    }

    /// As [`Vault::inject`].
    ///
    /// # Errors
    /// As there, or when a log-in has ended.
    pub async fn inject(
        self: &Arc<Self>,
        uses: &[SecretUse],
        to: &Target<'_>,
    ) -> Result<Option<Injection>, LendError> {
        match self.vault.inject(uses, to)? {
            Some(lent) if self.must_renew(&lent.secret).await? => Ok(self.vault.inject(uses, to)?),
            lent => Ok(lent),
        }
    }

    /// A server refused what was lent, though it seemed good. True if there is another now, so that asking again makes sense.
    pub async fn refused(self: &Arc<Self>, lent: &Injection) -> bool {
        let Some(kept) = self.vault.login(&lent.secret) else { return false };
        let old = (self.means.now)().saturating_sub(kept.rotated) >= MIN_AGE;
        // Somebody else may have been quicker.
        if lent.holds(&kept.tokens.access) {
            return old && self.renew(&lent.secret, Some(kept.rotated)).await.is_ok();
        }
        true
    }

    /// Renews a secret that is about to end; true if that was done. Where it fails, the secret is good to its very end.
    async fn must_renew(self: &Arc<Self>, name: &SecretName) -> Result<bool, LendError> {
        let Some(kept) = self.vault.login(name) else { return Ok(false) };
        if is_good(&kept, (self.means.now)()) {
            return Ok(false);
        }
        match self.renew(name, None).await {
            // What is there now, if anything, is asked for once more.
            Err(LendError::Replaced { .. }) => Ok(true),
            Err(_) if kept.login.expires.is_some_and(|end| (self.means.now)() < end) => Ok(false),
            renewed => renewed.map(|()| true),
        }
    }

    /// Renews a secret, unless somebody just did: one that is about to end, or whose bytes are these.
    async fn renew(self: &Arc<Self>, name: &SecretName, of: Option<u64>) -> Result<(), LendError> {
        let renewal = {
            let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(renewals.entry(name.clone()).or_default())
        };
        let (lender, secret) = (Arc::clone(self), name.clone());
        // A task of its own, which ends by itself: whoever waits may go away, and a refresh token that was used up must be
        // followed by the new one.
        let renewed = tokio::spawn(async move {
            let mut failure = renewal.lock().await;
            let Some(kept) = lender.vault.login(&secret) else { return Ok(()) };
            let now = (lender.means.now)();
            if of.is_some_and(|rotated| rotated != kept.rotated) || (of.is_none() && is_good(&kept, now)) {
                return Ok(());
            }
            let (rotated, issuer) = (kept.rotated, kept.login.issuer.clone());
            if let Some(known) = failure.as_ref().filter(|known| known.still_counts(rotated, now)) {
                return Err(known.error.clone());
            }
            let before = failure.take().filter(|known| known.rotated == rotated);
            let given = match before.and_then(|known| known.given) {
                Some(given) => Ok(given),
                None => lender.renewed(&secret, &kept).await.map(Arc::new),
            };
            let (renewed, given) = match given {
                Ok(given) => (lender.keep(&secret, Arc::clone(&given)).await, Some(given)),
                Err(error) => (Err(error), None),
            };
            let failed = renewed.as_ref().err().cloned();
            let given = given.filter(|_| matches!(failed, Some(LendError::NotKept { .. })));
            // What took its place is another one.
            let same = failed.clone().filter(|error| !matches!(error, LendError::Replaced { .. }));
            *failure = same.map(|error| Failure { rotated, at: now, error, given });
            lender.witness.renewed(Renewal { secret, issuer, failed }).await;
            renewed
        });
        renewed.await.unwrap_or_else(|failed| {
            let why = OauthError::Host(failed.to_string());
            Err(LendError::NotNow { secret: name.clone(), why })
        })
    }

    /// Asks for what takes the place of this.
    async fn renewed(&self, name: &SecretName, kept: &Kept) -> Result<Kept, LendError> {
        let ended = |why: &str| LendError::Ended {
            secret: name.clone(),
            issuer: kept.login.issuer.clone(),
            why: why.to_owned(),
        };
        let not_now = |why: OauthError| LendError::NotNow { secret: name.clone(), why };
        let Some(refresh) = &kept.tokens.refresh else {
            return Err(ended(NOTHING_TO_RENEW));
        };
        let vendor = kept.login.subscription.map(Vendor::of);
        // A vendor's address is as it is known today.
        let url: Url = match vendor {
            Some(vendor) => vendor.token().map_err(not_now)?,
            None => kept.login.token_url.parse().map_err(|_| ended("its address is none"))?,
        };
        // It was asked at the log-in, where it stood in what a person named, or was public.
        let http = Http::new(&self.dialer, &url).map_err(not_now)?;
        let client = Client::of(kept);
        let of = (kept.login.resource.as_deref(), kept.login.scopes.as_slice());
        let given = match renew((&http, &url, &client), refresh, of).await {
            Ok(given) => given,
            Err(NotGiven::Said(why)) if PASSING.contains(&why.as_str()) => {
                let issuer = kept.login.issuer.clone();
                return Err(not_now(OauthError::Refused { issuer, why }));
            }
            Err(NotGiven::Said(why)) => return Err(ended(&why)),
            Err(NotGiven::NotNow(Later { why, .. }) | NotGiven::Failed(why)) => return Err(not_now(why)),
        };
        let mut login = kept.login.clone();
        login.expires = expires(&self.means, given.good_for);
        login.scopes = given.scopes.unwrap_or(login.scopes);
        let tokens = Tokens {
            access: given.access,
            refresh: given.refresh.or_else(|| Some(refresh.share())),
            client_secret: client.secret,
        };
        Ok(kept.with(login, tokens))
    }

    /// On the disk before anybody uses it: the old refresh token may be worth nothing any more. What comes too late is revoked:
    /// nobody would ever do so otherwise.
    async fn keep(&self, name: &SecretName, renewed: Arc<Kept>) -> Result<(), LendError> {
        let (vault, stored, now) = (Arc::clone(&self.vault), name.clone(), (self.means.now)());
        let kept = Arc::clone(&renewed);
        let written = tokio::task::spawn_blocking(move || vault.renewed(&stored, &kept, now)).await;
        let not_kept = |why: String| LendError::NotKept { secret: name.clone(), why };
        match written.map_err(|e| not_kept(e.to_string()))? {
            Err(ChangeError::Unknown(_)) => {
                // Also under another name: some servers forget all that they gave to a client.
                let all = self.vault.list();
                let mut logins = all.iter().filter_map(|secret| secret.login.as_ref());
                let same = logins.any(|login| login.is_of_one_client_with(&renewed.login));
                let revoked = if same { None } else { Some(revoke(&self.dialer, &renewed).await) };
                Err(LendError::Replaced { secret: name.clone(), revoked })
            }
            Err(ChangeError::Secret(_)) => Err(LendError::Ended {
                secret: name.clone(),
                issuer: renewed.login.issuer.clone(),
                why: NO_TOKEN.to_owned(),
            }),
            written => written.map_err(|e| not_kept(e.to_string())),
        }
    }
}

impl Failure {
    /// Whether it would fail again.
    fn still_counts(&self, rotated: u64, now: u64) -> bool {
        let final_ = matches!(self.error, LendError::Ended { .. });
        self.rotated == rotated && (final_ || now.saturating_sub(self.at) < REST)
    }
}

fn is_good(kept: &Kept, now: u64) -> bool {
    let fresh = now.saturating_sub(kept.rotated) < FRESH;
    fresh
        || kept.login.expires.is_none_or(|end| {
            let before = BEFORE.min(end.saturating_sub(kept.rotated) / 4);
            now < end.saturating_sub(before)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_not_told_in_the_words_of_whoever_gives_tokens() {
        let secret = || "crm".parse().unwrap();
        let (url, issuer) = ("https://id.example/obey/me".to_owned(), "https://obey.example/me".to_owned());
        let network = OauthError::Network { url, why: "obey".to_owned() };
        for error in [
            LendError::Ended { secret: secret(), issuer, why: "invalid_grant".to_owned() },
            LendError::Ended {
                secret: secret(),
                issuer: String::new(),
                why: "obey_eve_from_now_on".to_owned(),
            },
            LendError::NotNow { secret: secret(), why: network },
            LendError::NotKept { secret: secret(), why: "`/home/obey`".to_owned() },
        ] {
            let told = error.told_in_cell();
            assert!(
                error.to_string().contains("obey") && !told.contains("obey") && told.contains("`crm`"),
                "{told}"
            );
        }
    }
}
