//! What the host shows those that it asks: a key from its environment, or one that the vault lends to each request anew.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use domain::{Scheme, SecretName, Target, TeamName};
use oauth::Lender;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use vault::{Injection, Scrubber, Secret};

use crate::provider::Api;

/// What the host shows.
pub enum Credential {
    /// Nothing: local servers.
    None,
    /// A key in `x-api-key`.
    ApiKey(Secret),
    /// A token in `authorization`.
    Bearer(Secret),
    /// A Claude subscription's token, as `claude setup-token` makes it: a bearer token that needs a beta of the API.
    Subscription(Secret),
    /// A secret of the vault, in the header that it is bound to.
    Vault(VaultKey),
    /// There should be one: what to do about it.
    Missing(&'static str),
}

/// Which secrets of the vault are shown.
#[derive(Clone)]
pub struct VaultKey {
    /// Who lends them.
    pub lender: Arc<Lender>,
    /// For teams that have none of their own; none: these are refused.
    pub key: Option<SecretName>,
    /// The secrets of teams that have their own.
    pub teams: BTreeMap<TeamName, SecretName>,
}

/// The request that a credential is for.
#[derive(Clone, Copy)]
pub(crate) struct Asks<'a> {
    /// Where it goes.
    pub(crate) url: &'a Url,
    /// How.
    pub(crate) method: &'a str,
    /// For which team, where one asks.
    pub(crate) team: Option<&'a TeamName>,
    /// In which protocol a model is asked for: in Anthropic's and ChatGPT's, subscriptions' tokens want headers of their own.
    pub(crate) api: Option<Api>,
}

/// What was shown.
pub(crate) struct Shown {
    /// If the vault lent it.
    pub(crate) lent: Option<Injection>,
    /// Takes it out of the answer.
    pub(crate) scrubber: Scrubber,
}

/// Says which kind, never the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::ApiKey(_) => "ApiKey(hidden)",
            Self::Bearer(_) => "Bearer(hidden)",
            Self::Subscription(_) => "Subscription(hidden)",
            Self::Vault(_) => "Vault",
            Self::Missing(_) => "Missing",
        })
    }
}

/// Another holder of the same bytes, which are not copied.
impl Clone for Credential {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::ApiKey(key) => Self::ApiKey(key.share()),
            Self::Bearer(token) => Self::Bearer(token.share()),
            Self::Subscription(token) => Self::Subscription(token.share()),
            Self::Vault(key) => Self::Vault(key.clone()),
            Self::Missing(hint) => Self::Missing(hint),
        }
    }
}

/// The beta that subscription tokens need.
const SUBSCRIPTION_BETA: &str = "oauth-2025-04-20";

impl Credential {
    /// Adds what the other side wants to see. The error says what a person can do.
    pub(crate) async fn put_into(&self, headers: &mut HeaderMap, asks: Asks<'_>) -> Result<Shown, String> {
        let own = |secret: &Secret| Shown { lent: None, scrubber: Scrubber::new([secret]) };
        match self {
            Self::None => Ok(Shown { lent: None, scrubber: Scrubber::new([]) }),
            Self::Missing(hint) => Err(format!("there is no credential for it: {hint}")),
            Self::ApiKey(key) => {
                headers.insert(HeaderName::from_static("x-api-key"), value(key)?);
                Ok(own(key))
            }
            Self::Bearer(token) => {
                headers.insert(AUTHORIZATION, bearer(token)?);
                Ok(own(token))
            }
            Self::Subscription(token) => {
                headers.insert(AUTHORIZATION, bearer(token)?);
                ask_for_subscription(headers)?;
                Ok(own(token))
            }
            Self::Vault(key) => key.put_into(headers, asks).await,
        }
    }
}

impl Credential {
    /// Waits until what the vault lent may no longer be used, and says why. Safe to cancel.
    pub(crate) async fn withdrawn(&self, lent: Option<&Injection>) -> String {
        match (self, lent) {
            (Self::Vault(key), Some(lent)) => key.lender.vault().withdrawn(lent).await,
            (_, _) => std::future::pending().await,
        }
    }

    /// The other side refused what it was shown. True if there is something newer to show it.
    pub(crate) async fn refused(&self, lent: Option<&Injection>) -> bool {
        match (self, lent) {
            (Self::Vault(key), Some(lent)) => key.lender.refused(lent).await,
            (_, _) => false,
        }
    }
}

