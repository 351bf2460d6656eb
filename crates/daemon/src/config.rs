//! `config.toml`: what the person who owns the host decides. Nothing in a workspace, an image or an agent adds to it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dial::{BadProxy, Network};
use domain::{Confidentiality, HostPattern, ModelName, NamedHost, SecretName, TeamName, UsdMicros};
use gateway::{Price, Prices};
use policy::KnownModel;
use serde::Deserialize;

use crate::error::DaemonError;
use crate::folders::read_text;
use crate::secrets;

/// Most bytes in the file.
const MAX_BYTES: u64 = 256 * 1024;
/// Providers of which address and protocol are known.
const BUILT_IN: &[&str] = &["anthropic", "openai", "chatgpt"];

/// The configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Whether every session may run on an emulated machine, which is no security boundary.
    pub(crate) allow_emulation: bool,
    /// Another kernel than the one that Lazaret fetches.
    pub(crate) kernel: Option<PathBuf>,
    /// A socket for the host's other people: approvers and viewers with an OS user of their own.
    pub(crate) shared_socket: Option<PathBuf>,
    /// Who serves models, by the name before the `/` of a model's name.
    pub(crate) providers: BTreeMap<String, ProviderEntry>,
    /// What models cost, before the prices that are known.
    pub(crate) prices: BTreeMap<ModelName, PriceEntry>,
    /// How the host reaches the network.
    pub(crate) network: NetworkEntry,
    /// How the vault is opened.
    pub(crate) vault: VaultEntry,
}

/// How the vault is opened, where the environment names no file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VaultEntry {
    /// A program and its arguments, which prints the vault's passphrase: it asks the platform's keyring, say.
    pub(crate) passphrase_command: Option<Vec<String>>,
}

/// What a model costs: US dollars for a million tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceEntry {
    /// Tokens that it reads.
    input: f64,
    /// Tokens that it reads from the provider's cache; as others where nothing is said.
    cache_read: Option<f64>,
    /// Tokens that it reads and puts into the provider's cache; where nothing is said, twice as much as others at Anthropic's API,
    /// and as others at OpenAI's, which doesn't always tell which these are.
    cache_write: Option<f64>,
    /// Tokens that it writes.
    output: f64,
}

impl PriceEntry {
    /// The price at a provider that is asked so; none if a number is no amount.
    fn price(&self, api: Option<ProviderApi>) -> Option<Price> {
        let written = match api {
            Some(ProviderApi::Anthropic) | None => self.input * 2.0,
            Some(ProviderApi::Responses | ProviderApi::Chat) => self.input,
        };
        Some(Price {
            input: UsdMicros::dollars(self.input)?,
            cache_read: UsdMicros::dollars(self.cache_read.unwrap_or(self.input))?,
            cache_write: UsdMicros::dollars(self.cache_write.unwrap_or(written))?,
            output: UsdMicros::dollars(self.output)?,
            dearer_above: None,
        })
    }
}

/// How the host reaches the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NetworkEntry {
    /// Hosts that may have an address that isn't public.
    pub(crate) private: Vec<NamedHost>,
    /// The organisation's own hosts.
    pub(crate) own: Vec<HostPattern>,
    /// A PEM file of certificates that are trusted besides the platform's.
    pub(crate) ca: Option<PathBuf>,
    /// The proxy through which everything goes that isn't named in `private`.
    pub(crate) proxy: Option<String>,
    /// The secret of the vault that is the log-in there, as `secret:NAME`.
    pub(crate) proxy_credential: Option<String>,
    /// Whether that log-in may go to a proxy on another machine where anybody on the way can read it.
    pub(crate) proxy_password_unencrypted: bool,
}

impl NetworkEntry {
    /// The dialer's part of it.
    pub(crate) fn network(&self) -> Result<Network, String> {
        let proxy = self.proxy.as_deref().map(str::parse).transpose();
        let proxy = proxy.map_err(|e: BadProxy| format!("network.proxy: {e}"))?;
        Ok(Network { private: self.private.clone(), ca: self.ca.clone(), proxy })
    }

    /// The log-in at the proxy.
    pub(crate) fn credential(&self) -> Result<Option<SecretName>, String> {
        let Some(credential) = &self.proxy_credential else { return Ok(None) };
        let Some(proxy) = self.network()?.proxy else {
            return Err(
                "network.proxy_credential is the log-in at `network.proxy`, and none is named".to_owned()
            );
        };
        if proxy.is_overheard() && !self.proxy_password_unencrypted {
            return Err(format!(
                "network.proxy_credential would go to `{proxy}` unencrypted, for anybody between here and there to read: name the \
                 proxy as https://host:port if it speaks TLS, or a proxy on this machine that logs in there for you; or say that \
                 the password may be read, by `proxy_password_unencrypted = true`"
            ));
        }
        secrets::named(credential).map(Some).map_err(|why| format!("network.proxy_credential: {why}"))
    }
}

