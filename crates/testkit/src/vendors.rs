//! Vendors of models as those know them who have a subscription: at their own names and paths, in TLS, and strict. Anthropic's
//! takes documents alone, OpenAI's takes forms for codes and documents for renewals, each knows one client and each refresh
//! token once, and ChatGPT answers no request without its account, that would be stored, or that wants no events.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dial::Network;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::site::{Asked, Reply, Site};

/// The account that ChatGPT's tokens are of.
pub const ACCOUNT: &str = "acc-0b7e";
/// The code that is typed.
pub const TYPED: &str = "ABCD-12345";

const HOSTS: [&str; 5] =
    ["claude.com", "platform.claude.com", "api.anthropic.com", "auth.openai.com", "chatgpt.com"];
const CLAUDE: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
const CHATGPT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
const CLAUDES_PAGE: &str = "https://platform.claude.com/oauth/code/callback";
const TYPED_FOR: &str = "https://auth.openai.com/deviceauth/callback";

type Fields = HashMap<String, String>;

#[derive(Default)]
struct Known {
    /// What was said when each code was asked for.
    codes: HashMap<String, Fields>,
    /// Whether the person has typed the code; none: nobody began.
    typed: Option<bool>,
    /// Whether it has no time for the next question after it.
    busy: bool,
    access: HashSet<String>,
    refresh: HashSet<String>,
    count: u64,
    renewals: u64,
    /// What is given instead of a sound ID token; an empty one: none.
    id_token: Option<String>,
    /// Whether tokens come without their time.
    timeless: bool,
    /// The code of the error that renewals are refused with, in OpenAI's way.
    refuses: Option<(u16, &'static str)>,
}

/// Both of them. Dropping it ends them.
pub struct Vendors {
    /// What they were asked.
    pub site: Site,
    known: Arc<Mutex<Known>>,
}

impl Vendors {
    /// Starts them.
    ///
    /// # Panics
    /// When they can't be started: it is for tests.
    #[must_use]
    pub fn start() -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let knows = Arc::clone(&known);
        let site = Site::start(&HOSTS, move |asked| answer(asked, &mut lock(&knows)));
        Self { site, known }
    }

    /// A network in which the vendors' names lead to them; their authority is written to `folder`.
    ///
    /// # Panics
    /// When that can't be written.
    #[must_use]
    pub fn network(&self, folder: &Path) -> Network {
        self.site.reached(folder)
    }

    /// What a browser ends with whose person says yes: the address that it is sent to, or what Claude's page shows.
    ///
    /// # Panics
    /// When the browser was sent there with a wrong word.
    #[must_use]
    pub fn browse(&self, url: &str) -> String {
        let url: Url = url.parse().expect("a URL");
        let asked: Fields = url.query_pairs().into_owned().collect();
        let said = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
        let redirect = said("redirect_uri").to_owned();
        let is = |beginning: &str, end: &str| {
            let port = redirect.strip_prefix(beginning).and_then(|rest| rest.strip_suffix(end));
            port.is_some_and(|port| port.parse::<u16>().is_ok())
        };
        let right = match format!("{}{}", url.host_str().unwrap_or_default(), url.path()).as_str() {
            "claude.com/cai/oauth/authorize" => {
                (redirect == CLAUDES_PAGE || is("http://localhost:", "/callback"))
                    && said("client_id") == CLAUDE
                    && said("scope") == "user:inference"
                    && said("code") == "true"
            }
            "auth.openai.com/oauth/authorize" => {
                ["1455", "1457"]
                    .iter()
                    .any(|port| redirect == format!("http://127.0.0.1:{port}/auth/callback"))
                    && said("client_id") == CHATGPT
                    && said("scope").split(' ').any(|scope| scope == "offline_access")
                    && said("id_token_add_organizations") == "true"
                    && said("codex_cli_simplified_flow") == "true"
            }
            _other => false,
        };
        let right = right && said("response_type") == "code" && said("code_challenge_method") == "S256";
        assert!(right && said("state").len() >= 32, "a vendor would refuse {url}");
        let mut known = lock(&self.known);
        known.count += 1;
        let (code, state) = (format!("code-{}", known.count), said("state").to_owned());
        known.codes.insert(code.clone(), asked);
        match redirect.as_str() {
            CLAUDES_PAGE => format!("{code}#{state}"),
            _here => format!("{redirect}?code={code}&scope=x&state={state}"),
        }
    }

    /// The person types the code that they were shown.
    pub fn approve(&self) {
        lock(&self.known).typed = Some(true);
    }

