//! The npm registry, as the person's npm is set up to use: from the environment, `~/.npmrc`, or the public one.

use std::path::PathBuf;

use dial::Dialer;
use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::super::error::ImageError;
use super::super::http;

const PUBLIC: &str = "https://registry.npmjs.org/";

/// A registry of npm packages.
pub(in super::super) struct Registry {
    /// Ends with `/`.
    base: String,
    token: Option<SecretString>,
    client: http::Client,
}

impl Registry {
    /// The one that npm would ask.
    pub(in super::super) fn configured(dialer: &Dialer) -> Result<Self, ImageError> {
        let text = config_text();
        let from_env = ["npm_config_registry", "NPM_CONFIG_REGISTRY"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok());
        let base = from_env.or_else(|| setting(&text, "registry")).unwrap_or_else(|| PUBLIC.to_owned());
        let base = if base.ends_with('/') { base } else { base + "/" };
        let bare = base.split_once("://").map_or(base.as_str(), |(_, bare)| bare);
        let token = setting(&text, &format!("//{bare}:_authToken")).map(SecretString::from);
        Self::at(dialer, base, token)
    }

    /// The one at this address.
    pub(in super::super) fn at(
        dialer: &Dialer,
        base: String,
        token: Option<SecretString>,
    ) -> Result<Self, ImageError> {
        let client = http::Client::new(dialer, &base)?;
        Ok(Self { base, token, client })
    }

    /// What the registry says of a package, at most so many bytes of it; `None` where it knows none of that name.
    pub(super) async fn describe(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let url = format!("{}{}", self.base, name.replace('/', "%2f"));
        // The short form, which has all that is needed to install.
        let mut headers = self.shown();
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.npm.install-v1+json"));
        let (status, _, document) = self.client.document(&url, headers, most).await?;
        match status {
            reqwest::StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(document)),
            status => Err(not_set_up(&url, status)),
        }
    }

    /// Where the archive of a package is.
    pub(in super::super) fn archive(&self, name: &str, version: &str) -> String {
        let last = name.rsplit('/').next().unwrap_or(name);
        format!("{}{name}/-/{last}-{version}.tgz", self.base)
    }

    /// Asks for a file of the registry.
    pub(in super::super) async fn get(&self, url: &str) -> Result<Response, ImageError> {
        let response = self.client.get(url, self.shown()).await?;
        if !response.status().is_success() {
            return Err(not_set_up(url, response.status()));
        }
        Ok(response)
    }

    /// What the registry wants to see.
    fn shown(&self) -> HeaderMap {
        let token = self.token.as_ref();
        let value = token.and_then(|token| http::secret_header(&format!("Bearer {}", token.expose_secret())));
        value.into_iter().map(|value| (AUTHORIZATION, value)).collect()
    }
}

fn not_set_up(url: &str, status: reqwest::StatusCode) -> ImageError {
    http::refused(url, format!("{status}: is npm set up to use this registry? see `npm config get registry`"))
}

/// The person's npm settings; nothing where there are none.
fn config_text() -> String {
    let user = std::env::var_os("npm_config_userconfig")
        .or_else(|| std::env::var_os("NPM_CONFIG_USERCONFIG"))
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".npmrc")));
    [user, Some(PathBuf::from("/etc/npmrc"))]
        .into_iter()
        .flatten()
        .filter_map(|path| http::settings(&path))
        .collect()
}

/// The value of `key = value` in npm's ini format, the first one where there are several; `${NAME}` is from the environment.
fn setting(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        if name.trim() != key {
            return None;
        }
        let value = value.trim().trim_matches('"');
        match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            Some(variable) => std::env::var(variable).ok(),
            None => Some(value.to_owned()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_npm_does() {
        let text =
            "# registry=no\nregistry = \"https://npm.acme.example/\"\n//npm.acme.example/:_authToken=abc\n";
        assert_eq!(setting(text, "registry").as_deref(), Some("https://npm.acme.example/"));
        assert_eq!(setting(text, "//npm.acme.example/:_authToken").as_deref(), Some("abc"));
        assert_eq!(setting(text, "proxy"), None);
    }
}
