//! The model service: from a door's request to the bytes of a provider's answer.

use dial::{Client, Dialer};
use domain::{ModelName, UsdMicros};
use futures::FutureExt as _;
use policy::ModelCall;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode, Url};
use serde_json::json;
use store::Outcome;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vault::{Injection, Scrubber};
use wire::frame::{self, CHUNK, FrameError, SMALL};
use wire::host::ModelAnswer;
use wire::model::{Dialect, FailureKind, ModelFailure, ModelRequest, Rebuilt, pass_header, rebuild};

use crate::budget::Reservation;
use crate::changes::Changes;
use crate::credential::{Asks, Shown};
use crate::front::ServiceError;
use crate::model_gate::{AtWorst, Ended, NotPermitted};
use crate::permit::Permit;
use crate::prices::{Price, Prices};
use crate::provider::{Api, Provider};
use crate::session::{ModelEvent, ModelSession};
use crate::tools::Before;
use crate::upstream::{self, Patience};
use crate::usage::UsageReader;

/// Most bytes of one response.
const MAX_RESPONSE: u64 = 64 << 20;

/// Tokens that a model may write when the request does not say: more than any model does today.
const UNSTATED_OUTPUT: u64 = 128_000;
/// Tokens that one picture may be: providers shrink larger ones, and none says that it counts so many.
const IMAGE_TOKENS: u64 = 12_000;
/// Tokens that any prompt may be: no model of the price table reads more, and a document of few bytes may be as long.
const WINDOW: u64 = 1_100_000;

/// Headers of a response that the guest gets to see, besides its content type.
const PASSED_HEADERS: &[&str] = &["request-id", "x-request-id", "retry-after", "x-should-retry"];

/// Asks the providers on behalf of sessions. One per daemon.
#[derive(Debug)]
pub struct ModelService {
    providers: Vec<Provider>,
    client: Client,
    patience: Patience,
    largest_response: u64,
    prices: Prices,
}

/// What a call has come to. It lives outside of the future that makes the call, so that it outlives a cut.
#[derive(Default)]
struct Call {
    number: u64,
    reservation: Option<Reservation>,
    prompt_at_worst: u64,
    output_at_worst: u64,
    price: Option<Price>,
    status: Option<u16>,
    /// Whether the provider may have begun to work on it.
    sent: bool,
    reader: Option<UsageReader>,
    permit: Option<Permit<ModelCall>>,
    /// Whether all of the answer was passed on.
    whole: bool,
}

/// Who is asked for which model, how and where.
struct Route<'a> {
    model: &'a ModelName,
    provider: &'a Provider,
    api: Api,
    url: Url,
}

/// Why a call ended without a whole answer.
enum Failure {
    /// The guest is told why.
    Told(ModelFailure),
    /// The answer was cut in the middle: the door sees the stream end.
    Cut,
}

fn failed(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure::Told(ModelFailure { kind, message: message.into() })
}