/// Who serves models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderEntry {
    /// Where: scheme, host and path before `/v1`; none: where the provider of this name always is.
    pub(crate) url: Option<String>,
    /// Which protocol it speaks; none: the one of the provider of this name.
    pub(crate) api: Option<ProviderApi>,
    /// The variable of the daemon's environment that holds the key; none for servers that want none.
    pub(crate) key_env: Option<String>,
    /// The secret of the vault that is its key, as `secret:NAME`.
    pub(crate) key: Option<String>,
    /// The secrets of teams that have keys of their own, as `secret:NAME`.
    #[serde(default)]
    pub(crate) team_keys: BTreeMap<TeamName, String>,
    /// Whether prompts may go to another machine unencrypted.
    #[serde(default)]
    pub(crate) plain_http: bool,
    /// The most confidential data that it may read.
    #[serde(default = "usual_clearance")]
    pub(crate) clearance: Confidentiality,
}

/// What a provider may read where nothing is said: all but secrets.
fn usual_clearance() -> Confidentiality {
    Confidentiality::Confidential
}

/// The protocols of model providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProviderApi {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions.
    Chat,
}

impl ProviderApi {
    /// As the harness is told in `LAZARET_MODEL_API`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Responses => "responses",
            Self::Chat => "chat",
        }
    }
}

impl Config {
    /// Reads `config.toml` in the configuration folder; without one, all is as usual.
    pub(crate) fn read(folder: &Path) -> Result<Self, DaemonError> {
        let path = folder.join("config.toml");
        let text = match read_text(&path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(DaemonError::File { path, source }),
        };
        Self::parse(&text).map_err(|message| DaemonError::Config { path, message })
    }

    /// The protocol that a provider speaks; none: there is no such provider.
    pub(crate) fn api(&self, provider: &str) -> Option<ProviderApi> {
        let said = self.providers.get(provider).and_then(|entry| entry.api);
        said.or(match provider {
            "anthropic" => Some(ProviderApi::Anthropic),
            "openai" | "chatgpt" => Some(ProviderApi::Responses),
            _ => None,
        })
    }

    /// An agent's models, with what their providers may read.
    pub(crate) fn known(&self, models: &[ModelName]) -> Vec<KnownModel> {
        let known = |model: &ModelName| {
            let entry = self.providers.get(model.provider());
            let clearance = entry.map_or_else(usual_clearance, |entry| entry.clearance);
            KnownModel { model: model.clone(), clearance }
        };
        models.iter().map(known).collect()
    }

