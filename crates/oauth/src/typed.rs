//! Logging in for ChatGPT with a browser on any machine: a code is typed there, and what comes of it is asked after here. It is not
//! RFC 8628: what is given in the end is an authorization code, with its verifier.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::log_in::Asking;
use crate::poll::{Polling, Tell};
use crate::token::{self, Given, Hidden, NotGiven};
use crate::vendor::{Device, url};
use crate::{OauthError, device};

/// The longest that is waited: so long the code is good.
const LONGEST: Duration = Duration::from_secs(15 * 60);

#[derive(Deserialize)]
struct Begun {
    device_auth_id: Hidden,
    #[serde(alias = "usercode")]
    user_code: String,
    /// Seconds, as a text or as a number.
    interval: Option<Value>,
}

#[derive(Deserialize)]
struct Done {
    authorization_code: Hidden,
    code_verifier: Hidden,
}

/// Has the person log in, and asks until they have.
pub(crate) async fn anywhere(asking: &Asking<'_>, way: &Device, tell: Tell<'_>) -> Result<Given, OauthError> {
    let begin = url(way.begin)?;
    let answer = asking.http.json(&begin, json!({"client_id": asking.client.id}).to_string()).await?;
    let begun: Begun = answer.document(&begin)?;
    device::show(&begin, way.page, &begun.user_code, tell)?;
    let seconds = match &begun.interval {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(other) => other.as_u64(),
        None => None,
    };
    let poll = url(way.poll)?;
    let question = json!({"device_auth_id": text(&begun.device_auth_id), "user_code": begun.user_code});
    let question = question.to_string();
    let mut polling = Polling::new(LONGEST, seconds, tell);
    loop {
        polling.due().await?;
        let answer = match token::answered(asking.http.json(&poll, question.clone()).await, &poll) {
            Ok(answer) => answer,
            Err(NotGiven::NotNow(later)) => {
                polling.failed(later);
                continue;
            }
            Err(error) => return Err(asking.refused(error)),
        };
        // Nobody has typed it yet.
        if matches!(answer.status, 403 | 404) {
            polling.not_yet();
            continue;
        }
        let done: Done = answer.document(&poll)?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", text(&done.authorization_code)),
            ("redirect_uri", way.redirect),
            ("code_verifier", text(&done.code_verifier)),
        ];
        let given = token::ask(asking.http, &asking.server.token_endpoint, asking.client, &form).await;
        return given.map_err(|error| asking.refused(error));
    }
}

fn text(hidden: &Hidden) -> &str {
    hidden.0.reveal_text().unwrap_or_default()
}
