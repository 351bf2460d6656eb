//! An authorization server on loopback, and a tool server that wants its tokens: strict as a good one (PKCE, state's way back,
//! resource, rotation, codes that are good once), or wrong in one way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// In which way it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Its description says that it is somebody else.
    OtherIssuer,
    /// The browser is sent back in somebody else's name.
    OtherIssuerBack,
    /// It doesn't protect codes.
    NoPkce,
    /// The tool server describes another one.
    OtherResource,
    /// The tool server says that its description lies on another host.
    DescribedElsewhere,
    /// Tokens are given at an address of the local link.
    PrivateEndpoint,
    /// Its description has no end.
    Endless,
    /// It renews nothing any more.
    NoRenewal,
    /// It can't be reached for renewals, nor for what revokes them.
    Broken,
    /// It doesn't say where tokens are revoked.
    NoRevocation,
    /// Tokens are revoked at an address of the local link.
    RevokesElsewhere,
    /// Codes are typed at an address of the local link.
    TypedElsewhere,
    /// It never answers where tokens are revoked.
    Silent,
    /// It is from before its time: it knows no resources, doesn't say in whose name browsers come back, and takes a client
    /// that somebody registered by hand back at any port.
    Old,
}

/// How it answers a question after a token once, as if something were wrong between it and the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Falter {
    /// It breaks off in the middle of its answer.
    Drop,
    /// With this status, and perhaps with the seconds after which it may be asked again.
    Status(u16, Option<u64>),
    /// With this error by the book.
    Error(&'static str),
}

impl Falter {
    fn response(self) -> Response {
        match self {
            Self::Drop => {
                let pieces = [Ok("{\"access_token\":"), Err(std::io::Error::other("broken off"))];
                Body::from_stream(futures::stream::iter(pieces)).into_response()
            }
            Self::Status(status, after) => {
                let status = StatusCode::from_u16(status).expect("a status");
                let after = after.map(|seconds| [(RETRY_AFTER, seconds.to_string())]);
                (status, after, ()).into_response()
            }
            Self::Error(code) => (StatusCode::BAD_REQUEST, Json(json!({"error": code}))).into_response(),
        }
    }
}

/// Form and query fields.
type Fields = HashMap<String, String>;

/// How it differs from a server that has everything itself.
#[derive(Default)]
struct Manner {
    /// How long tokens are good, in seconds; none: an hour.
    good_for: Option<u64>,
    /// Where browsers are sent in its name, if not to itself.
    lures_to: Option<String>,
    /// Who gives tokens for the tool server, if not this.
    given_by: Option<String>,
    /// The tool server that it gives tokens for, if not its own.
    gives_for: Option<String>,
    /// How it answers the next questions after a token with a device code, once each.
    falters: VecDeque<Falter>,
    /// What every client must show in a header to get a token.
    client_secret: Option<&'static str>,
}

/// How often it was asked.
#[derive(Default)]
struct Asked {
    tokens: u64,
    renewals: u64,
    /// Told when a renewal begins to wait.
    waiting: Arc<Notify>,
}

#[derive(Default)]
struct Known {
    wrong: Option<Wrong>,
    /// Where browsers may be sent back to, by client.
    clients: HashMap<String, String>,
    /// What was said when each code was asked for.
    codes: HashMap<String, Fields>,
    /// Device codes; whether a person has approved.
    devices: HashMap<String, bool>,
    refresh: HashSet<String>,
    access: HashSet<String>,
    revoked: Vec<String>,
    manner: Manner,
    count: u64,
    asked: Asked,
    /// Answers to renewals wait for this.
    held: Option<Arc<Notify>>,
    /// Headers and messages that the tool server got with a good token.
    called: Vec<String>,
}

/// Both servers. Clones are the same.
#[derive(Clone)]
pub struct Authorization {
    /// Where: `http://127.0.0.1:PORT`.
    pub base: String,
    known: Arc<Mutex<Known>>,
}

