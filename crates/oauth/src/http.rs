//! Requests to those who give tokens: bounded in size and time, encrypted, by the one dialer, and no redirect is followed.

use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use dial::Dialer;
use reqwest::{Method, RequestBuilder};
use secrecy::zeroize::Zeroizing;
use serde::de::DeserializeOwned;
use url::{Host, Url};

use crate::OauthError;

/// Most bytes of an answer.
const MAX_ANSWER: usize = 128 << 10;
/// How long a connection, and a whole answer, may take.
const CONNECT: Duration = Duration::from_secs(15);
const WHOLE: Duration = Duration::from_secs(30);

/// Asks.
#[derive(Debug, Clone)]
pub(crate) struct Http(dial::Client);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// After how many seconds it may be asked again, where it says so; dates are not read.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Http {
    /// Asks where this dialer goes, led by this URL, which a person gave.
    pub(crate) fn new(dialer: &Dialer, given: &Url) -> Result<Self, OauthError> {
        let client = dialer.led_by(given).client(|builder| builder.connect_timeout(CONNECT));
        client.map(Self).map_err(|error| OauthError::Host(error.to_string()))
    }

    pub(crate) async fn get(&self, url: &Url) -> Result<Answer, OauthError> {
        self.send(url, self.request(Method::GET, url)?).await
    }

    /// Posts a form, perhaps with a secret in the header.
    pub(crate) async fn form(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, OauthError> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = self
            .request(Method::POST, url)?
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(url, request).await
    }

    /// Posts a document.
    pub(crate) async fn json(&self, url: &Url, document: String) -> Result<Answer, OauthError> {
        let request =
            self.request(Method::POST, url)?.header(CONTENT_TYPE, "application/json").body(document);
        self.send(url, request).await
    }

    /// What a server of MCP wants of whoever posts this to it without a log-in; none where it wants nothing, or can't be asked so.
    pub(crate) async fn challenge(
        &self,
        url: &Url,
        posted: &'static str,
    ) -> Result<Option<String>, OauthError> {
        check(url)?;
        let request =
            self.0.request(Method::POST, url.clone())?.header(ACCEPT, "application/json, text/event-stream");
        let asked = request.header(CONTENT_TYPE, "application/json").body(posted).send();
        let Ok(asked) = tokio::time::timeout(WHOLE, asked).await else { return Ok(None) };
        let response = match asked {
            Ok(response) => response,
            Err(error) => {
                return dial::refusal(&error).map_or(Ok(None), |refused| Err(OauthError::Dial(refused)));
            }
        };
        let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        Ok(challenge.filter(|_| response.status().as_u16() == 401).map(str::to_owned))
    }

    fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, OauthError> {
        check(url)?;
        Ok(self.0.request(method, url.clone())?.header(ACCEPT, "application/json"))
    }

    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Answer, OauthError> {
        let network = |why: String| OauthError::Network { url: shown(url), why };
        let failed = |error: reqwest::Error| match dial::refusal(&error) {
            Some(refused) => OauthError::Dial(refused),
            None => network(dial::told(&error)),
        };
        let whole = async {
            let mut response = request.send().await.map_err(failed)?;
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let status = response.status().as_u16();
            let retry_after = header(RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
            let mut body = Zeroizing::new(Vec::with_capacity(4096));
            while let Some(piece) = response.chunk().await.map_err(failed)? {
                if body.len().saturating_add(piece.len()) > MAX_ANSWER {
                    let why = format!("gives an answer of more than {} KiB", MAX_ANSWER >> 10);
                    return Err(OauthError::Metadata { url: shown(url), why });
                }
                body.extend_from_slice(&piece);
            }
            Ok(Answer { status, retry_after, body })
        };
        let late = |_| network(format!("no whole answer within {} s", WHOLE.as_secs()));
        tokio::time::timeout(WHOLE, whole).await.map_err(late)?
    }
}

impl Answer {
    /// The document that a success holds.
    pub(crate) fn document<T: DeserializeOwned>(&self, url: &Url) -> Result<T, OauthError> {
        let wrong = |why: String| OauthError::Metadata { url: shown(url), why };
        if !(200..300).contains(&self.status) {
            return Err(wrong(format!("answers HTTP {}", self.status)));
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            wrong(format!("answers what can't be read (line {}, column {})", e.line(), e.column()))
        })
    }
}

/// Refuses what isn't encrypted on its way, and what could say who asks.
pub(crate) fn check(url: &Url) -> Result<(), OauthError> {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let encrypted = url.scheme() == "https" || (url.scheme() == "http" && here);
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if encrypted && bare { Ok(()) } else { Err(OauthError::BadUrl(shown(url))) }
}

/// A URL as an error tells it: without what could be secret, and in short.
pub(crate) fn shown(url: &Url) -> String {
    let origin = url.origin();
    if !origin.is_tuple() {
        // Such as `host:443`, which is no host, and may be anything.
        return format!("{}:", url.scheme());
    }
    format!("{}{}", origin.ascii_serialization(), url.path()).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dial::Network;

    #[tokio::test]
    async fn a_stranger_leads_to_no_private_host_though_a_person_named_it_for_others() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let served = tokio::spawn(async move { listener.accept().await.map(drop) });
        let private = vec![here.to_string().parse().unwrap(), "tools.corp.example".parse().unwrap()];
        let dialer = Dialer::new(Network { private, ..Network::default() }).unwrap();
        let url: Url = format!("http://{here}/").parse().unwrap();
        let led = async |by: &str| {
            let http = Http::new(&dialer, &by.parse().unwrap()).unwrap();
            http.get(&url).await.err().unwrap()
        };
        let refused = led("https://tools.example/mcp").await;
        assert!(matches!(refused, OauthError::Dial(_)), "{refused}");
        assert!(!served.is_finished());
        let reached = led("https://tools.corp.example/mcp").await;
        assert!(matches!(reached, OauthError::Network { .. }), "{reached}");
        served.await.unwrap().unwrap();
    }
}
