//! Who serves models: where, and in which dialects. All of it is the host's configuration.

use domain::{UserInAddress, refuse_user};
use reqwest::Url;
use vault::Secret;
use wire::model::{Dialect, Rebuilt};

use crate::credential::Credential;

/// Why a provider can't be configured so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It says who asks.
    #[error(transparent)]
    User(#[from] UserInAddress),
    /// Not the address of an HTTP server.
    #[error("`{0}` is no address that can be asked: write https://host or http://127.0.0.1:port")]
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
    /// OpenAI Responses as ChatGPT serves its subscriptions with: below another path, only as events, and without some fields.
    /// So Codex 0.171.0 asks it.
    Chatgpt,
}

/// Fields that ChatGPT refuses, and without which it answers all the same.
const NOT_FOR_CHATGPT: &[&str] = &["max_output_tokens", "temperature", "top_p"];

impl Api {
    /// Whether requests of a dialect belong to it.
    fn speaks(self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => self == Self::Anthropic,
            Dialect::OpenAiResponses => matches!(self, Self::Responses | Self::Chatgpt),
            Dialect::OpenAiChat => self == Self::Chat,
        }
    }

    /// Where a dialect's requests go, below the provider's address.
    fn path(self, dialect: Dialect) -> &'static str {
        let path = dialect.path();
        match self {
            Self::Chatgpt => path.strip_prefix("/v1").unwrap_or(path),
            Self::Anthropic | Self::Responses | Self::Chat => path,
        }
    }

    /// Makes of a request what the provider takes; the error says what a program must ask otherwise.
    pub(crate) fn fit(self, request: &mut Rebuilt) -> Result<(), &'static str> {
        request.ask_for_usage();
        if self != Self::Chatgpt {
            return Ok(());
        }
        if !request.streams() {
            return Err("it answers only as events: ask with `stream: true`");
        }
        NOT_FOR_CHATGPT.iter().for_each(|field| request.leave_out(field));
        Ok(())
    }
}

/// The address of a provider or a tool server: scheme, host, port, and perhaps a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads an address. Plain HTTP is for this machine only, unless
    /// `plain_http` allows it.
    ///
    /// # Errors
    /// When the text is no such address.
    pub fn parse(text: &str, plain_http: bool) -> Result<Self, ProviderError> {
        refuse_user(text)?;
        let bad = || ProviderError::BadUrl(text.chars().take(200).collect());
        let url = Url::parse(text).map_err(|_| bad())?;
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
        Ok(Self(url))
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address itself.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// The address of what lies below it. A `/v1` at its end is taken for granted, as providers write it.
    fn below(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let above = url.path().trim_end_matches('/');
        let above = above.strip_suffix("/v1").unwrap_or(above);
        url.set_path(&format!("{above}{path}"));
        url
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
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
    /// In which of its protocols a dialect's requests are asked.
    pub(crate) fn api(&self, dialect: Dialect) -> Option<Api> {
        self.apis.iter().copied().find(|api| api.speaks(dialect))
    }

    /// Where these requests go.
    pub(crate) fn url(&self, api: Api, dialect: Dialect) -> Url {
        self.base.below(api.path(dialect))
    }

    /// A server that speaks the OpenAI dialects, such as Ollama or vLLM.
    #[must_use]
    pub fn compatible(name: &str, base: BaseUrl, key: Option<Secret>) -> Self {
        let credential = key.map_or(Credential::None, Credential::Bearer);
        Self { name: name.to_owned(), base, apis: vec![Api::Responses, Api::Chat], credential }
    }

    /// The providers that need no configuration but a credential in the environment: `anthropic`
    /// (`ANTHROPIC_API_KEY`, or `CLAUDE_CODE_OAUTH_TOKEN` or `ANTHROPIC_AUTH_TOKEN`) and `openai` (`OPENAI_API_KEY`); and
    /// `chatgpt`, which wants a log-in.
    ///
    /// # Errors
    /// Never with the addresses that are built in.
    pub fn built_in(environment: impl Fn(&str) -> Option<String>) -> Result<Vec<Self>, ProviderError> {
        let secret = |name: &str| {
            environment(name).filter(|value| !value.trim().is_empty()).map(|v| Secret::from(v.trim()))
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
            Self {
                name: "chatgpt".to_owned(),
                base: BaseUrl::parse("https://chatgpt.com/backend-api/codex", false)?,
                apis: vec![Api::Chatgpt],
                credential: Credential::Missing(
                    "log in by `lazaret secret login chatgpt --subscription chatgpt`, and say `key = \"secret:chatgpt\"` below \
                     [providers.chatgpt] in config.toml",
                ),
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
        let told = BaseUrl::parse("https://ada:word@x.example", true).unwrap_err().to_string();
        assert!(told.contains("isn't taken") && !told.contains("word@"), "{told}");
        for bad in ["ftp://x", "https://x/?a", "https://x/#a", "x", "", "file:///etc"] {
            assert!(matches!(BaseUrl::parse(bad, true), Err(ProviderError::BadUrl(_))), "{bad}");
        }
    }

    #[test]
    fn requests_go_to_known_paths_below_the_base() {
        let url = |base: &str| {
            let base = BaseUrl::parse(base, false).unwrap();
            base.below(Api::Chat.path(Dialect::OpenAiChat)).to_string()
        };
        assert_eq!(url("http://localhost:11434/v1"), "http://localhost:11434/v1/chat/completions");
        assert_eq!(url("https://x.example/openai/"), "https://x.example/openai/v1/chat/completions");
        // A tool server is asked at exactly its address.
        for exact in ["https://x.example/v1", "https://x.example/mcp/"] {
            assert_eq!(BaseUrl::parse(exact, false).unwrap().url().as_str(), exact);
        }
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
