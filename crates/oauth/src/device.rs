//! Logging in with a browser on any machine: a code is typed there, and asked after here (RFC 8628).

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::OauthError;
use crate::http::{self, shown};
use crate::log_in::Asking;
use crate::poll::{Polling, Tell};
use crate::token::{self, Given, Hidden, NotGiven};

/// The name of this way.
pub(crate) const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The longest that is waited.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Most bytes of what a person types.
const MAX_CODE: usize = 40;

#[derive(Deserialize)]
struct Begun {
    device_code: Hidden,
    user_code: String,
    verification_uri: Url,
    expires_in: u64,
    interval: Option<u64>,
}

/// Has the person log in, and asks for the token until they have.
pub(crate) async fn anywhere(asking: &Asking<'_>, tell: Tell<'_>) -> Result<Given, OauthError> {
    let server = asking.server;
    let endpoint = server.device_authorization_endpoint.as_ref();
    let endpoint = endpoint.ok_or_else(|| asking.lacks("log-in by a code that is typed (device code)"))?;
    let scope = asking.scopes.join(" ");
    let answer = asking.client.send(asking.http, endpoint, &asking.with_scope(&scope)).await?;
    if let Some(why) = token::refused(&answer) {
        return Err(asking.refused(NotGiven::Said(why)));
    }
    let begun: Begun = answer.document(endpoint)?;
    http::check(&begun.verification_uri)?;
    asking.named.check_page(&begun.verification_uri)?;
    show(endpoint, begun.verification_uri.as_str(), &begun.user_code, tell)?;
    let device = begun.device_code.0.reveal_text().unwrap_or_default();
    let mut form = vec![("grant_type", GRANT), ("device_code", device)];
    form.extend(asking.resource.map(|resource| ("resource", resource)));
    let good_for = Duration::from_secs(begun.expires_in).min(LONGEST);
    let mut polling = Polling::new(good_for, begun.interval, tell);
    loop {
        polling.due().await?;
        match token::ask(asking.http, &server.token_endpoint, asking.client, &form).await {
            Ok(given) => return Ok(given),
            Err(NotGiven::Said(why)) if why == "authorization_pending" => polling.not_yet(),
            Err(NotGiven::Said(why)) if why == "slow_down" => polling.too_often(),
            Err(NotGiven::NotNow(later)) => polling.failed(later),
            Err(error) => return Err(asking.refused(error)),
        }
    }
}

/// Shows a person where to type which code.
pub(crate) fn show(endpoint: &Url, page: &str, code: &str, tell: Tell<'_>) -> Result<(), OauthError> {
    if !(1..=MAX_CODE).contains(&code.len()) || !code.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        let why = "gives a code that can't be typed".to_owned();
        return Err(OauthError::Metadata { url: shown(endpoint), why });
    }
    tell(format!("log in at {page} with the code {code}"));
    Ok(())
}