impl Authorization {
    /// Starts them; they end with the test.
    ///
    /// # Panics
    /// When they can't be started.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let this = Self { base, known: Arc::default() };
        let router = axum::Router::new()
            // As tool servers are: whoever only looks is told nothing.
            .route("/mcp", post(mcp))
            .route("/.well-known/oauth-protected-resource/mcp", get(resource))
            .route("/.well-known/oauth-authorization-server/as", get(described))
            .route("/as/register", post(register))
            .route("/as/authorize", get(authorize))
            .route("/as/token", post(token))
            .route("/as/device", post(device))
            .route("/as/introspect", any(introspect))
            .route("/as/revoke", post(revoke))
            .with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panicked with it")
    }

    /// From now on, it is wrong in this way.
    pub fn be(&self, wrong: Wrong) {
        self.known().wrong = Some(wrong);
    }

    /// From now on it sends browsers to another's log-in page, as if that were its own (mix-up).
    pub fn lure_to(&self, other: &Self) {
        self.known().manner.lures_to = Some(other.base.clone());
    }

    /// From now on another gives tokens for its tool server, and for no other.
    pub fn belong_to(&self, other: &Self) {
        self.known().manner.given_by = Some(other.issuer());
        other.known().manner.gives_for = Some(self.mcp());
    }

    /// It answers the next questions after a token with a device code so, once each.
    pub fn falter(&self, how: &[Falter]) {
        self.known().manner.falters.extend(how);
    }

    /// From now on, clients get a token only if they show this secret in a header.
    pub fn want_secret(&self, secret: &'static str) {
        self.known().manner.client_secret = Some(secret);
    }

    /// How often anybody asked for a token.
    #[must_use]
    pub fn token_requests(&self) -> u64 {
        self.known().asked.tokens
    }

    /// The tool server.
    #[must_use]
    pub fn mcp(&self) -> String {
        format!("{}/mcp", self.base)
    }

    /// Who gives tokens.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{}/as", self.base)
    }

    /// A person types the code that they were shown.
    pub fn approve_devices(&self) {
        self.known().devices.values_mut().for_each(|approved| *approved = true);
    }

    /// An access and a refresh token, as if somebody had logged in.
    #[must_use]
    pub fn tokens(&self) -> (String, String) {
        let mut known = self.known();
        known.count += 1;
        let (access, refresh) =
            (format!("canary-access-{}", known.count), format!("canary-refresh-{}", known.count));
        known.access.insert(access.clone());
        known.refresh.insert(refresh.clone());
        (access, refresh)
    }

    /// Tokens are good for so long from now on.
    pub fn give_for(&self, seconds: u64) {
        self.known().manner.good_for = Some(seconds);
    }

    /// What was revoked, in order.
    #[must_use]
    pub fn revoked(&self) -> Vec<String> {
        self.known().revoked.clone()
    }

    /// No access token is good any more.
    pub fn revoke(&self) {
        self.known().access.clear();
    }

    /// How often a token was renewed.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.known().asked.renewals
    }

    /// Answers to renewals wait until this is told.
    #[must_use]
    pub fn hold_renewals(&self) -> Arc<Notify> {
        let held = Arc::new(Notify::new());
        self.known().held = Some(Arc::clone(&held));
        held
    }

    /// Waits until the answer to a renewal waits.
    pub async fn renewal_waits(&self) {
        let reached = Arc::clone(&self.known().asked.waiting);
        reached.notified().await;
    }

    /// Whether a token is good.
    #[must_use]
    pub fn takes(&self, token: &str) -> bool {
        let known = self.known();
        known.access.contains(token) || known.refresh.contains(token)
    }

    /// What the tool server got with good tokens.
    #[must_use]
    pub fn called(&self) -> Vec<String> {
        self.known().called.clone()
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.known().wrong == Some(wrong)
    }
}

