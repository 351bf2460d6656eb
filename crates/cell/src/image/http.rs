//! HTTPS for registries: answers of bounded size, no way down from HTTPS to HTTP, and the credential only to the host that
//! it is for. Registries keep files elsewhere, so redirects lead on, each judged as a request of its own.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::path::Path;
use std::time::Duration;

use dial::Dialer;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::digest::Digest;
use super::error::ImageError;

/// How long a registry may take to accept a connection, and to send the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes in a file of settings.
const MAX_SETTINGS: u64 = 1 << 20;
/// How long a document or an error may take.
const DOCUMENT_TIME: Duration = Duration::from_secs(120);

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Asks one registry.
pub(super) struct Client {
    client: dial::Client,
    /// Whether the registry is on this host: then it may be asked in the clear, and may name others there.
    at_home: bool,
}

impl Client {
    /// For the registry at this address, where the dialer goes.
    pub(super) fn new(dialer: &Dialer, base: &str) -> Result<Self, ImageError> {
        let url = Url::parse(base).map_err(|error| refused(base, error.to_string()))?;
        let at_home = is_loopback(base);
        let client = dialer
            .configured(&url)
            .client(|builder| builder.connect_timeout(PATIENCE).read_timeout(PATIENCE).https_only(!at_home));
        Ok(Self { client: client.map_err(|error| network("the TLS client", &error))?, at_home })
    }

    /// Asks for what is there, and where the answer leads; the credential goes to the first host and port alone.
    pub(super) async fn get(&self, url: &str, mut headers: HeaderMap) -> Result<Response, ImageError> {
        let mut at = Url::parse(url).map_err(|error| refused(url, error.to_string()))?;
        for _ in 0..=MAX_REDIRECTS {
            if at.scheme() != "https" && !(self.at_home && is_loopback(at.as_str())) {
                return Err(refused(at.as_str(), "it is not asked in the clear"));
            }
            let request = self.client.request(Method::GET, at.clone());
            let request = request.map_err(|error| refused(at.as_str(), error.to_string()))?;
            let response = request.headers(headers.clone()).send().await;
            let response = response.map_err(|error| network(at.as_str(), &error))?;
            let Some(next) = leads_to(&response, &at) else { return Ok(response) };
            if next.origin() != at.origin() {
                headers.remove(AUTHORIZATION);
            }
            at = next;
        }
        Err(refused(url, format!("it leads on more than {MAX_REDIRECTS} times")))
    }

    /// Asks for a document and reads the whole answer, at most `most` bytes of it, whatever its status.
    pub(super) async fn document(
        &self,
        url: &str,
        headers: HeaderMap,
        most: u64,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ImageError> {
        let whole = async {
            let mut response = self.get(url, headers).await?;
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
}

/// Where a redirect leads; none: it is an answer.
fn leads_to(response: &Response, from: &Url) -> Option<Url> {
    let to = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    from.join(to.to_str().ok()?).ok()
}

/// A header's value that is never shown; none if no header can carry it.
pub(super) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A name and a password as a header.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret_header(&format!("Basic {encoded}"))
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
    if let Some(why) = dial::refusal(error) {
        return refused(url, why.to_string());
    }
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
    use super::super::tests::{Here, dialer};
    use super::*;
    use dial::Network;
    use std::net::TcpListener;
    use std::sync::mpsc;

    /// Answers connections in order with a redirect there, or with `ok`; tells each request's head.
    fn leading(to: Vec<Option<String>>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for to in to {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                drop(tell.send(String::from_utf8(head).unwrap().to_lowercase()));
                let answer = match to {
                    Some(to) => format!("HTTP/1.1 307 X\r\nlocation: {to}\r\nconnection: close\r\n\r\n"),
                    None => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_owned(),
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (base, told)
    }

    fn with_credential() -> HeaderMap {
        [(AUTHORIZATION, secret_header("Bearer canary").unwrap())].into_iter().collect()
    }

    #[tokio::test]
    async fn a_redirect_leads_on_without_the_credential_and_only_where_the_dialer_goes() {
        let (elsewhere, asked_elsewhere) = leading(vec![None]);
        let (base, asked) = leading(vec![
            Some("/moved".to_owned()),
            Some(format!("{elsewhere}/file")),
            Some(elsewhere.clone()),
        ]);
        let named = elsewhere.trim_start_matches("http://").parse().unwrap();
        let client = Client::new(&dialer().naming(named), &base).unwrap();
        let (status, _, body) = client.document(&base, with_credential(), 10).await.unwrap();
        assert_eq!((status, body.as_slice()), (StatusCode::OK, b"ok".as_slice()));
        assert!(asked.recv().unwrap().contains("canary"));
        assert!(asked.recv().unwrap().contains("canary"), "to its own host and port it goes on");
        assert!(!asked_elsewhere.recv().unwrap().contains("canary"));
        // Another port of this host, which nobody named.
        let refused = Client::new(&dialer(), &base).unwrap().get(&base, HeaderMap::new()).await.unwrap_err();
        assert!(refused.to_string().contains("[network] private"), "{refused}");
    }

    #[tokio::test]
    async fn redirects_end() {
        let (base, _asked) = leading(vec![Some("/again".to_owned()); 9]);
        let refused = Client::new(&dialer(), &base).unwrap().get(&base, HeaderMap::new()).await.unwrap_err();
        assert!(refused.to_string().contains("more than 5 times"), "{refused}");
    }

    #[tokio::test]
    async fn a_registry_whose_name_leads_to_this_host_is_refused() {
        let dialer = Dialer::resolving(Network::default(), Here).unwrap();
        let url = "https://registry.example/v2/";
        let refused = Client::new(&dialer, url).unwrap().get(url, HeaderMap::new()).await.unwrap_err();
        assert!(refused.to_string().contains("`registry.example` leads to 127.0.0.1"), "{refused}");
    }

    #[test]
    fn only_registries_on_this_host_are_asked_in_the_clear() {
        assert!(is_loopback("http://127.0.0.1:4873/"));
        for bad in ["http://127.0.0.1.evil.example/", "http://localhost.evil/", "http://npm.acme.example/"] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