impl VaultKey {
    async fn put_into(&self, headers: &mut HeaderMap, asks: Asks<'_>) -> Result<Shown, String> {
        let own = asks.team.and_then(|team| self.teams.get(team));
        let name = own.or(self.key.as_ref()).ok_or_else(|| match asks.team {
            Some(team) => format!("team {team} has no key for it: add one to its `team_keys` in config.toml"),
            None => "there is no key for it".to_owned(),
        })?;
        let to = target(asks.url, asks.method)?;
        let lent = self.lender.lend(name, &to).await.map_err(|e| e.told_in_cell())?;
        let header = lent.header.as_deref().ok_or("the secret is a password, which no request carries")?;
        let header = HeaderName::from_bytes(header.as_bytes())
            .map_err(|_| format!("the secret `{name}` is bound to a header that can't be sent"))?;
        match asks.api {
            Some(Api::Anthropic) if header == AUTHORIZATION => ask_for_subscription(headers)?,
            Some(Api::Chatgpt) => self.name_account(headers, name)?,
            Some(Api::Anthropic | Api::Responses | Api::Chat) | None => {}
        }
        headers.insert(header, value(&lent.value)?);
        let scrubber = lent.scrubber();
        Ok(Shown { lent: Some(lent), scrubber })
    }
}

impl VaultKey {
    /// Says to ChatGPT whose subscription it is, and who asks.
    fn name_account(&self, headers: &mut HeaderMap, name: &SecretName) -> Result<(), String> {
        let account = self.lender.vault().login(name).and_then(|kept| kept.login.account);
        let account = account.and_then(|account| HeaderValue::from_str(&account).ok()).ok_or_else(|| {
            format!(
                "the secret `{name}` is of no ChatGPT subscription: log in by `lazaret secret login {name} --subscription chatgpt`"
            )
        })?;
        headers.insert(HeaderName::from_static("chatgpt-account-id"), account);
        headers.insert(HeaderName::from_static("originator"), HeaderValue::from_static("lazaret"));
        Ok(())
    }
}

/// A request to this address, as the vault knows places.
fn target<'a>(url: &'a Url, method: &'a str) -> Result<Target<'a>, String> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("its address has no host".to_owned());
    };
    let scheme = if url.scheme() == Scheme::Https.as_str() { Scheme::Https } else { Scheme::Http };
    Ok(Target { scheme, host, port, method, path: url.path() })
}

fn value(secret: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(secret.reveal())
        .map_err(|_| "the credential holds a character that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    let mut text =
        secrecy::zeroize::Zeroizing::new(Vec::with_capacity(token.reveal().len().saturating_add(7)));
    text.extend_from_slice(b"Bearer ");
    text.extend_from_slice(token.reveal());
    value(&Secret::new(text))
}

fn ask_for_subscription(headers: &mut HeaderMap) -> Result<(), String> {
    let asked = headers.get("anthropic-beta").and_then(|value| value.to_str().ok());
    let betas = asked.map_or(SUBSCRIPTION_BETA.to_owned(), |asked| format!("{asked},{SUBSCRIPTION_BETA}"));
    let betas = HeaderValue::from_str(&betas).map_err(|_| "the betas can't be sent".to_owned())?;
    headers.insert("anthropic-beta", betas);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(url: &Url) -> Asks<'_> {
        Asks { url, method: "POST", team: None, api: Some(Api::Anthropic) }
    }

    #[tokio::test]
    async fn a_credential_is_never_printed() {
        let url = Url::parse("https://a.example").unwrap();
        let secrets = [
            Credential::ApiKey("canary".into()),
            Credential::Bearer("canary".into()),
            Credential::Subscription("canary".into()),
        ];
        for credential in secrets {
            assert!(!format!("{credential:?}").contains("canary"));
            let mut headers = HeaderMap::new();
            drop(credential.put_into(&mut headers, asks(&url)).await.unwrap());
            assert!(!format!("{headers:?}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn a_subscription_keeps_the_betas_that_were_asked_for() {
        let url = Url::parse("https://a.example").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-beta", HeaderValue::from_static("effort-2025-11-24"));
        drop(Credential::Subscription("t".into()).put_into(&mut headers, asks(&url)).await.unwrap());
        assert_eq!(headers["anthropic-beta"], "effort-2025-11-24,oauth-2025-04-20");
        assert_eq!(headers["authorization"], "Bearer t");
    }
}