async fn mcp(State(server): State<Authorization>, headers: HeaderMap, body: String) -> Response {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let good = shown.strip_prefix("Bearer ").is_some_and(|token| server.known().access.contains(token));
    if !good {
        let host = if server.is(Wrong::DescribedElsewhere) { "http://169.254.169.254" } else { &server.base };
        let challenge = format!(
            "Bearer error=\"invalid_token\", resource_metadata=\"{host}/.well-known/oauth-protected-resource/mcp\", scope=\"tools:use\""
        );
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response();
    }
    server.known().called.push(format!("{shown} {body}"));
    let Ok(message) = serde_json::from_str::<Value>(&body) else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "crm", "version": "1"}
        }),
        Some("tools/list") => json!({"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}),
        Some("tools/call") => json!({"content": [{"type": "text", "text": format!("you showed {shown}")}]}),
        Some("server/discover") => return StatusCode::NOT_FOUND.into_response(),
        _other => return StatusCode::ACCEPTED.into_response(),
    };
    Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

async fn resource(State(server): State<Authorization>) -> Json<Value> {
    let resource =
        if server.is(Wrong::OtherResource) { "https://bank.example/mcp".to_owned() } else { server.mcp() };
    let issuer = server.known().manner.given_by.clone().unwrap_or_else(|| server.issuer());
    Json(json!({"resource": resource, "authorization_servers": [issuer], "scopes_supported": ["all"]}))
}

async fn described(State(server): State<Authorization>) -> Response {
    if server.is(Wrong::Endless) {
        let pieces = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("[".repeat(4096)));
        return Body::from_stream(pieces).into_response();
    }
    let base = &server.base;
    let issuer =
        if server.is(Wrong::OtherIssuer) { "https://bank.example".to_owned() } else { server.issuer() };
    let at = if server.is(Wrong::PrivateEndpoint) { "https://169.254.169.254" } else { base };
    let methods = if server.is(Wrong::NoPkce) { json!(["plain"]) } else { json!(["S256"]) };
    let revoked_at = match server.known().wrong {
        Some(Wrong::NoRevocation) => Value::Null,
        Some(Wrong::RevokesElsewhere) => json!("https://169.254.169.254/as/revoke"),
        _other => json!(format!("{base}/as/revoke")),
    };
    let lures_to = server.known().manner.lures_to.clone();
    let page = lures_to.as_ref().unwrap_or(base);
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{page}/as/authorize"),
        "token_endpoint": format!("{at}/as/token"),
        "revocation_endpoint": revoked_at,
        "registration_endpoint": format!("{base}/as/register"),
        "device_authorization_endpoint": format!("{base}/as/device"),
        "code_challenge_methods_supported": methods,
        "authorization_response_iss_parameter_supported": lures_to.is_none(),
    }))
    .into_response()
}

async fn register(State(server): State<Authorization>, Json(asked): Json<Value>) -> Response {
    let mut known = server.known();
    known.count += 1;
    let id = format!("client-{}", known.count);
    let redirect = asked["redirect_uris"][0].as_str().unwrap_or_default().to_owned();
    known.clients.insert(id.clone(), redirect);
    (StatusCode::CREATED, Json(json!({"client_id": id, "token_endpoint_auth_method": "none"})))
        .into_response()
}

/// The person behind the browser says yes at once.
async fn authorize(State(server): State<Authorization>, Query(asked): Query<Fields>) -> Response {
    let is = |name: &str, value: &str| asked.get(name).is_some_and(|found| found == value);
    let mut known = server.known();
    let old = known.wrong == Some(Wrong::Old);
    let redirect = match asked.get("client_id").and_then(|id| known.clients.get(id)) {
        Some(registered) => registered.clone(),
        None if old => asked.get("redirect_uri").cloned().unwrap_or_default(),
        None => String::new(),
    };
    let right = is("redirect_uri", &redirect)
        && is("response_type", "code")
        && is("code_challenge_method", "S256")
        && (old || is("resource", &known.manner.gives_for.clone().unwrap_or_else(|| server.mcp())))
        && is("scope", "tools:use");
    let Some(state) = asked.get("state").cloned().filter(|_| right) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    known.count += 1;
    let code = format!("code-{}", known.count);
    known.codes.insert(code.clone(), asked);
    let wrong = known.wrong == Some(Wrong::OtherIssuerBack);
    let issuer = if wrong { "https://bank.example".to_owned() } else { server.issuer() };
    let name = if old { String::new() } else { format!("&iss={issuer}") };
    let back = format!("{redirect}?code={code}&state={state}{name}");
    (StatusCode::FOUND, [(LOCATION, back)]).into_response()
}

