//! The index of Python packages, as the person's pip is set up to use: from the environment, `pip.conf`, or the public one. Its
//! JSON form (PEP 691) alone is spoken.

use std::path::{Path, PathBuf};

use dial::Dialer;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::super::error::ImageError;
use super::super::http;
use super::requirement::Name;

const PUBLIC: &str = "https://pypi.org/simple/";
const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// An index.
pub(in super::super) struct Index {
    /// Ends with `/`, and has no credential in it.
    base: Url,
    login: Option<(String, SecretString)>,
    client: http::Client,
}

impl Index {
    /// The one that pip would ask.
    pub(in super::super) fn configured(dialer: &Dialer) -> Result<Self, ImageError> {
        let from_env = std::env::var("PIP_INDEX_URL").ok().filter(|url| !url.is_empty());
        let from_files =
            || config_files().iter().find_map(|path| setting(&http::settings(path)?, "index-url"));
        Self::at(dialer, &from_env.or_else(from_files).unwrap_or_else(|| PUBLIC.to_owned()))
    }

    /// The one at this address, which may hold a name and a password.
    pub(in super::super) fn at(dialer: &Dialer, address: &str) -> Result<Self, ImageError> {
        let refuse = |why: &str| http::refused("pip's `index-url`", why);
        let mut base = Url::parse(address).map_err(|_| refuse("it is no URL"))?;
        let (user, password) = (decoded(base.username()), decoded(base.password().unwrap_or_default()));
        let login = (!user.is_empty()).then(|| (user, SecretString::from(password)));
        let stripped = base.set_username("").and_then(|()| base.set_password(None));
        stripped.map_err(|()| refuse("it has no host"))?;
        base.set_query(None);
        base.set_fragment(None);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = http::Client::new(dialer, base.as_str())?;
        Ok(Self { base, login, client })
    }

    /// What the index says of a package, at most so many bytes of it, and where it says that; `None` where it knows none of
    /// that name.
    pub(super) async fn describe(
        &self,
        name: &Name,
        most: u64,
    ) -> Result<Option<(Url, Vec<u8>)>, ImageError> {
        let url = self
            .base
            .join(&format!("{name}/"))
            .map_err(|error| http::refused(name.as_str(), error.to_string()))?;
        let mut headers = self.shown(&url);
        headers.insert(ACCEPT, HeaderValue::from_static(JSON));
        let (status, headers, document) = self.client.document(url.as_str(), headers, most).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(not_set_up(&url, status));
        }
        if !is_json(&headers) {
            let why = "it answers in another form than JSON (PEP 691), such as HTML, which is not read: \
                       set pip's `index-url` to an index that has it, as pypi.org does";
            return Err(http::refused(url.as_str(), why));
        }
        Ok(Some((url, document)))
    }

    /// A file of the index, of at most so many bytes.
    pub(super) async fn document(&self, url: &Url, most: u64) -> Result<Vec<u8>, ImageError> {
        self.check(url)?;
        let (status, _, document) = self.client.document(url.as_str(), self.shown(url), most).await?;
        if status.is_success() { Ok(document) } else { Err(not_set_up(url, status)) }
    }

    /// Asks for a file of the index.
    pub(super) async fn get(&self, url: &Url) -> Result<Response, ImageError> {
        self.check(url)?;
        let response = self.client.get(url.as_str(), self.shown(url)).await?;
        if response.status().is_success() { Ok(response) } else { Err(not_set_up(url, response.status())) }
    }

    /// Files may lie elsewhere, but nothing is asked in the clear that is not on this host.
    fn check(&self, url: &Url) -> Result<(), ImageError> {
        let here = http::is_loopback(self.base.as_str()) && http::is_loopback(url.as_str());
        if url.scheme() == "https" || here {
            return Ok(());
        }
        Err(http::refused(
            url.as_str(),
            "the index keeps a file there, where it can't be asked for over HTTPS",
        ))
    }

    /// The credential goes to the index's own host and port only.
    fn shown(&self, url: &Url) -> HeaderMap {
        let login = self.login.as_ref().filter(|_| url.origin() == self.base.origin());
        let value = login.and_then(|(user, password)| http::basic(user, password.expose_secret()));
        value.into_iter().map(|value| (AUTHORIZATION, value)).collect()
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
}

fn not_set_up(url: &Url, status: StatusCode) -> ImageError {
    http::refused(url.as_str(), format!("{status}: is pip set up to use this index? see `pip config list`"))
}

/// Where pip's settings are; the first that says something counts.
fn config_files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let user = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let files = [
        variable("PIP_CONFIG_FILE"),
        user.map(|folder| folder.join("pip/pip.conf")),
        home.map(|home| home.join(".pip/pip.conf")),
        Some(Path::new("/etc/pip.conf").to_owned()),
    ];
    files.into_iter().flatten().collect()
}

/// The value of `key` in the section `global` of a `pip.conf`.
fn setting(text: &str, key: &str) -> Option<String> {
    let mut section = "";
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((name, value)) = line.split_once(['=', ':']) else { continue };
        let value = value.trim();
        if section == "global" && name.trim().replace('_', "-") == key && !value.is_empty() {
            return Some(value.to_owned());
        }
    }
    None
}

/// A part of a URL without its `%` escapes.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|hex| hex::decode(hex).ok());
        bytes.extend(escaped.as_deref().unwrap_or(&[*first]));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::dialer;
    use super::*;

    #[test]
    fn settings_are_read_as_pip_does() {
        let text = "[install]\nindex-url = https://no.example/\n[global]\n# index-url = no\nindex_url: https://py.acme.example/simple\n";
        assert_eq!(setting(text, "index-url").as_deref(), Some("https://py.acme.example/simple"));
        assert_eq!(setting(text, "proxy"), None);
        assert_eq!(setting("index-url = https://no.example/", "index-url"), None);
    }

    #[test]
    fn a_credential_is_taken_out_of_the_address_and_goes_to_its_own_host() {
        let index = Index::at(&dialer(), "https://ann:p%40ss%2@py.acme.example:8443/simple?x#y").unwrap();
        assert_eq!(index.base.as_str(), "https://py.acme.example:8443/simple/");
        let (user, password) = index.login.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("ann", "p@ss%2"));
        let has_login = |url: &str| index.shown(&url.parse().unwrap()).contains_key("authorization");
        assert!(has_login("https://py.acme.example:8443/files/x.whl"));
        for other in [
            "https://files.acme.example/x.whl",
            "https://py.acme.example/x.whl",
            "http://py.acme.example:8443/",
        ] {
            assert!(!has_login(other), "{other}");
        }
    }

    #[test]
    fn nothing_is_asked_in_the_clear_but_this_host() {
        let public = Index::at(&dialer(), "https://py.acme.example/simple").unwrap();
        let local = Index::at(&dialer(), "http://127.0.0.1:3141/simple").unwrap();
        let (plain, here) = ("http://py.acme.example/x.whl", "http://127.0.0.1:3141/x.whl");
        for (index, url, allowed) in [
            (&public, "https://files.acme.example/x.whl", true),
            (&public, plain, false),
            (&public, here, false),
            (&public, "file:///etc/passwd", false),
            (&local, here, true),
            (&local, plain, false),
        ] {
            assert_eq!(index.check(&url.parse().unwrap()).is_ok(), allowed, "{url}");
        }
        assert!(
            Index::at(&dialer(), "not a url").is_err() && Index::at(&dialer(), "data:text/plain,x").is_err()
        );
    }
}
