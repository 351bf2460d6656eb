//! Pulls from registries as the OCI distribution specification says. The requests are our own, since what a registry answers
//! must be bounded before it is held in memory.

use std::path::Path;

use dial::Dialer;
use futures::{FutureExt, StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::credentials::Credential;
use super::digest::Digest;
use super::error::ImageError;
use super::http::{self, Download};
use super::limits::MAX_DOCUMENT;
use super::manifest::{self, Descriptor, Document, Manifest};
use super::progress::{Progress, Reporter};
use super::reference::Reference;
use super::source::blob;

/// Blobs fetched at once.
const AT_ONCE: usize = 3;
/// Most bytes in a token's document.
const MAX_TOKEN: u64 = 64 << 10;

/// One repository at a registry, with what it takes to read it.
pub(super) struct Repository {
    client: http::Client,
    reference: Reference,
    credential: Option<Credential>,
    authorization: Option<HeaderValue>,
}

impl Repository {
    /// The repository of `reference`. Nothing is asked yet.
    pub(super) fn new(
        dialer: &Dialer,
        reference: Reference,
        credential: Option<Credential>,
    ) -> Result<Self, ImageError> {
        let client = http::Client::new(dialer, &root(&reference))?;
        Ok(Self { client, reference, credential, authorization: None })
    }

    /// Finds the manifest for linux/amd64.
    pub(super) async fn manifest(&mut self) -> Result<(Digest, Manifest), ImageError> {
        let (digest, document) = self.document(&self.reference.version(), self.reference.digest).await?;
        let manifests = match document {
            Document::Manifest(manifest) => return Ok((digest, manifest)),
            Document::Index(manifests) => manifests,
        };
        let chosen = manifest::for_platform(manifests)?.digest;
        match self.document(&chosen.to_string(), Some(chosen)).await? {
            (digest, Document::Manifest(manifest)) => Ok((digest, manifest)),
            (_, Document::Index(_)) => Err(ImageError::Document {
                document: "the index".to_owned(),
                why: "the image that it names for linux/amd64 is an index again".to_owned(),
            }),
        }
    }

    /// Downloads configuration and layers into `folder`, as they lie in an OCI layout.
    pub(super) async fn download(
        &self,
        manifest: &Manifest,
        folder: &Path,
        most: u64,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(ImageError::io("create", &blobs))?;
        let mut wanted: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).collect();
        wanted.sort_by_key(|one| one.digest);
        wanted.dedup_by_key(|one| one.digest);
        let total = wanted.iter().fold(0_u64, |sum, one| sum.saturating_add(one.size));
        if total > most || manifest.config.size > MAX_DOCUMENT {
            let why = format!("its blobs have {total} bytes, more than an image may");
            return Err(ImageError::Document { document: "the manifest".to_owned(), why });
        }
        let reporter = std::sync::Arc::new(tokio::sync::Mutex::new(Reporter::new(
            progress,
            &format!("downloading {}", self.reference.repository),
            Some(total),
        )));
        let download = |one: &'_ Descriptor| {
            let (reporter, one) = (reporter.clone(), one.clone());
            let blob = async move {
                self.blob(&one, folder).await?;
                reporter.lock().await.add(one.size);
                Ok::<(), ImageError>(())
            };
            blob.boxed()
        };
        let downloads: Vec<_> = wanted.into_iter().map(download).collect();
        futures::stream::iter(downloads).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn url(&self, rest: &str) -> String {
        format!("{}{}/{rest}", root(&self.reference), self.reference.repository)
    }

    async fn document(
        &mut self,
        version: &str,
        expected: Option<Digest>,
    ) -> Result<(Digest, Document), ImageError> {
        let url = self.url(&format!("manifests/{version}"));
        let mut asked_for_access = false;
        loop {
            let mut asked = self.shown();
            asked.extend(HeaderValue::try_from(manifest::accepted()).ok().map(|kinds| (ACCEPT, kinds)));
            let (status, headers, body) = self.client.document(&url, asked, MAX_DOCUMENT).await?;
            match status {
                StatusCode::OK => {
                    let digest = Digest::of(&body);
                    if let Some(expected) = expected {
                        expected.check_found(digest, "the manifest")?;
                    }
                    return Ok((digest, manifest::parse(&body)?));
                }
                StatusCode::UNAUTHORIZED if !asked_for_access => {
                    asked_for_access = true;
                    self.authorization = Some(self.authorize(&headers).await?);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
                StatusCode::NOT_FOUND => {
                    return Err(http::refused(
                        &url,
                        "the registry has no such image: check name, tag and digest",
                    ));
                }
                other => return Err(http::refused(&url, other.to_string())),
            }
        }
    }

    async fn blob(&self, wanted: &Descriptor, folder: &Path) -> Result<(), ImageError> {
        let url = self.url(&format!("blobs/{}", wanted.digest));
        let response = self.client.get(&url, self.shown()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            other => return Err(http::refused(&url, other.to_string())),
        }
        let path = folder.join(blob(wanted.digest));
        let download = Download { url: &url, most: wanted.size, path: &path };
        http::store_verified(response, &download, wanted.digest).await
    }

    /// What the registry wants to see.
    fn shown(&self) -> HeaderMap {
        self.authorization.iter().map(|value| (AUTHORIZATION, value.clone())).collect()
    }

    fn denied(&self) -> ImageError {
        ImageError::Denied {
            registry: self.reference.registry.clone(),
            repository: self.reference.repository.clone(),
            why: match &self.credential {
                Some(credential) => format!("the credential of `{}` is not enough", credential.user),
                None => "no credential for it was found".to_owned(),
            },
        }
    }

    /// Gets what the registry's challenge asks for: the credential itself, or a token from the service that it names.
    async fn authorize(&self, headers: &HeaderMap) -> Result<HeaderValue, ImageError> {
        let url = self.url("");
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .collect();
        if let Some(realm) = challenges.iter().find_map(|one| one.get("bearer", "realm")) {
            let service = challenges.iter().find_map(|one| one.get("bearer", "service"));
            return self.token(realm, service).await;
        }
        if challenges.iter().any(|one| one.scheme == "basic") {
            let credential = self.credential.as_ref().ok_or_else(|| self.denied())?;
            return basic(credential).ok_or_else(|| self.denied());
        }
        Err(http::refused(&url, "the registry wants a kind of log-in that isn't known here"))
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, ImageError> {
        let mut url = Url::parse(realm).map_err(|error| http::refused(realm, error.to_string()))?;
        let at_home =
            self.reference.is_loopback() && matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
        if url.scheme() != "https" && !at_home {
            return Err(http::refused(realm, "the registry wants the credential to be sent in the clear"));
        }
        let scope = format!("repository:{}:pull", self.reference.repository);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let shown = url.to_string();
        let headers = self.credential.iter().filter_map(basic).map(|value| (AUTHORIZATION, value)).collect();
        let (status, _, body) = self.client.document(&shown, headers, MAX_TOKEN).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            other => return Err(http::refused(&shown, other.to_string())),
        }
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let bad = || http::refused(&shown, "its answer holds no token");
        let found: Token = serde_json::from_slice(&body).map_err(|_| bad())?;
        let token = found.token.or(found.access_token).ok_or_else(bad)?;
        http::secret_header(&format!("Bearer {token}")).ok_or_else(bad)
    }
}

/// The address below which a registry keeps all repositories.
fn root(reference: &Reference) -> String {
    let scheme = if reference.is_loopback() { "http" } else { "https" };
    format!("{scheme}://{}/v2/", reference.host())
}

fn basic(credential: &Credential) -> Option<HeaderValue> {
    http::basic(&credential.user, credential.password.expose_secret())
}

/// A `WWW-Authenticate` header: a scheme and its parameters.
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while let Some((name, after)) = rest.trim_start_matches([' ', ',']).split_once('=') {
            let value = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, after) = quoted.split_once('"')?;
                    rest = after;
                    value
                }
                None => {
                    let (value, after) = after.split_once(',').unwrap_or((after, ""));
                    rest = after;
                    value
                }
            };
            parameters.push((name.trim().to_ascii_lowercase(), value.to_owned()));
        }
        Some(Self { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    fn get(&self, scheme: &str, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| self.scheme == scheme && key == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text =
            r#"Bearer realm="https://auth.example/token",service="reg, one",scope="repository:a:pull""#;
        let one = Challenge::parse(text).unwrap();
        assert_eq!(one.get("bearer", "realm"), Some("https://auth.example/token"));
        assert_eq!(one.get("bearer", "service"), Some("reg, one"));
        assert_eq!(one.get("basic", "realm"), None);
        assert_eq!(Challenge::parse("Basic realm=x").unwrap().get("basic", "realm"), Some("x"));
        assert_eq!(Challenge::parse("Negotiate").unwrap().scheme, "negotiate");
    }
}