    /// From now on, ChatGPT's tokens come with this ID token; an empty one: with none.
    pub fn give_id_token(&self, text: &str) {
        lock(&self.known).id_token = Some(text.to_owned());
    }

    /// From now on, nobody says how long tokens are good.
    pub fn say_no_time(&self) {
        lock(&self.known).timeless = true;
    }

    /// From now on, renewals are refused with this status and code; with none, they are not.
    pub fn refuse(&self, with: Option<(u16, &'static str)>) {
        lock(&self.known).refuses = with;
    }

    /// No access token is good any more.
    pub fn revoke(&self) {
        lock(&self.known).access.clear();
    }

    /// How often a token was renewed.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        lock(&self.known).renewals
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().expect("nobody panicked with it")
}

fn answer(asked: &Asked, known: &mut Known) -> Reply {
    match (asked.host.as_str(), asked.line.as_str()) {
        ("platform.claude.com", "POST /v1/oauth/token") => token(asked, CLAUDE, known),
        ("auth.openai.com", "POST /oauth/token") => token(asked, CHATGPT, known),
        ("auth.openai.com", "POST /oauth/revoke") => revoke(asked, known),
        ("auth.openai.com", "POST /api/accounts/deviceauth/usercode") => {
            if document(asked).is_none_or(|document| document.get("client_id").is_none_or(|id| id != CHATGPT))
            {
                return no(400, "invalid_client");
            }
            (known.typed, known.busy) = (Some(false), true);
            Reply::Json(200, json!({"device_auth_id": "canary-device", "user_code": TYPED, "interval": "1"}))
        }
        ("auth.openai.com", "POST /api/accounts/deviceauth/token") => typed(asked, known),
        ("api.anthropic.com", "POST /v1/messages") => anthropic(asked, known),
        ("chatgpt.com", "POST /backend-api/codex/responses") => chatgpt(asked, known),
        _other => Reply::Status(404),
    }
}

fn no(status: u16, code: &str) -> Reply {
    Reply::Json(status, json!({"error": code}))
}

/// A flat document of texts, sent as one.
fn document(asked: &Asked) -> Option<Fields> {
    asked.header("content-type").filter(|kind| *kind == "application/json")?;
    serde_json::from_str(&asked.body).ok()
}

fn form(asked: &Asked) -> Option<Fields> {
    asked.header("content-type").filter(|kind| *kind == "application/x-www-form-urlencoded")?;
    Some(url::form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect())
}

fn token(asked: &Asked, client: &str, known: &mut Known) -> Reply {
    let said = match (client, form(asked), document(asked)) {
        (CLAUDE, None, Some(document)) => document,
        (CHATGPT, Some(form), None) if form.get("grant_type").is_some_and(|g| g == "authorization_code") => {
            form
        }
        (CHATGPT, None, Some(doc)) if doc.get("grant_type").is_some_and(|g| g == "refresh_token") => doc,
        _other => return no(400, "invalid_request"),
    };
    let is = |name: &str| said.get(name).map(String::as_str).unwrap_or_default();
    if is("client_id") != client {
        return no(401, "invalid_client");
    }
    match is("grant_type") {
        "authorization_code" => {
            // Good once.
            let Some(begun) = known.codes.remove(is("code")) else { return no(400, "invalid_grant") };
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(is("code_verifier")));
            let right = begun["client_id"] == client
                && begun["code_challenge"] == challenge
                && begun["redirect_uri"] == is("redirect_uri")
                && (client == CHATGPT || begun["state"] == is("state"));
            if right { given(client, known) } else { no(400, "invalid_grant") }
        }
        "refresh_token" => {
            if let Some((status, code)) = known.refuses {
                return Reply::Json(status, json!({"error": {"message": "canary", "code": code}}));
            }
            if client == CLAUDE && is("scope") != "user:inference" {
                return no(400, "invalid_scope");
            }
            if !known.refresh.remove(is("refresh_token")) {
                return Reply::Json(
                    401,
                    json!({"error": {"message": "canary", "code": "refresh_token_reused"}}),
                );
            }
            known.renewals += 1;
            given(client, known)
        }
        _other => no(400, "unsupported_grant_type"),
    }
}

/// Whose refresh token is given back has nothing then.
fn revoke(asked: &Asked, known: &mut Known) -> Reply {
    let said = document(asked).unwrap_or_default();
    let is = |name: &str, value: &str| said.get(name).is_some_and(|found| found == value);
    if !is("client_id", CHATGPT) || !is("token_type_hint", "refresh_token") {
        return no(400, "invalid_request");
    }
    if said.get("token").is_some_and(|token| known.refresh.remove(token)) {
        known.access.clear();
    }
    Reply::Status(200)
}

