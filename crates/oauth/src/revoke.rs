//! Giving back what a log-in gave (RFC 7009): whoever has a copy of its tokens has nothing then.

use std::time::Duration;

use dial::Dialer;
use url::Url;
use vault::{Kept, Secret};

use crate::OauthError;
use crate::http::{Http, shown};
use crate::token::{Client, refused};

/// How long it may take. What is removed here is removed already, and a person waits.
const WITHIN: Duration = Duration::from_secs(5);

/// Has the authorization server forget the tokens of a log-in.
pub(crate) async fn revoke(dialer: &Dialer, kept: &Kept) -> Result<(), OauthError> {
    let login = &kept.login;
    let issuer = || login.issuer.clone();
    let lacks = || OauthError::Lacks { issuer: issuer(), what: "way to revoke tokens" };
    let url: Url = login.revocation_url.as_deref().and_then(|url| url.parse().ok()).ok_or_else(lacks)?;
    let asked: Url = login.token_url.parse().map_err(|_| OauthError::BadUrl(login.token_url.clone()))?;
    // It was only said at the log-in where to revoke: that leads no further than where the token came from.
    let http = Http::new(dialer, &asked)?;
    let client = Client::of(kept);
    let all = async {
        // The first goes first: with it, most servers forget the other.
        let tokens =
            [("refresh_token", kept.tokens.refresh.as_ref()), ("access_token", Some(&kept.tokens.access))];
        let there = tokens.into_iter().filter_map(|(kind, token)| Some((kind, token?)));
        // As a vendor's own client does.
        let enough = if client.vendor.is_some() { 1 } else { 2 };
        for of in there.take(enough) {
            one(&http, &url, &client, of, issuer()).await?;
        }
        Ok(())
    };
    let late = |_| {
        let why = format!("no answer within {} s", WITHIN.as_secs());
        OauthError::Network { url: shown(&url), why }
    };
    tokio::time::timeout(WITHIN, all).await.map_err(late)?
}

async fn one(
    http: &Http,
    url: &Url,
    client: &Client,
    (kind, token): (&str, &Secret),
    issuer: String,
) -> Result<(), OauthError> {
    let text = token.reveal_text().ok_or_else(|| OauthError::Host("the token is no text".to_owned()))?;
    let answer = client.send(http, url, &[("token", text), ("token_type_hint", kind)]).await?;
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let why = refused(&answer).unwrap_or_else(|| format!("HTTP {}", answer.status));
    Err(OauthError::NotRevoked { issuer, why })
}
