//! Who serves models here: the providers of `config.toml`, and those that need no configuration.

use gateway::{Api, BaseUrl, Credential, ModelService, Patience, Provider};

use crate::config::{Config, ProviderApi, ProviderEntry};
use crate::error::DaemonError;

/// The models' service. Credentials come from the daemon's environment, and stay in it.
pub(crate) fn service(
    config: &Config,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<ModelService, DaemonError> {
    let failed = |e: &dyn std::error::Error| DaemonError::Models(e.to_string());
    let mut providers = Vec::new();
    for (name, entry) in &config.providers {
        let base = BaseUrl::parse(&entry.url, entry.plain_http)
            .map_err(|e| DaemonError::Models(format!("providers.{name}: {e}")))?;
        let apis = match entry.api {
            ProviderApi::Anthropic => vec![Api::Anthropic],
            ProviderApi::Responses | ProviderApi::Chat => vec![Api::Responses, Api::Chat],
        };
        let credential = credential(entry, &environment);
        providers.push(Provider { name: name.clone(), base, apis, credential });
    }
    // The first of a name counts.
    providers.extend(Provider::built_in(environment).map_err(|e| failed(&e))?);
    ModelService::new(providers, Patience::default()).map_err(|e| failed(&e))
}

fn credential(entry: &ProviderEntry, environment: impl Fn(&str) -> Option<String>) -> Credential {
    let Some(variable) = &entry.key_env else { return Credential::None };
    match environment(variable).filter(|key| !key.trim().is_empty()) {
        Some(key) => {
            let key = key.trim().to_owned().into();
            match entry.api {
                ProviderApi::Anthropic => Credential::ApiKey(key),
                ProviderApi::Responses | ProviderApi::Chat => Credential::Bearer(key),
            }
        }
        None => {
            Credential::Missing("set the variable that its `key_env` names for the daemon, and start it anew")
        }
    }
}