    /// What models cost, as this host says.
    pub(crate) fn prices(&self) -> Prices {
        let price = |(model, entry): (&ModelName, &PriceEntry)| {
            Some((model.clone(), entry.price(self.api(model.provider()))?))
        };
        Prices::new(self.prices.iter().filter_map(price).collect())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if let Some(kernel) = config.kernel.as_deref().filter(|kernel| !kernel.is_absolute()) {
            return Err(format!("`kernel` is an absolute path, not `{}`", kernel.display()));
        }
        if let Some(socket) = config.shared_socket.as_deref().filter(|socket| !socket.is_absolute()) {
            return Err(format!("`shared_socket` is an absolute path, not `{}`", socket.display()));
        }
        if let Some((model, _)) = config.prices.iter().find(|(_, entry)| entry.price(None).is_none()) {
            return Err(format!("`prices.\"{model}\"` has a number that is no amount of US dollars"));
        }
        if let Some(ca) = config.network.ca.as_deref().filter(|ca| !ca.is_absolute()) {
            return Err(format!("`network.ca` is an absolute path, not `{}`", ca.display()));
        }
        if config.vault.passphrase_command.as_deref().is_some_and(<[String]>::is_empty) {
            return Err("`vault.passphrase_command` names no program".to_owned());
        }
        for (name, entry) in &config.providers {
            // Where is said with how, since another server may speak otherwise.
            let missing = match (&entry.url, &entry.api) {
                (Some(_), Some(_)) => continue,
                (None, None) if BUILT_IN.contains(&name.as_str()) => continue,
                (None, _) => "url",
                (Some(_), None) => "api",
            };
            return Err(format!("`providers.{name}` has no `{missing}`"));
        }
        config.network.network()?;
        config.network.credential()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_added_to_the_usual_ones() {
        let config = Config::parse(
            "allow_emulation = true\n[providers.local]\nurl = \"http://127.0.0.1:11434\"\napi = \"chat\"\nclearance = \"secret\"\n",
        )
        .unwrap();
        let known = config.known(&["local/a".parse().unwrap(), "anthropic/b".parse().unwrap()]);
        let clearances: Vec<_> = known.iter().map(|model| model.clearance).collect();
        assert_eq!(clearances, [Confidentiality::Secret, Confidentiality::Confidential]);
        assert!(config.allow_emulation);
        assert_eq!(config.providers["local"].key_env, None);
        assert_eq!(config.api("local"), Some(ProviderApi::Chat));
        assert_eq!(config.api("anthropic"), Some(ProviderApi::Anthropic));
        assert_eq!(config.api("nobody"), None);
        let config = Config::parse("[providers.chatgpt]\nkey = \"secret:chatgpt\"\n").unwrap();
        assert_eq!(config.api("chatgpt"), Some(ProviderApi::Responses));
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{}\nallow_emulation = true", "#".repeat(MAX_BYTES as usize));
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        assert!(matches!(Config::read(folder.path()), Err(DaemonError::File { .. })));
    }

    #[test]
    fn prices_are_dollars_for_a_million_tokens() {
        let config = Config::parse("[prices.\"local/a\"]\ninput = 0.25\noutput = 2\n").unwrap();
        for (api, written) in
            [(None, 500_000), (Some(ProviderApi::Anthropic), 500_000), (Some(ProviderApi::Chat), 250_000)]
        {
            let price = config.prices[&"local/a".parse().unwrap()].price(api).unwrap();
            let micros =
                [price.input, price.cache_read, price.cache_write, price.output].map(UsdMicros::as_u64);
            assert_eq!(micros, [250_000, 250_000, written, 2_000_000]);
        }
    }

    #[test]
    fn the_network_is_as_the_hosts_owner_says() {
        let config = Config::parse(
            "[network]\nprivate = [\"git.corp.example\", \"127.0.0.1:8443\"]\nown = [\"*.corp.example\"]\nproxy = \"http://proxy.corp.example:3128\"\n",
        )
        .unwrap();
        let network = config.network.network().unwrap();
        assert!(network.private[1].names("127.0.0.1", 8443) && !network.private[1].names("127.0.0.1", 443));
        assert!(config.network.own[0].names("wiki.corp.example"));
        assert_eq!(network.proxy.unwrap().to_string(), "http://proxy.corp.example:3128");
    }

    #[test]
    fn the_log_in_at_the_proxy_goes_unencrypted_to_this_machine_only_unless_its_owner_says_so() {
        let read = |more: &str| {
            let text = format!("[network]\nproxy_credential = \"secret:corp\"\n{more}");
            Config::parse(&text).map(|config| config.network.credential().unwrap().unwrap().to_string())
        };
        for good in [
            "proxy = \"https://proxy.corp.example:3129\"",
            "proxy = \"http://127.0.0.1:3128\"",
            "proxy = \"http://[::1]:3128\"",
            "proxy = \"http://localhost:3128\"",
            "proxy = \"http://proxy.corp.example:3128\"\nproxy_password_unencrypted = true",
        ] {
            assert_eq!(read(good), Ok("corp".to_owned()), "{good}");
        }
        for bad in
            ["http://proxy.corp.example:3128", "http://10.0.0.1:3128", "http://localhost.corp.example:1"]
        {
            let told = read(&format!("proxy = \"{bad}\"")).unwrap_err();
            assert!(told.contains("for anybody between here and there to read"), "{told}");
        }
        assert!(read("").unwrap_err().contains("none is named"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, told) in [
            ("allow_emulaton = true", "unknown field `allow_emulaton`"),
            ("allow_emulation = 1", "expected a boolean"),
            ("[providers.x]\nurl = \"http://a\"\napi = \"smtp\"", "unknown variant `smtp`"),
            ("[providers.x]\nurl = \"http://a\"\napi = \"chat\"\nkeys = 1", "unknown field `keys`"),
            ("[providers.x]\nkey = \"secret:x\"", "`providers.x` has no `url`"),
            ("[providers.chatgpt]\nurl = \"https://a.example\"", "`providers.chatgpt` has no `api`"),
            ("[providers.openai]\napi = \"chat\"", "`providers.openai` has no `url`"),
            ("kernel = \"vmlinuz\"", "absolute path"),
            ("[prices.\"a/b\"]\ninput = 1", "missing field `output`"),
            ("[prices.\"a/b\"]\ninput = -1.0\noutput = 1", "no amount of US dollars"),
            ("[prices.sonnet]\ninput = 1\noutput = 1", "sonnet"),
            ("[network]\nca = \"ca.pem\"", "absolute path"),
            ("[network]\nprivate = [\"A\"]", "is no host"),
            ("[network]\nown = [\"*.com\"]", "top-level domain"),
            ("[network]\nproxy = \"https://user:word@proxy:1\"", "not the address of a proxy"),
            ("[network]\nproxy = \"http://[::1]:1\"\nproxy_credential = \"word\"", "write secret:NAME"),
            ("shared_socket = \"api.sock\"", "absolute path"),
            ("[vault]\npassphrase_command = []", "names no program"),
            ("[vault]\npassphrase = \"word\"", "unknown field `passphrase`"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
