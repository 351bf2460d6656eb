//! Who serves models: where, in which dialects, and with which credential. All of it is the host's configuration.

use std::fmt;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use wire::model::Dialect;

/// Why a provider can't be configured so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Not the address of an HTTP server.
    #[error("`{0}` is not the address of a model provider: write https://host or http://127.0.0.1:port")]
    BadUrl(String),
    /// Plain HTTP to another machine.
    #[error(
        "`{0}` would carry prompts and keys unencrypted to another machine: use https, or allow it by `plain_http = true`"
    )]
    PlainHttp(String),
}

/// A protocol family that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// Anthropic Messages, and its token counting.
    Anthropic,
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions.
    Chat,
}

impl Api {
    /// The family of a dialect.
    #[must_use]
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => Self::Anthropic,
            Dialect::OpenAiResponses => Self::Responses,
            Dialect::OpenAiChat => Self::Chat,
        }
    }
}

/// The address of a provider: scheme, host, port, and perhaps a path, without `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads an address. A `/v1` at its end is taken for granted. Plain HTTP is for this machine only, unless
    /// `plain_http` allows it.
    ///
    /// # Errors
    /// When the text is no such address.
    pub fn parse(text: &str, plain_http: bool) -> Result<Self, ProviderError> {
        let bad = || ProviderError::BadUrl(text.chars().take(200).collect());
        let mut url = Url::parse(text).map_err(|_| bad())?;
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _other => return Err(bad()),
        };
        let whole = url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !whole {
            return Err(bad());
        }
        if plain && !plain_http && !is_loopback(&url) {
            return Err(ProviderError::PlainHttp(url.origin().ascii_serialization()));
        }
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address of a dialect's requests.
    pub(crate) fn of(&self, dialect: Dialect) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{}", self.0.path().trim_end_matches('/'), dialect.path()));
        url
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// What the host shows a provider.
#[derive(Clone)]
pub enum Credential {
    /// Nothing: local servers.
    None,
    /// A key in `x-api-key`.
    ApiKey(SecretString),
    /// A token in `authorization`.
    Bearer(SecretString),
    /// A Claude subscription's token, as `claude setup-token` makes it: a bearer token that needs a beta of the API.
    Subscription(SecretString),
    /// There should be one: what to do about it.
    Missing(&'static str),
}

/// Says which kind, never the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::ApiKey(_) => "ApiKey(hidden)",
            Self::Bearer(_) => "Bearer(hidden)",
            Self::Subscription(_) => "Subscription(hidden)",
            Self::Missing(_) => "Missing",
        })
    }
}

/// The beta that subscription tokens need.
const SUBSCRIPTION_BETA: &str = "oauth-2025-04-20";

impl Credential {
    /// Adds what the provider wants to see. The error says what a person can do.
    pub(crate) fn put_into(&self, headers: &mut HeaderMap) -> Result<(), String> {
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| "the credential holds a character that no header can carry".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        match self {
            Self::None => {}
            Self::Missing(hint) => return Err(format!("there is no credential for it: {hint}")),
            Self::ApiKey(key) => {
                headers.insert(HeaderName::from_static("x-api-key"), secret(key.expose_secret())?);
            }
            Self::Bearer(token) => {
                headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", token.expose_secret()))?);
            }
            Self::Subscription(token) => {
                headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", token.expose_secret()))?);
                let asked = headers.get("anthropic-beta").and_then(|value| value.to_str().ok());
                let betas = asked
                    .map_or(SUBSCRIPTION_BETA.to_owned(), |asked| format!("{asked},{SUBSCRIPTION_BETA}"));
                let betas =
                    HeaderValue::from_str(&betas).map_err(|_| "the betas can't be sent".to_owned())?;
                headers.insert("anthropic-beta", betas);
            }
        }
        Ok(())
    }
}

/// One provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its name: the part of a model's name before the slash.
    pub name: String,
    /// Where it is.
    pub base: BaseUrl,
    /// What it speaks.
    pub apis: Vec<Api>,
    /// What it is shown.
    pub credential: Credential,
}

impl Provider {
    /// A server that speaks the OpenAI dialects, such as Ollama or vLLM.
    #[must_use]
    pub fn compatible(name: &str, base: BaseUrl, key: Option<SecretString>) -> Self {
        let credential = key.map_or(Credential::None, Credential::Bearer);
        Self { name: name.to_owned(), base, apis: vec![Api::Responses, Api::Chat], credential }
    }

