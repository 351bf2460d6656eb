//! What a program may say of itself to a host that secrets are bound to: nothing that could be a key of a stranger's, for
//! that would be a way out. So headers are let through by name, and queries that carry a key are told of.

use domain::Target;

use crate::vault::Vault;
use crate::views::View;

/// Headers that say what is sent and wanted, of which version, by which program; never who asks.
const HARMLESS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "cache-control",
    "cargo-protocol",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "depth",
    "docker-distribution-api-version",
    "git-protocol",
    "graphql-features",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "mcp-protocol-version",
    "notion-version",
    "openai-beta",
    "openai-version",
    "overwrite",
    "pragma",
    "prefer",
    "priority",
    "range",
    "stripe-version",
    "time-zone",
    "upgrade-insecure-requests",
    "user-agent",
    "x-app",
    "x-atlassian-token",
    "x-client-request-id",
    "x-correlation-id",
    "x-github-api-version",
    "x-github-next-global-id",
    "x-goog-api-client",
    "x-ms-version",
    "x-request-id",
    "x-requested-with",
];
/// Families of such headers: what programs tell of themselves.
const FAMILIES: &[&str] = &["npm-", "pacote-", "sec-ch-", "sec-fetch-", "x-stainless-"];
/// Of those families, what opens something.
const NOT_OF_THEM: &[&str] = &["npm-otp"];

/// Parameters in which keys and tokens travel: letters and digits alone, in lower case.
const KEYS: &[&str] = &[
    "accesskey",
    "accesskeyid",
    "accesstoken",
    "apikey",
    "apitoken",
    "appkey",
    "auth",
    "authkey",
    "authorization",
    "authtoken",
    "awsaccesskeyid",
    "bearer",
    "bearertoken",
    "clientsecret",
    "credential",
    "feedtoken",
    "idtoken",
    "jobtoken",
    "jwt",
    "key",
    "oauthtoken",
    "passwd",
    "password",
    "personalaccesstoken",
    "privatetoken",
    "refreshtoken",
    "rsstoken",
    "sastoken",
    "secret",
    "secretkey",
    "sessionid",
    "sessiontoken",
    "sharedaccesssignature",
    "sig",
    "signature",
    "token",
    "xamzcredential",
    "xamzsecuritytoken",
    "xamzsignature",
    "xapikey",
    "xgoogcredential",
    "xgoogsignature",
];

impl Vault {
    /// Whether an agent's own header is dropped from a request, whatever it holds: the secrets' own, and all that isn't
    /// known to say nothing of who asks, at hosts that secrets are bound to.
    #[must_use]
    pub fn strips(&self, to: &Target<'_>, header: &str) -> bool {
        let header = header.to_ascii_lowercase();
        self.bound_headers(to).is_some_and(|bound| bound.contains(&header) || !is_harmless(&header))
    }

    /// The parameter of a query by which the request would carry a key of the agent's own to a host that secrets are
    /// bound to; none if it carries none.
    #[must_use]
    pub fn own_key<'q>(&self, to: &Target<'_>, query: &'q str) -> Option<&'q str> {
        drop(self.bound_headers(to)?);
        let names = query.split(['&', ';']).map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
        names.into_iter().find(|name| is_key(name))
    }
}

/// `access%5Ftoken`, `access-token` and `access_token[]` are one to many servers.
fn is_key(name: &str) -> bool {
    let read = View::percent(name.as_bytes(), true).unwrap_or_else(|| View::plain(name.as_bytes()));
    let letters = read.bytes.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let plain: Vec<u8> = letters.map(u8::to_ascii_lowercase).collect();
    KEYS.iter().any(|key| key.as_bytes() == plain)
}

fn is_harmless(header: &str) -> bool {
    let of_a_family = FAMILIES.iter().any(|family| header.starts_with(family));
    HARMLESS.contains(&header) || (of_a_family && !NOT_OF_THEM.contains(&header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_let_through_and_keys_are_not() {
        let of_programs = [
            "accept git-protocol content-type pragma user-agent accept-encoding content-encoding accept-language",
            "cache-control if-none-match npm-command npm-session pacote-req-type cargo-protocol x-github-api-version",
            "anthropic-version anthropic-beta x-stainless-lang x-app sec-fetch-mode range idempotency-key",
        ];
        assert!(of_programs.iter().flat_map(|line| line.split(' ')).all(is_harmless));
        let keys = [
            "authorization proxy-authorization cookie private-token job-token x-auth-key x-auth-email dd-api-key npm-otp",
            "x-vault-token x-api-key api-key x-amz-security-token x-http-method-override destination x-forwarded-for",
        ];
        assert!(!keys.iter().flat_map(|line| line.split(' ')).any(is_harmless));
    }

    #[test]
    fn keys_in_queries_are_told_of_however_they_are_spelled() {
        for key in [
            "private_token",
            "access_token",
            "ACCESS-Token",
            "access%5Ftoken",
            "a%70i_key%5B%5D",
            "key",
            "X-Amz-Signature",
        ] {
            assert!(is_key(key), "{key}");
        }
        for other in ["page_token", "keys", "per_page", "q", "", "monkey", "tokens"] {
            assert!(!is_key(other), "{other}");
        }
    }
}
