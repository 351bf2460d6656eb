//! Who serves models here: the providers of `config.toml`, and those that need no configuration.

use std::sync::Arc;

use dial::Dialer;
use domain::TeamName;
use gateway::{Api, BaseUrl, Credential, ModelService, Patience, Provider, VaultKey};
use oauth::Lender;

use crate::config::{Config, ProviderApi, ProviderEntry};
use crate::error::DaemonError;
use crate::secrets;

/// The models' service. Credentials come from the vault or the daemon's environment, and stay in the daemon.
pub(crate) fn service(
    config: &Config,
    lender: &Arc<Lender>,
    dialer: &Dialer,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<ModelService, DaemonError> {
    let failed = |e: &dyn std::error::Error| DaemonError::Models(e.to_string());
    let mut providers = Vec::new();
    let built_in = Provider::built_in(&environment).map_err(|e| failed(&e))?;
    for (name, entry) in &config.providers {
        let wrong = |e: &dyn std::fmt::Display| DaemonError::Models(format!("providers.{name}: {e}"));
        let known = built_in.iter().find(|provider| provider.name == *name).cloned();
        let mut provider = match (&entry.url, entry.api, known) {
            (Some(url), Some(api), _) => {
                let base = BaseUrl::parse(url, entry.plain_http).map_err(|e| wrong(&e))?;
                let apis = match api {
                    ProviderApi::Anthropic => vec![Api::Anthropic],
                    ProviderApi::Responses | ProviderApi::Chat => vec![Api::Responses, Api::Chat],
                };
                Provider { name: name.clone(), base, apis, credential: Credential::None }
            }
            (None, None, Some(known)) => known,
            (..) => return Err(wrong(&"its `url` and its `api` are said together")),
        };
        // Without a word on it, one that is known is shown what it always is.
        let api = config.api(name).ok_or_else(|| wrong(&"its protocol is not known"))?;
        let credential = credential((entry, api), lender, &environment);
        if let Some(credential) = credential.map_err(|why| wrong(&why))? {
            provider.credential = credential;
        }
        providers.push(provider);
    }
    // The first of a name counts.
    providers.extend(built_in);
    let service = ModelService::new(providers, Patience::default(), dialer).map_err(|e| failed(&e))?;
    Ok(service.with_prices(config.prices()))
}

fn credential(
    (entry, api): (&ProviderEntry, ProviderApi),
    lender: &Arc<Lender>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Credential>, String> {
    let ProviderEntry { key_env, key, team_keys, .. } = entry;
    if key.is_some() || !team_keys.is_empty() {
        if key_env.is_some() {
            return Err("its key is either of the vault or of the environment, not both".to_owned());
        }
        let key = key.as_deref().map(secrets::named).transpose()?;
        let named = |(team, name): (&TeamName, &String)| Ok((team.clone(), secrets::named(name)?));
        let teams = team_keys.iter().map(named).collect::<Result<_, String>>()?;
        return Ok(Some(Credential::Vault(VaultKey { lender: Arc::clone(lender), key, teams })));
    }
    let Some(variable) = key_env else { return Ok(None) };
    Ok(Some(match environment(variable).filter(|key| !key.trim().is_empty()) {
        Some(key) => {
            let key = key.trim().to_owned().into();
            match api {
                ProviderApi::Anthropic => Credential::ApiKey(key),
                ProviderApi::Responses | ProviderApi::Chat => Credential::Bearer(key),
            }
        }
        None => {
            Credential::Missing("set the variable that its `key_env` names for the daemon, and start it anew")
        }
    }))
}
