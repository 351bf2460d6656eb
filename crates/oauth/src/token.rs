//! The token endpoint: what is asked there, and what it gives (RFC 6749).

use std::fmt;

use ::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use url::Url;
use vault::{Kept, Secret};

use crate::OauthError;
use crate::discover::is_scope;
use crate::http::{Answer, Http, shown};
use crate::poll::Later;
use crate::vendor::Vendor;

/// The longest that a token is taken to be good, in seconds: a year.
const LONGEST: u64 = 366 * 86_400;

/// What is told of an error that has no code.
pub(crate) const UNSAID: &str = "it refuses, and doesn't say why";

/// Who asks.
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<Secret>,
    /// Whether the secret goes into a header, not into the form.
    pub(crate) basic: bool,
    /// Whose client it is, for a subscription.
    pub(crate) vendor: Option<&'static Vendor>,
}

/// What was given.
pub(crate) struct Given {
    pub(crate) access: Secret,
    pub(crate) refresh: Option<Secret>,
    /// Seconds.
    pub(crate) good_for: Option<u64>,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) id_token: Option<Secret>,
}

/// Why nothing was given.
#[derive(Debug)]
pub(crate) enum NotGiven {
    /// It said so: the error's code.
    Said(String),
    /// It couldn't be asked, or couldn't answer: perhaps later.
    NotNow(Later),
    /// What it answers is not what it should.
    Failed(OauthError),
}

/// A token in an answer: never printed, wiped when it is let go.
pub(crate) struct Hidden(pub(crate) Secret);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Hidden;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hidden, E> {
                Ok(Hidden(text.into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[derive(Deserialize)]
struct Document {
    access_token: Hidden,
    /// Vendors' own clients do without.
    token_type: Option<String>,
    id_token: Option<Hidden>,
    refresh_token: Option<Hidden>,
    expires_in: Option<u64>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    error: Error,
}

/// What a refusal is called, by the book or as vendors do.
#[derive(Deserialize)]
#[serde(untagged)]
enum Error {
    Code(String),
    Object {
        code: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    },
}

/// Asks for a token with this form.
pub(crate) async fn ask(
    http: &Http,
    endpoint: &Url,
    client: &Client,
    form: &[(&str, &str)],
) -> Result<Given, NotGiven> {
    let answer = answered(client.send(http, endpoint, form).await, endpoint)?;
    if let Some(code) = refused(&answer) {
        return Err(NotGiven::Said(code));
    }
    let document: Document = answer.document(endpoint).map_err(NotGiven::Failed)?;
    let bearer = match &document.token_type {
        Some(kind) => kind.eq_ignore_ascii_case("bearer"),
        None => client.vendor.is_some(),
    };
    if !bearer {
        let why = "gives tokens of another kind than `Bearer`".to_owned();
        return Err(NotGiven::Failed(OauthError::Metadata { url: shown(endpoint), why }));
    }
    let scopes = document.scope.map(|scope| scopes(&scope));
    Ok(Given {
        access: document.access_token.0,
        refresh: document.refresh_token.map(|token| token.0),
        good_for: document.expires_in.map(|seconds| seconds.min(LONGEST)),
        scopes,
        id_token: document.id_token.map(|token| token.0),
    })
}

impl Client {
    /// Who asked for what is kept.
    pub(crate) fn of(kept: &Kept) -> Self {
        Self {
            id: kept.login.client.clone(),
            secret: kept.tokens.client_secret.as_ref().map(Secret::share),
            basic: kept.login.basic,
            vendor: kept.login.subscription.map(Vendor::of),
        }
    }

    /// Posts a form of the client's.
    pub(crate) async fn send(
        &self,
        http: &Http,
        endpoint: &Url,
        form: &[(&str, &str)],
    ) -> Result<Answer, OauthError> {
        let mut form = form.to_vec();
        let mut header = None;
        match &self.secret {
            Some(secret) if self.basic => header = Some(basic(&self.id, secret)?),
            Some(secret) => {
                let text = secret.reveal_text();
                let text =
                    text.ok_or_else(|| OauthError::Host("the client's secret is no text".to_owned()))?;
                form.extend([("client_id", self.id.as_str()), ("client_secret", text)]);
            }
            None => form.push(("client_id", &self.id)),
        }
        if self.vendor.is_some_and(|vendor| vendor.takes_json(&form)) {
            let document: serde_json::Map<_, _> =
                form.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
            return http.json(endpoint, serde_json::Value::Object(document).to_string()).await;
        }
        http.form(endpoint, &form, header).await
    }
}

fn basic(id: &str, secret: &Secret) -> Result<HeaderValue, OauthError> {
    let encoded = |bytes: &[u8]| url::form_urlencoded::byte_serialize(bytes).collect::<String>();
    let pair = format!("{}:{}", encoded(id.as_bytes()), encoded(secret.reveal()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
        .map_err(|_| OauthError::Host("the client's secret fits no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What was answered, if that is an answer to what was asked: what was lost on the way isn't, nor is a server that asks for
/// patience (408, 429) or has trouble of its own (5xx).
pub(crate) fn answered(asked: Result<Answer, OauthError>, endpoint: &Url) -> Result<Answer, NotGiven> {
    match asked {
        Ok(answer) if matches!(answer.status, 408 | 429 | 500..) => {
            let why =
                OauthError::Metadata { url: shown(endpoint), why: format!("answers HTTP {}", answer.status) };
            let later = Later { why, too_often: answer.status == 429, after: answer.retry_after };
            Err(NotGiven::NotNow(later))
        }
        Ok(answer) => Ok(answer),
        Err(why @ OauthError::Network { .. }) => {
            Err(NotGiven::NotNow(Later { why, too_often: false, after: None }))
        }
        Err(error) => Err(NotGiven::Failed(error)),
    }
}

/// The code of an error (RFC 6749, section 5.2); none: the answer is none.
pub(crate) fn refused(answer: &Answer) -> Option<String> {
    // Those two are no answer to what was asked: it may be asked again.
    if !(400..500).contains(&answer.status) || matches!(answer.status, 408 | 429) {
        return None;
    }
    let problem: Problem = serde_json::from_slice(&answer.body).ok()?;
    Some(match problem.error {
        Error::Code(text) => code(&text),
        Error::Object { code: Some(text), .. } | Error::Object { kind: Some(text), .. } => code(&text),
        Error::Object { code: None, kind: None } => code(""),
    })
}

/// An error's code as it may be told: a server could write anything there.
pub(crate) fn code(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
    let known = (1..=60).contains(&text.len()) && text.bytes().all(plain);
    if known { text.to_owned() } else { UNSAID.to_owned() }
}

/// The scopes of a text.
pub(crate) fn scopes(text: &str) -> Vec<String> {
    text.split(' ').filter(|scope| is_scope(scope)).take(64).map(str::to_owned).collect()
}
