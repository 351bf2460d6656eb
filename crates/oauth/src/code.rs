//! Logging in with a browser: an authorization code, which only whoever asked for it can use (RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use secrecy::zeroize::Zeroizing;

use crate::back::{State, WayBack};
use crate::log_in::Asking;
use crate::token::Given;
use crate::{Means, OauthError, token};

/// Has the person log in, and asks for the token.
pub(crate) async fn through_browser(
    asking: &Asking<'_>,
    back: WayBack,
    tell: &(dyn Fn(String) + Send + Sync),
) -> Result<Given, OauthError> {
    let server = asking.server;
    let endpoint = server.authorization_endpoint.as_ref();
    let endpoint = endpoint.ok_or_else(|| asking.lacks("log-in by a browser"))?;
    if !server.code_challenge_methods_supported.iter().any(|method| method == "S256") {
        return Err(asking.lacks("protection of codes on their way (PKCE with S256)"));
    }
    let (verifier, state) = (unguessable(asking.means)?, unguessable(asking.means)?);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let (redirect, scope) = (back.uri(), asking.scopes.join(" "));
    let mut url = endpoint.clone();
    url.query_pairs_mut()
        .extend_pairs([
            ("response_type", "code"),
            ("client_id", &asking.client.id),
            ("redirect_uri", &redirect),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("state", &state),
        ])
        .extend_pairs(asking.with_scope(&scope))
        .extend_pairs(asking.client.vendor.map(|vendor| vendor.says).unwrap_or_default());
    tell(format!("log in with {}: {url}", back.browser()));
    let back = back.wait(&State::new(&state)).await?;
    // Two servers must not be taken for each other (RFC 9207): a page of another host must say whom it spoke for, whatever
    // is said of it. A vendor's code can only go to that vendor.
    let elsewhere = url::Url::parse(&server.issuer).is_ok_and(|issuer| issuer.origin() != endpoint.origin());
    let right = match &back.issuer {
        _ if asking.client.vendor.is_some() => true,
        Some(issuer) => issuer.trim_end_matches('/') == server.issuer.trim_end_matches('/'),
        None => !server.authorization_response_iss_parameter_supported && !elsewhere,
    };
    if !right {
        return Err(OauthError::MixedUp { expected: server.issuer.clone() });
    }
    let code = back
        .code
        .map_err(|why| OauthError::Refused { issuer: server.issuer.clone(), why: token::code(&why) })?;
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", &redirect),
        ("code_verifier", &verifier),
    ];
    form.extend(asking.resource.map(|resource| ("resource", resource)));
    form.extend(
        asking.client.vendor.filter(|vendor| vendor.tokens.repeats).map(|_| ("state", state.as_str())),
    );
    let given = token::ask(asking.http, &server.token_endpoint, asking.client, &form).await;
    given.map_err(|error| asking.refused(error))
}

/// 256 bits that nobody can guess, as text.
fn unguessable(means: &Means) -> Result<Zeroizing<String>, OauthError> {
    let mut bytes = Zeroizing::new([0; 32]);
    (means.random)(bytes.as_mut_slice()).map_err(|error| OauthError::Host(error.to_string()))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}