impl ModelService {
    /// A service with these providers, asked by this dialer. The first of a name counts.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(providers: Vec<Provider>, patience: Patience, dialer: &Dialer) -> Result<Self, ServiceError> {
        let named = |dialer: Dialer, provider: &Provider| dialer.configured(provider.base.url());
        let client = upstream::client(&providers.iter().fold(dialer.clone(), named), &patience)?;
        Ok(Self { providers, client, patience, largest_response: MAX_RESPONSE, prices: Prices::default() })
    }

    /// The same service with these prices before those that it knows.
    #[must_use]
    pub fn with_prices(self, prices: Prices) -> Self {
        Self { prices, ..self }
    }

    /// The same service with another bound on the bytes of one response.
    #[cfg(test)]
    pub(crate) fn with_largest_response(self, largest_response: u64) -> Self {
        Self { largest_response, ..self }
    }

    /// Answers one question of a door about models, which was read from this stream, and counts it. When the door lets
    /// go of its side, the request is given up.
    pub(crate) async fn serve<S>(
        &self,
        session: &ModelSession,
        request: Option<ModelRequest>,
        stream: S,
    ) -> Result<(), FrameError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut read, mut write) = tokio::io::split(stream);
        match request {
            None => list(session, &mut write).await?,
            Some(request) => {
                let mut call = Call::default();
                let ended = tokio::select! {
                    ended = self.answer(session, &request, &mut call, &mut write) => ended,
                    () = let_go(&mut read) => Err(Failure::Cut),
                };
                settle(session, call).await;
                if let Err(Failure::Told(failure)) = ended {
                    session.tell(ModelEvent::Refused(failure.clone())).await;
                    frame::write(&mut write, &ModelAnswer::Failed(failure), SMALL).await?;
                }
            }
        }
        write.shutdown().await?;
        Ok(())
    }

    async fn answer<W>(
        &self,
        session: &ModelSession,
        request: &ModelRequest,
        call: &mut Call,
        to: &mut W,
    ) -> Result<(), Failure>
    where
        W: AsyncWrite + Unpin,
    {
        let mut rebuilt = rebuild(request.dialect, &request.body, &session.grants)
            .map_err(|refusal| Failure::Told(refusal.into()))?;
        let route = self.allowed(session, &rebuilt, request.dialect)?;
        let Route { model, provider, .. } = route;
        rebuilt.set_model(model.model());
        route.api.fit(&mut rebuilt).map_err(|why| {
            failed(FailureKind::NotGranted, format!("the provider `{}` is not asked: {why}", provider.name))
        })?;
        let body = rebuilt.to_string();
        let (asked, mut shown) = headers(session, request, &route, rebuilt.streams()).await?;
        reserve(session, request.dialect, &rebuilt, &body, call).await?;
        call.price = self.prices.of(model);
        // From before the decision: what changes between two steps ends the next one.
        let changes = session.gate.changes();
        let before = permit(session, model, call).await?;
        let mut right = Right { session, provider, asked: (model, before), changes };
        call.number = session.next_call();
        let started =
            ModelEvent::Started { call: call.number, model: model.clone(), dialect: request.dialect };
        session.tell(started).await;
        tell_secret(session, &shown, provider).await?;
        let asks = self.ask(session, &route, (asked, body.clone()), call);
        let mut response = held(&mut right, shown.lent.as_ref(), asks).await?;
        let refused = response.status() == StatusCode::UNAUTHORIZED;
        if refused && provider.credential.refused(shown.lent.as_ref()).await {
            // Its token had ended early: there is another, and nothing has been worked on.
            let again = headers(session, request, &route, rebuilt.streams()).await?;
            shown = again.1;
            tell_secret(session, &shown, provider).await?;
            let asks = self.ask(session, &route, (again.0, body), call);
            response = held(&mut right, shown.lent.as_ref(), asks).await?;
        }
        let Shown { lent, scrubber } = shown;
        let passes = self.pass(response, (provider, request.dialect), call, scrubber, to);
        let passed = held(&mut right, lent.as_ref(), passes).await;
        // In the middle of an answer, only its end can tell.
        passed.map_err(|failure| if call.reader.is_some() { Failure::Cut } else { failure })
    }

    /// Passes a provider's answer on, without the credential that it was shown.
    async fn pass<W>(
        &self,
        response: Response,
        (provider, dialect): (&Provider, Dialect),
        call: &mut Call,
        scrubber: Scrubber,
        to: &mut W,
    ) -> Result<(), Failure>
    where
        W: AsyncWrite + Unpin,
    {
        call.status = Some(response.status().as_u16());
        let head = checked_head(&response, provider, &scrubber)?;
        let events = response.status().is_success() && is_events(&response);
        call.reader = Some(UsageReader::new(dialect, events));
        frame::write(to, &head, SMALL).await.map_err(|_| Failure::Cut)?;
        self.stream(response, call, scrubber, to).await
    }

    /// The agent's model that is asked for, and who serves it.
    fn allowed<'a>(
        &'a self,
        session: &'a ModelSession,
        rebuilt: &Rebuilt,
        dialect: Dialect,
    ) -> Result<Route<'a>, Failure> {
        let asked: String = rebuilt.model().chars().take(100).flat_map(char::escape_default).collect();
        let model = session.model(rebuilt.model()).ok_or_else(|| {
            let models: Vec<_> = session.models.iter().map(|model| format!("`{model}`")).collect();
            let has = if models.is_empty() { "none".to_owned() } else { models.join(", ") };
            let why = format!("the model `{asked}` is not one of this agent's models ({has}); add it to `models` in agent.toml");
            failed(FailureKind::NotGranted, why)
        })?;
        let name = model.provider();
        let provider = self.providers.iter().find(|provider| provider.name == name).ok_or_else(|| {
            failed(FailureKind::Upstream, format!("no provider `{name}` is configured on this host"))
        })?;
        let Some(api) = provider.api(dialect) else {
            let why = format!("the provider `{name}` is not asked at `{}`", dialect.path());
            return Err(failed(FailureKind::NotGranted, why));
        };
        Ok(Route { model, provider, api, url: provider.url(api, dialect) })
    }

    /// Asks the provider, again and again while it makes sense and nothing has come back.
    async fn ask(
        &self,
        session: &ModelSession,
        Route { provider, url, .. }: &Route<'_>,
        (headers, body): (HeaderMap, String),
        call: &mut Call,
    ) -> Result<Response, Failure> {
        let mut attempt = 1;
        loop {
            let Some(permit) = &call.permit else {
                return Err(failed(FailureKind::NotGranted, "nobody permitted this call"));
            };
            call.sent = true;
            let request = (url.clone(), headers.clone(), body.clone());
            let outcome = upstream::send(&self.client, &self.patience, permit, request).await;
            let Some(wait) = upstream::wait_before_retry(&self.patience, attempt, &outcome) else {
                // A provider that was not reached has not worked; one that broke off or is late may have.
                call.sent = !matches!(
                    outcome,
                    Err(upstream::UpstreamError::Unreachable(_) | upstream::UpstreamError::Refused(_))
                );
                return outcome.map_err(|error| {
                    failed(FailureKind::Upstream, format!("the provider `{}` failed: {error}", provider.name))
                });
            };
            call.sent = false;
            let why = match outcome {
                Ok(response) => format!("HTTP {}", response.status().as_u16()),
                Err(error) => error.to_string(),
            };
            session.tell(ModelEvent::Retrying { call: call.number, why, wait }).await;
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Passes the body on as it comes.
    async fn stream<W>(
        &self,
        mut response: Response,
        call: &mut Call,
        mut scrubber: Scrubber,
        to: &mut W,
    ) -> Result<(), Failure>
    where
        W: AsyncWrite + Unpin,
    {
        let mut passed = 0_u64;
        loop {
            let piece = tokio::time::timeout(self.patience.idle, response.chunk()).await;
            let piece = piece.map_err(|_elapsed| Failure::Cut)?.map_err(|_| Failure::Cut)?;
            let Some(piece) = piece else { break };
            passed = passed.saturating_add(piece.len() as u64);
            if passed > self.largest_response {
                return Err(Failure::Cut);
            }
            if let Some(reader) = &mut call.reader {
                reader.push(&piece);
            }
            pass_on(&scrubber.push(&piece), to).await?;
        }
        pass_on(&scrubber.finish(), to).await?;
        if let Some(reader) = &mut call.reader {
            reader.end();
        }
        frame::write(to, &ModelAnswer::End, SMALL).await.map_err(|_| Failure::Cut)?;
        call.whole = true;
        Ok(())
    }
}

/// What a call is made by, for as long as nothing takes it away.
struct Right<'a> {
    session: &'a ModelSession,
    provider: &'a Provider,
    /// The model, and how often it was asked before.
    asked: (&'a ModelName, Before),
    changes: Changes,
}

/// Does some of a call, for as long as there is a right to it and to the secret that it carries.
async fn held<T>(
    Right { session, provider, asked, changes }: &mut Right<'_>,
    lent: Option<&Injection>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let overtaken = session.gate.model_overtaken(*asked, changes).await;
    if let Some(why) = overtaken.or_else(|| provider.credential.withdrawn(lent).now_or_never()) {
        return Err(failed(FailureKind::NotGranted, why));
    }
    let why = tokio::select! {
        done = work => return done,
        why = session.gate.model_withdrawn(*asked, changes) => why,
        why = provider.credential.withdrawn(lent) => why,
    };
    Err(failed(FailureKind::NotGranted, why))
}

async fn pass_on<W: AsyncWrite + Unpin>(bytes: &[u8], to: &mut W) -> Result<(), Failure> {
    for part in bytes.chunks(CHUNK) {
        frame::write(to, &ModelAnswer::Body(part.to_vec()), SMALL).await.map_err(|_| Failure::Cut)?;
    }
    Ok(())
}

/// Sets aside the worst that the call can cost: one token for each byte of the prompt, since no token of a text is shorter, what
/// pictures and documents may come to, and all the output that it allows.
async fn reserve(
    session: &ModelSession,
    dialect: Dialect,
    rebuilt: &Rebuilt,
    body: &str,
    call: &mut Call,
) -> Result<(), Failure> {
    // Counting costs nothing.
    if dialect != Dialect::AnthropicCountTokens {
        let media = rebuilt.media();
        let pictures = media.images.saturating_mul(IMAGE_TOKENS);
        let documents = if media.documents > 0 { WINDOW } else { 0 };
        call.prompt_at_worst = (body.len() as u64).saturating_add(pictures).saturating_add(documents);
        call.output_at_worst = rebuilt.max_output().unwrap_or(UNSTATED_OUTPUT);
    }
    match session.budget.reserve(call.prompt_at_worst.saturating_add(call.output_at_worst)) {
        Ok(reservation) => {
            call.reservation = Some(reservation);
            Ok(())
        }
        Err(exhausted) => {
            let (used, limit, needed) = (exhausted.used, exhausted.limit, exhausted.needed);
            session.tell(ModelEvent::LimitReached { used, limit, needed }).await;
            Err(failed(FailureKind::LimitReached, exhausted.to_string()))
        }
    }
}

/// Puts on the ledger that a request shows a secret of the vault.
async fn tell_secret(session: &ModelSession, shown: &Shown, provider: &Provider) -> Result<(), Failure> {
    let Some(lent) = &shown.lent else { return Ok(()) };
    session.gate.secret_used(&lent.secret, provider.base.as_str()).await.map_err(|error| {
        failed(FailureKind::Upstream, format!("the use of a secret can't be recorded: {error}"))
    })
}

/// Has the gate decide, and commit: the agent's tokens of the day are set aside as the session's are.
async fn permit(session: &ModelSession, model: &ModelName, call: &mut Call) -> Result<Before, Failure> {
    let at_worst = AtWorst {
        tokens: call.prompt_at_worst.saturating_add(call.output_at_worst),
        cost: call.price.map(|price| price.at_worst(call.prompt_at_worst, call.output_at_worst)),
    };
    match session.gate.permit_model(model, at_worst).await {
        Ok((permit, before)) => {
            call.permit = Some(permit);
            Ok(before)
        }
        Err(NotPermitted::DayLimit(what)) => {
            session.tell(ModelEvent::DayLimitReached { what: what.clone() }).await;
            Err(failed(FailureKind::LimitReached, what))
        }
        Err(NotPermitted::Refused(failure)) => Err(Failure::Told(failure)),
    }
}

/// Counts what a call cost: what the provider said, or the worst case where it was cut off or did not say.
async fn settle(session: &ModelSession, call: Call) {
    let Some(reservation) = call.reservation else { return };
    let answered_badly = call.status.is_some_and(|status| !(200..300).contains(&status));
    let usage = call.reader.as_ref().and_then(UsageReader::declared);
    let known_prompt = call.reader.as_ref().and_then(UsageReader::prompt);
    let (counted, cost) = match usage {
        Some(usage) => (usage.total(), call.price.map(|price| price.of(&usage))),
        None if !call.sent || answered_badly => (0, call.price.map(|_| UsdMicros::micros(0))),
        None => {
            let prompt = known_prompt.unwrap_or(call.prompt_at_worst);
            let cost = call.price.map(|price| price.at_worst(prompt, call.output_at_worst));
            (prompt.saturating_add(call.output_at_worst), cost)
        }
    };
    reservation.settle(counted);
    if let Some(permit) = call.permit {
        let outcome = match call.status {
            _ if !call.sent => Outcome::NotDone { why: "the provider was not reached".to_owned() },
            Some(status) if answered_badly => Outcome::Failed { why: format!("HTTP {status}") },
            _ if call.whole => Outcome::Done,
            _ => Outcome::Unknown { why: "its answer was cut short".to_owned() },
        };
        let ended = Ended { outcome, counted, cost, usage };
        if let Err(error) = session.gate.model_ended(permit, &ended).await {
            tracing::error!(%error, "a model call's end can't be recorded");
        }
    }
    let used = session.budget.used();
    session.tell(ModelEvent::Finished { call: call.number, status: call.status, usage, counted, used }).await;
}

/// Returns when the door has closed its side.
async fn let_go<R: AsyncRead + Unpin>(door: &mut R) {
    let mut nothing = [0_u8; 1];
    while door.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}

/// The headers of a request: what the door let through and is on the list, and what the host adds.
async fn headers(
    session: &ModelSession,
    request: &ModelRequest,
    Route { provider, api, url, .. }: &Route<'_>,
    streams: bool,
) -> Result<(HeaderMap, Shown), Failure> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers
        .insert(ACCEPT, if streams { HeaderValue::from_static("text/event-stream") } else { json.clone() });
    headers.insert(CONTENT_TYPE, json);
    if *api == Api::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    let passed = request.headers.iter().take(16);
    for (name, value) in passed.filter_map(|(name, value)| pass_header(request.dialect, name, value)) {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value));
        if let (Ok(name), Ok(value)) = parsed {
            headers.insert(name, value);
        }
    }
    let asks = Asks { method: "POST", url, team: session.gate.session.about.team.as_ref(), api: Some(*api) };
    let shown = provider.credential.put_into(&mut headers, asks).await.map_err(|why| {
        failed(FailureKind::Upstream, format!("the provider `{}` can't be asked: {why}", provider.name))
    })?;
    Ok((headers, shown))
}