async fn device(State(server): State<Authorization>) -> Json<Value> {
    let mut known = server.known();
    known.count += 1;
    let code = format!("device-{}", known.count);
    known.devices.insert(code.clone(), false);
    let elsewhere = known.wrong == Some(Wrong::TypedElsewhere);
    let base = if elsewhere { "https://169.254.169.254" } else { &server.base };
    Json(json!({
        "device_code": code, "user_code": "ABCD-EFGH", "verification_uri": format!("{base}/as/type"),
        "expires_in": 60, "interval": 1,
    }))
}

/// A token that nobody uses any more (RFC 7009): strict as to who says so, and what kind it is.
async fn revoke(State(server): State<Authorization>, form: String) -> Response {
    if server.is(Wrong::Silent) {
        return std::future::pending().await;
    }
    let asked: Fields = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    let said = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let mut known = server.known();
    if known.wrong == Some(Wrong::Broken) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let token = said("token");
    if !known.clients.contains_key(&said("client_id")) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    }
    let known_token = match said("token_type_hint").as_str() {
        "refresh_token" => known.refresh.remove(&token),
        "access_token" => known.access.remove(&token),
        _other => {
            return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_request"}))).into_response();
        }
    };
    // What it doesn't know is as good as revoked.
    if known_token {
        known.revoked.push(token);
    }
    StatusCode::OK.into_response()
}

/// Whose a token is (RFC 7662), for servers that are shown one.
async fn introspect(
    State(server): State<Authorization>,
    Query(mut asked): Query<Fields>,
    form: String,
) -> Json<Value> {
    asked.extend(url::form_urlencoded::parse(form.as_bytes()).into_owned());
    let active = asked.get("token").is_some_and(|token| server.known().access.contains(token));
    Json(if active {
        json!({"active": true, "username": crate::mail::USER})
    } else {
        json!({"active": false})
    })
}

async fn token(State(server): State<Authorization>, headers: HeaderMap, form: String) -> Response {
    let (resource, secret) = {
        let mut known = server.known();
        known.asked.tokens += 1;
        let resource = known.manner.gives_for.clone().unwrap_or_else(|| server.mcp());
        (resource, known.manner.client_secret)
    };
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let pair = shown.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok()).unwrap_or_default();
    if secret.is_some_and(|secret| !pair.ends_with(format!(":{secret}").as_bytes())) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    }
    let asked: Fields = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    let said = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let no = |code: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": code}))).into_response();
    if said("resource") != resource && !server.is(Wrong::Old) {
        return no("invalid_target");
    }
    match said("grant_type").as_str() {
        "authorization_code" => {
            // Good once.
            let begun = server.known().codes.remove(&said("code"));
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(said("code_verifier")));
            let right = begun.is_some_and(|begun| {
                begun["code_challenge"] == challenge
                    && begun["redirect_uri"] == said("redirect_uri")
                    && begun["client_id"] == said("client_id")
            });
            if right { given(&server) } else { no("invalid_grant") }
        }
        "refresh_token" => {
            if server.is(Wrong::Broken) {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            let used = server.known().refresh.remove(&said("refresh_token"));
            if !used || server.is(Wrong::NoRenewal) {
                return no("invalid_grant");
            }
            server.known().asked.renewals += 1;
            let given = given(&server);
            let held = server.known().held.clone();
            if let Some(held) = held {
                let waiting = Arc::clone(&server.known().asked.waiting);
                waiting.notify_one();
                held.notified().await;
            }
            given
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let falter = server.known().manner.falters.pop_front();
            if let Some(falter) = falter {
                return falter.response();
            }
            match server.known().devices.get(&said("device_code")).copied() {
                None => return no("invalid_grant"),
                Some(false) => return no("authorization_pending"),
                Some(true) => {}
            }
            given(&server)
        }
        _other => no("unsupported_grant_type"),
    }
}

fn given(server: &Authorization) -> Response {
    let (access, refresh) = server.tokens();
    let good_for = server.known().manner.good_for.unwrap_or(3600);
    Json(json!({
        "access_token": access, "token_type": "Bearer", "expires_in": good_for, "refresh_token": refresh,
    }))
    .into_response()
}