fn given(client: &str, known: &mut Known) -> Reply {
    known.count += 1;
    let (access, refresh) =
        (format!("canary-access-{}", known.count), format!("canary-refresh-{}", known.count));
    known.access.insert(access.clone());
    known.refresh.insert(refresh.clone());
    let mut document = json!({"access_token": access, "refresh_token": refresh});
    if !known.timeless {
        document["expires_in"] = json!(3600);
    }
    if client == CLAUDE {
        document["token_type"] = json!("Bearer");
        document["scope"] = json!("user:inference");
    } else {
        let claims = json!({"sub": "u", "https://api.openai.com/auth": {"chatgpt_account_id": ACCOUNT}});
        let sound = format!("e30.{}.canary-signature", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let id_token = known.id_token.clone().unwrap_or(sound);
        if !id_token.is_empty() {
            document["id_token"] = json!(id_token);
        }
    }
    Reply::Json(200, document)
}

fn typed(asked: &Asked, known: &mut Known) -> Reply {
    let Some(document) = document(asked) else { return no(400, "invalid_request") };
    if document["device_auth_id"] != "canary-device" || document["user_code"] != TYPED {
        return no(400, "invalid_request");
    }
    if std::mem::take(&mut known.busy) {
        return Reply::Status(503);
    }
    match known.typed {
        Some(true) => {
            known.count += 1;
            let (code, verifier) = (format!("code-{}", known.count), "canary-verifier".repeat(4));
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
            let begun = [("client_id", CHATGPT), ("redirect_uri", TYPED_FOR), ("code_challenge", &challenge)];
            let begun = begun.map(|(name, value)| (name.to_owned(), value.to_owned()));
            known.codes.insert(code.clone(), begun.into());
            Reply::Json(
                200,
                json!({"authorization_code": code, "code_challenge": challenge, "code_verifier": verifier}),
            )
        }
        Some(false) => Reply::Json(403, json!({"error": {"code": "deviceauth_authorization_pending"}})),
        None => Reply::Status(404),
    }
}

/// Whether a request shows a token that is good.
fn shows(asked: &Asked, known: &Known) -> bool {
    let shown = asked.header("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
    shown.is_some_and(|token| known.access.contains(token))
}

fn anthropic(asked: &Asked, known: &Known) -> Reply {
    let error = |status, kind: &str| {
        Reply::Json(status, json!({"type": "error", "error": {"type": kind, "message": kind}}))
    };
    let beta = asked.header("anthropic-beta").unwrap_or_default();
    if !shows(asked, known) || asked.header("x-api-key").is_some() {
        return error(401, "authentication_error");
    }
    if !beta.split(',').any(|beta| beta == "oauth-2025-04-20") {
        return error(401, "OAuth authentication is currently not supported.");
    }
    events(&[
        json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Reviewed."}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ])
}

fn chatgpt(asked: &Asked, known: &Known) -> Reply {
    let detail = |status, why: &str| Reply::Json(status, json!({"detail": why}));
    if !shows(asked, known) {
        return detail(401, "Unauthorized");
    }
    if asked.header("chatgpt-account-id") != Some(ACCOUNT) {
        return detail(403, "no such account");
    }
    let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    if body["store"] != json!(false) {
        return detail(400, "Store must be set to false");
    }
    if body["stream"] != json!(true) {
        return detail(400, "Stream must be set to true");
    }
    // Codex 0.171 says them in a message of the developer's, which comes first.
    let said = body["instructions"].as_str().is_some_and(|said| !said.is_empty());
    if !said && body["input"][0]["role"] != "developer" {
        return detail(400, "Instructions are required");
    }
    if let Some(field) =
        ["max_output_tokens", "temperature", "top_p"].iter().find(|field| body.get(field).is_some())
    {
        return detail(400, &format!("Unsupported parameter: {field}"));
    }
    let item = json!({
        "type": "message", "id": "msg-1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Reviewed.", "annotations": []}],
    });
    events(&[
        json!({"type": "response.created", "response": {"id": "r-1"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "msg-1", "role": "assistant", "content": []}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "item_id": "msg-1", "content_index": 0, "delta": "Reviewed."}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"id": "r-1", "output": [item], "usage": {
            "input_tokens": 3, "output_tokens": 2, "total_tokens": 5,
        }}}),
    ])
}

fn events(events: &[Value]) -> Reply {
    let text: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
        .collect();
    Reply::Bytes("text/event-stream", text.into_bytes())
}