fn is_events(response: &Response) -> bool {
    content_type(response).is_some_and(|kind| kind.starts_with("text/event-stream"))
}

fn content_type(response: &Response) -> Option<&str> {
    response.headers().get(CONTENT_TYPE)?.to_str().ok()
}

/// The head that the guest gets to see. What would tell of the host's credential, or lead elsewhere, is not passed on.
fn checked_head(
    response: &Response,
    provider: &Provider,
    scrubber: &Scrubber,
) -> Result<ModelAnswer, Failure> {
    let status = response.status();
    let name = &provider.name;
    if status.is_redirection() || response.headers().contains_key(LOCATION) {
        let why = format!("the provider `{name}` answered with a redirect, and none is ever followed");
        return Err(failed(FailureKind::Upstream, why));
    }
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        let why = format!(
            "the provider `{name}` refused the host's credential (HTTP {}): check the key that the daemon has",
            status.as_u16()
        );
        return Err(failed(FailureKind::Upstream, why));
    }
    let known = ["application/json", "text/event-stream"];
    let content_type = content_type(response).unwrap_or_default();
    if !known.iter().any(|kind| content_type.starts_with(kind)) {
        let why =
            format!("the provider `{name}` answered HTTP {} with neither JSON nor events", status.as_u16());
        return Err(failed(FailureKind::Upstream, why));
    }
    let passed = PASSED_HEADERS.iter().filter_map(|name| {
        let value = response.headers().get(*name)?.to_str().ok()?;
        let value = String::from_utf8_lossy(&scrubber.whole(value.as_bytes())).into_owned();
        (value.len() <= 256).then(|| ((*name).to_owned(), value))
    });
    // Its parameters are the provider's words.
    let content_type = scrubber.whole(content_type.as_bytes());
    let content_type = String::from_utf8_lossy(&content_type).chars().take(100).collect();
    Ok(ModelAnswer::Head { status: status.as_u16(), content_type, headers: passed.collect() })
}

/// The agent's models, as every dialect's clients can read them.
async fn list<W: AsyncWrite + Unpin>(session: &ModelSession, to: &mut W) -> Result<(), FrameError> {
    let entry = |model: &ModelName| {
        json!({
            "id": model.model(), "object": "model", "type": "model", "owned_by": model.provider(),
            "display_name": model.model(), "created": 0, "created_at": "1970-01-01T00:00:00Z",
        })
    };
    let data: Vec<_> = session.models.iter().map(entry).collect();
    let (first, last) = (session.models.first(), session.models.last());
    let body = json!({
        "object": "list", "data": data, "has_more": false,
        "first_id": first.map(ModelName::model), "last_id": last.map(ModelName::model),
    });
    let content_type = "application/json".to_owned();
    let head = ModelAnswer::Head { status: 200, content_type, headers: Vec::new() };
    frame::write(to, &head, SMALL).await?;
    for part in body.to_string().as_bytes().chunks(CHUNK) {
        frame::write(to, &ModelAnswer::Body(part.to_vec()), SMALL).await?;
    }
    frame::write(to, &ModelAnswer::End, SMALL).await
}