    /// The providers that need no configuration but a credential in the environment: `anthropic`
    /// (`ANTHROPIC_API_KEY`, or `CLAUDE_CODE_OAUTH_TOKEN` or `ANTHROPIC_AUTH_TOKEN`) and `openai` (`OPENAI_API_KEY`).
    ///
    /// # Errors
    /// Never with the addresses that are built in.
    pub fn built_in(environment: impl Fn(&str) -> Option<String>) -> Result<Vec<Self>, ProviderError> {
        let secret = |name: &str| {
            environment(name)
                .filter(|value| !value.trim().is_empty())
                .map(|v| SecretString::from(v.trim().to_owned()))
        };
        let anthropic = secret("ANTHROPIC_API_KEY")
            .map(Credential::ApiKey)
            .or_else(|| secret("CLAUDE_CODE_OAUTH_TOKEN").map(Credential::Subscription))
            .or_else(|| secret("ANTHROPIC_AUTH_TOKEN").map(Credential::Subscription))
            .unwrap_or(Credential::Missing(
                "set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN for the daemon",
            ));
        let openai = secret("OPENAI_API_KEY")
            .map_or(Credential::Missing("set OPENAI_API_KEY for the daemon"), Credential::Bearer);
        Ok(vec![
            Self {
                name: "anthropic".to_owned(),
                base: BaseUrl::parse("https://api.anthropic.com", false)?,
                apis: vec![Api::Anthropic],
                credential: anthropic,
            },
            Self {
                name: "openai".to_owned(),
                base: BaseUrl::parse("https://api.openai.com", false)?,
                apis: vec![Api::Responses, Api::Chat],
                credential: openai,
            },
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine() {
        for good in
            ["http://127.0.0.1:11434", "http://localhost:8000/v1", "http://[::1]:1/", "https://x.example"]
        {
            assert!(BaseUrl::parse(good, false).is_ok(), "{good}");
        }
        for bad in
            ["http://192.168.1.2:8000", "http://127.0.0.1.evil.example", "http://localhost.evil.example"]
        {
            assert!(matches!(BaseUrl::parse(bad, false), Err(ProviderError::PlainHttp(_))), "{bad}");
            assert!(BaseUrl::parse(bad, true).is_ok(), "{bad}");
        }
        for bad in ["ftp://x", "https://user@x", "https://x/?a", "https://x/#a", "x", "", "file:///etc"] {
            assert!(matches!(BaseUrl::parse(bad, true), Err(ProviderError::BadUrl(_))), "{bad}");
        }
    }

    #[test]
    fn requests_go_to_known_paths_below_the_base() {
        let url = |base: &str| BaseUrl::parse(base, false).unwrap().of(Dialect::OpenAiChat).to_string();
        assert_eq!(url("http://localhost:11434/v1"), "http://localhost:11434/v1/chat/completions");
        assert_eq!(url("https://x.example/openai/"), "https://x.example/openai/v1/chat/completions");
    }

    #[test]
    fn a_credential_is_never_printed() {
        let secrets = [
            Credential::ApiKey("canary".into()),
            Credential::Bearer("canary".into()),
            Credential::Subscription("canary".into()),
        ];
        for credential in secrets {
            assert!(!format!("{credential:?}").contains("canary"));
            let mut headers = HeaderMap::new();
            credential.put_into(&mut headers).unwrap();
            assert!(!format!("{headers:?}").contains("canary"));
        }
    }

    #[test]
    fn a_subscription_keeps_the_betas_that_were_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-beta", HeaderValue::from_static("effort-2025-11-24"));
        Credential::Subscription("t".into()).put_into(&mut headers).unwrap();
        assert_eq!(headers["anthropic-beta"], "effort-2025-11-24,oauth-2025-04-20");
        assert_eq!(headers["authorization"], "Bearer t");
    }

    #[test]
    fn credentials_come_from_the_environment_in_order() {
        let of = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let providers =
                Provider::built_in(move |name| names.contains(&name.to_owned()).then(|| "s".into()));
            format!("{:?}", providers.unwrap()[0].credential)
        };
        assert_eq!(of(&["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"]), "ApiKey(hidden)");
        assert_eq!(of(&["CLAUDE_CODE_OAUTH_TOKEN"]), "Subscription(hidden)");
        assert_eq!(of(&[]), "Missing");
    }
}
