//! Who gives tokens for a server: it says so itself (RFC 9728), and what it names says how (RFC 8414, OpenID Connect).

use serde::Deserialize;
use url::Url;

use crate::OauthError;
use crate::http::{self, Http, shown};

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const SERVER: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
/// What a client of MCP says first: servers challenge what is posted to them, and have no answer to other questions.
const FIRST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"lazaret","version":"1"}}}"#;
/// Most scopes, and bytes of one.
pub(crate) const MAX_SCOPES: usize = 64;
pub(crate) const MAX_SCOPE: usize = 256;
/// Most bytes of an issuer's name, which stands in errors and on the ledger.
const MAX_ISSUER: usize = 1024;

/// What a server says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// What tokens for it are asked for.
    pub(crate) resource: String,
    /// Who gives them.
    pub(crate) issuer: Url,
    /// What to ask for.
    pub(crate) scopes: Vec<String>,
}

#[derive(Deserialize)]
struct ResourceDocument {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

/// What an authorization server says of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Server {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: Option<Url>,
    pub(crate) token_endpoint: Url,
    pub(crate) device_authorization_endpoint: Option<Url>,
    pub(crate) registration_endpoint: Option<Url>,
    pub(crate) revocation_endpoint: Option<Url>,
    #[serde(default)]
    pub(crate) code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    pub(crate) token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    pub(crate) authorization_response_iss_parameter_supported: bool,
}

/// Asks a server of MCP who gives tokens for it.
pub(crate) async fn resource(http: &Http, server: &Url) -> Result<Resource, OauthError> {
    let challenge = http.challenge(server, FIRST).await?.unwrap_or_default();
    let challenge = challenge.as_str();
    let named = parameter(challenge, "resource_metadata");
    let mut places: Vec<Url> = match named.map(|named| Url::parse(&named)) {
        // It speaks for itself alone.
        Some(Ok(url)) if url.origin() == server.origin() => vec![url],
        Some(_) => {
            let why = "says that another host describes it, which is not believed".to_owned();
            return Err(OauthError::Metadata { url: shown(server), why });
        }
        None => vec![well_known(server, RESOURCE, true), well_known(server, RESOURCE, false)],
    };
    places.dedup();
    for place in places {
        let answer = http.get(&place).await?;
        if answer.status == 404 {
            continue;
        }
        let document: ResourceDocument = answer.document(&place)?;
        let wrong = |why: &str| OauthError::Metadata { url: shown(&place), why: why.to_owned() };
        if !describes(&document.resource, server) {
            return Err(wrong("describes another server than the one that was asked for"));
        }
        let issuer = document.authorization_servers.first().and_then(|text| Url::parse(text).ok());
        let issuer = issuer.ok_or_else(|| wrong("names nobody who gives tokens"))?;
        let scopes = scopes(challenge).unwrap_or_else(|| bounded(document.scopes_supported));
        return Ok(Resource { resource: document.resource, issuer, scopes });
    }
    Err(OauthError::NoServer(shown(server)))
}

/// What a challenge says to ask for.
fn scopes(challenge: &str) -> Option<Vec<String>> {
    Some(bounded(parameter(challenge, "scope")?.split(' ').map(str::to_owned)))
}

fn bounded(scopes: impl IntoIterator<Item = String>) -> Vec<String> {
    scopes.into_iter().filter(|scope| is_scope(scope)).take(MAX_SCOPES).collect()
}

/// Asks an authorization server how it is asked. It must be who it is taken for.
pub(crate) async fn server(http: &Http, issuer: &Url) -> Result<Server, OauthError> {
    http::check(issuer)?;
    // RFC 8414, section 2.
    if issuer.query().is_some() || issuer.as_str().len() > MAX_ISSUER {
        let why = format!("is no issuer: one has no query, and up to {MAX_ISSUER} bytes");
        return Err(OauthError::Metadata { url: shown(issuer), why });
    }
    let mut below = issuer.clone();
    below.set_path(&format!("{}{OPENID}", issuer.path().trim_end_matches('/')));
    let mut places = vec![well_known(issuer, SERVER, true), well_known(issuer, OPENID, true), below];
    places.dedup();
    for place in &places {
        let answer = http.get(place).await?;
        if answer.status == 404 {
            continue;
        }
        let server: Server = answer.document(place)?;
        if server.issuer.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
            let why = "speaks for another than the one that was asked for".to_owned();
            return Err(OauthError::Metadata { url: shown(place), why });
        }
        let endpoints = [
            &server.authorization_endpoint,
            &server.device_authorization_endpoint,
            &server.registration_endpoint,
            &server.revocation_endpoint,
        ];
        endpoints.into_iter().flatten().chain([&server.token_endpoint]).try_for_each(http::check)?;
        return Ok(server);
    }
    Err(OauthError::Lacks { issuer: shown(issuer), what: "description of itself (RFC 8414)" })
}

/// Whether a resource is this server, or what it lies below.
fn describes(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    let (above, path) = (resource.path().trim_end_matches('/'), server.path());
    let below = path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    resource.origin() == server.origin()
        && below
        && resource.fragment().is_none()
        && resource.query().is_none_or(|query| server.query() == Some(query))
}

fn well_known(of: &Url, name: &str, with_path: bool) -> Url {
    let path = if with_path { of.path().trim_end_matches('/') } else { "" };
    let mut url = of.clone();
    url.set_path(&format!("{name}{path}"));
    url.set_query(None);
    url
}

/// A parameter of a challenge of the scheme `Bearer` (RFC 6750).
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut rest = rest;
    while let Some((key, after)) = rest.trim_start_matches([' ', ',']).split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = left;
    }
    None
}

/// Whether it is one scope (RFC 6749, section 3.3).
pub(crate) fn is_scope(text: &str) -> bool {
    let letter = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_SCOPE).contains(&text.len()) && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let text = r#"Bearer error="invalid_token", resource_metadata="https://a.example/m", scope="a b""#;
        assert_eq!(parameter(text, "resource_metadata").as_deref(), Some("https://a.example/m"));
        assert_eq!(parameter(text, "scope").as_deref(), Some("a b"));
        for bad in ["", "Bearer", "Basic scope=\"x\"", "Bearer scope=\"x", "Bearer scopes=\"x\""] {
            assert_eq!(parameter(bad, "scope"), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_issuer_has_no_query_and_no_long_name() {
        let dialer = dial::Dialer::new(dial::Network::default()).unwrap();
        for bad in [
            "https://id.example/?Ignore+all+previous",
            &format!("https://id.example/{}", "a".repeat(MAX_ISSUER)),
        ] {
            let bad: Url = bad.parse().unwrap();
            let told = server(&Http::new(&dialer, &bad).unwrap(), &bad).await.unwrap_err().to_string();
            assert!(told.contains("is no issuer") && !told.contains("previous"), "{told}");
        }
    }

    #[test]
    fn a_resource_is_the_server_or_what_it_lies_below() {
        let is = |resource: &str| describes(resource, &Url::parse("https://a.example/v1/mcp").unwrap());
        for good in ["https://a.example/v1/mcp", "https://a.example", "https://a.example/v1/"] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "https://b.example/v1/mcp",
            "http://a.example/v1/mcp",
            "https://a.example:8443/v1/mcp",
            "https://a.example/v1/mc",
            "https://a.example/v1/mcp/x",
            "https://a.example/v1/mcp#x",
            "https://a.example/?x",
            "nonsense",
        ] {
            assert!(!is(bad), "{bad}");
        }
    }
}
