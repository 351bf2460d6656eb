//! HTTPS for registries: answers of bounded size, no way down from HTTPS to HTTP, and the credential only to the host that
//! it is for.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response};

use super::digest::Digest;
use super::error::ImageError;

/// How long a registry may take to accept a connection, and to send the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes in a file of settings.
const MAX_SETTINGS: u64 = 1 << 20;
/// How long a document or an error may take.
const DOCUMENT_TIME: Duration = Duration::from_secs(120);

/// A client. With `https_only` false it talks to registries on this host, and to no others in the clear.
pub(super) fn client(https_only: bool) -> Result<reqwest::Client, ImageError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been quicker, which is as good.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was there already");
        }
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("lazaret/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .https_only(https_only);
    if !https_only {
        builder = builder.no_proxy().redirect(reqwest::redirect::Policy::none());
    }
    builder.build().map_err(|error| network("the TLS client", &error))
}

/// Whether a URL is of this host, so that plain HTTP is no risk.
pub(super) fn is_loopback(url: &str) -> bool {
    ["http://localhost:", "http://127.0.0.1:", "http://localhost/", "http://127.0.0.1/"]
        .iter()
        .any(|start| url.starts_with(start))
}

/// A file of the person's settings; `None` where there is none that can be read.
pub(super) fn settings(path: &Path) -> Option<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_SETTINGS).read_to_string(&mut text));
    match read {
        Ok(_) => Some(text + "\n"),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "settings of a package manager can't be read");
            None
        }
    }
}

/// An error of the network. Only the part of the URL before any query is shown: what follows can be a secret.
pub(super) fn network(url: &str, error: &reqwest::Error) -> ImageError {
    let mut why = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        // reqwest's own text repeats the URL, so only what lies beneath is told.
        if error.downcast_ref::<reqwest::Error>().is_none() {
            why = error.to_string();
        }
        next = error.source();
    }
    if why.is_empty() {
        why = error.status().map_or_else(|| "the request failed".to_owned(), |status| status.to_string());
    }
    refused(url, why)
}

/// An answer that is not what was asked for.
pub(super) fn refused(url: &str, why: impl Into<String>) -> ImageError {
    let url = url.split(['?', '#']).next().unwrap_or_default().chars().take(300).collect();
    ImageError::Network { url, why: why.into() }
}

/// Sends a request for a document and reads the whole answer, at most `most` bytes of it, whatever its status.
pub(super) async fn document(
    request: RequestBuilder,
    url: &str,
    most: u64,
) -> Result<(reqwest::StatusCode, HeaderMap, Vec<u8>), ImageError> {
    let whole = async {
        let mut response = request.send().await.map_err(|error| network(url, &error))?;
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| network(url, &error))? {
            if body.len().saturating_add(bytes.len()) as u64 > most {
                return Err(refused(url, format!("the answer has more than {most} bytes")));
            }
            body.extend_from_slice(&bytes);
        }
        Ok((response.status(), std::mem::take(response.headers_mut()), body))
    };
    tokio::time::timeout(DOCUMENT_TIME, whole)
        .await
        .map_err(|_| refused(url, format!("no whole answer within {} s", DOCUMENT_TIME.as_secs())))?
}

/// Which bytes are expected, and where they go.
pub(super) struct Download<'a> {
    /// For errors.
    pub(super) url: &'a str,
    /// Most bytes.
    pub(super) most: u64,
    /// The new file.
    pub(super) path: &'a Path,
}

/// Stores the body of `response` in a new file, passing each piece to `check` too.
pub(super) async fn store(
    mut response: Response,
    download: &Download<'_>,
    mut check: impl FnMut(&[u8]),
) -> Result<(), ImageError> {
    let Download { url, most, path } = *download;
    let mut file = File::create_new(path).map_err(ImageError::io("create", path))?;
    let mut count = 0_u64;
    while let Some(bytes) = response.chunk().await.map_err(|error| network(url, &error))? {
        count = count.saturating_add(bytes.len() as u64);
        if count > most {
            return Err(refused(url, format!("it sends more than {most} bytes")));
        }
        check(&bytes);
        file.write_all(&bytes).map_err(ImageError::io("write", path))?;
    }
    Ok(())
}

/// Stores a body that must have this digest.
pub(super) async fn store_verified(
    response: Response,
    download: &Download<'_>,
    expected: Digest,
) -> Result<(), ImageError> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    store(response, download, |bytes| hash.update(bytes)).await?;
    let found = Digest::from_bytes(hash.finalize().into());
    expected.check_found(found, &format!("the blob at `{}`", download.url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_on_this_host_are_asked_in_the_clear() {
        assert!(is_loopback("http://127.0.0.1:4873/"));
        for bad in ["http://127.0.0.1.evil.example/", "http://localhost.evil/", "http://npm.acme.example/"] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
