//! A permitted request, sent once, or once more with a secret that was renewed: its body streams out within its budget, its answer streams back as it is, and both end
//! when the right to it ends.

use std::sync::Arc;

use bytes::Bytes;
use dial::causes;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use policy::Body;
use store::Outcome;
use tokio_util::sync::CancellationToken;
use vault::{Injection, Scrubber};
use wire::egress::{MAX_ANSWER, stays};

use super::gate::{Ready, SessionEgress, Whose, for_vault, head_bytes, labels_of, repeats};
use super::outside::{Cut, Sent};
use super::search::{self, Search};
use super::sending::Sending;
use super::{Answer, EgressRefusal, Exchange, Gone, RequestBody};
use crate::changes::Changes;

/// Room for what is said of an answer beside its headers.
const ROOM: usize = 4 << 10;

/// Why an answer is not waited for.
const NOBODY: &str = "nobody waits for the answer any more";

/// How a request came out: what the ledger is told, and what the program is.
struct Came {
    outcome: Outcome,
    told: Result<(), EgressRefusal>,
}

impl Came {
    fn broke(outcome: Outcome, status: u16, why: String) -> Self {
        Self { outcome, told: Err(EgressRefusal { status, why, hint: None }) }
    }
}

impl SessionEgress {
    /// Sends it, has written what came of it, and gives back the bytes that it didn't use.
    pub(super) async fn send(
        &self,
        mut ready: Ready,
        mut changes: Changes,
        exchange: Exchange,
    ) -> Result<(), EgressRefusal> {
        let Exchange { body, answer, cancelled } = exchange;
        let sent = Arc::new(Sending::new(changes.abreast()));
        let came = self.exchanged(&mut ready, &mut changes, (body, &answer), (&cancelled, &sent)).await;
        let Ready { permit, .. } = ready;
        // The connection may still be asking for more of the body.
        let (heads, bytes) = sent.end();
        let used = head_bytes(permit.action()).saturating_mul(heads).saturating_add(bytes);
        let budget = self.whose.budget(&self.gate.session.about);
        let spent = budget.and_then(|budget| permit.used_of(&budget, used));
        self.ended(permit, &came.outcome, spent.as_slice());
        came.told
    }

    async fn exchanged(
        &self,
        ready: &mut Ready,
        changes: &mut Changes,
        (body, answer): (RequestBody, &Answer),
        (cancelled, sent): (&CancellationToken, &Arc<Sending>),
    ) -> Came {
        if let Some(why) = self.overtaken(changes, ready).await {
            return Came::broke(Outcome::NotDone { why: why.clone() }, 403, why);
        }
        let request = match request(ready, Some(body), sent) {
            Ok(request) => request,
            Err(why) => return Came::broke(Outcome::NotDone { why: why.clone() }, 400, why),
        };
        let mut response = match self.answered(request, ready, changes, (cancelled, sent)).await {
            Ok(response) => response,
            Err(came) => return came,
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            match self.answered_anew(ready, changes, (cancelled, sent)).await {
                Ok(Some(anew)) => response = anew,
                Ok(None) => {}
                Err(came) => return came,
            }
        }
        let status = response.status().as_u16();
        let passed = tokio::select! {
            passed = self.pass(response, answer, ready.lent.as_ref()) => passed,
            why = self.withdrawn(changes, ready) => return cut(why),
            () = cancelled.cancelled() => return cut(NOBODY.to_owned()),
        };
        let outcome = match (&passed, status) {
            (Ok(()), ..400) => Outcome::Done,
            (Ok(()), status) => {
                Outcome::Failed { why: format!("HTTP {status} for {}", ready.permit.action().target.method) }
            }
            (Err(refusal), _) => Outcome::Failed { why: refusal.why.clone() },
        };
        Came { outcome, told: passed }
    }

    /// Sends the request and waits for the head of the answer, whose labels are the session's before its first byte is.
    async fn answered(
        &self,
        request: Request<Sent>,
        ready: &Ready,
        changes: &mut Changes,
        (cancelled, sent): (&CancellationToken, &Arc<Sending>),
    ) -> Result<Response<Incoming>, Came> {
        let bounds = self.outside.bounds;
        sent.head();
        let response = tokio::select! {
            asked = self.client.request(request) => match asked {
                Ok(response) => response,
                Err(error) => {
                    if error.is_connect() {
                        sent.no_head();
                    }
                    return Err(not_answered(&error));
                }
            },
            () = sent.rests(bounds.head) => {
                let why = format!("no answer within {} s", bounds.head.as_secs_f32());
                return Err(Came::broke(Outcome::Unknown { why: why.clone() }, 504, why));
            }
            why = self.withdrawn(changes, ready) => return Err(cut(why)),
            () = cancelled.cancelled() => return Err(cut(NOBODY.to_owned())),
        };
        let brings = labels_of(ready.own, ready.lent.is_some());
        if self.whose == Whose::Agent
            && let Err(error) = self.gate.brought(changes, &brings, sent.is_over()).await
        {
            return Err(Came::broke(Outcome::Done, 502, format!("the gateway failed: {error}")));
        }
        // What it brings may end the rest of the request, before a byte of it is out.
        match self.overtaken(changes, ready).await {
            Some(why) => Err(cut(why)),
            None => Ok(response),
        }
    }

    /// What the server answers to the same request with the secret renewed that it refused; none if there is no other secret,
    /// or if the request is one that may have done something, or had a body, which is gone.
    async fn answered_anew(
        &self,
        ready: &mut Ready,
        changes: &mut Changes,
        (cancelled, sent): (&CancellationToken, &Arc<Sending>),
    ) -> Result<Option<Response<Incoming>>, Came> {
        let renewed = tokio::select! {
            renewed = self.renewed(ready) => renewed,
            why = self.withdrawn(changes, ready) => return Err(cut(why)),
            () = cancelled.cancelled() => return Err(cut(NOBODY.to_owned())),
        };
        let action = ready.permit.action();
        let Some(renewed) = renewed.filter(|_| repeats(action) && self.admits_again()) else {
            return Ok(None);
        };
        // On the ledger before it is shown; where that fails, the program gets the answer that there is.
        if self.gate.secret_used(&renewed.secret, &action.target.site().to_string()).await.is_err() {
            return Ok(None);
        }
        ready.lent = Some(renewed);
        if let Some(why) = self.overtaken(changes, ready).await {
            return Err(cut(why));
        }
        let Ok(request) = request(ready, None, sent) else { return Ok(None) };
        self.answered(request, ready, changes, (cancelled, sent)).await.map(Some)
    }

    /// The secret of a request that was refused with it, if it is another by now.
    async fn renewed(&self, ready: &Ready) -> Option<Injection> {
        let (lender, lent) = (self.outside.lender.as_ref()?, ready.lent.as_ref()?);
        // Also for a request that isn't sent again: the program's next try finds what there is.
        if !lender.refused(lent).await {
            return None;
        }
        let policy = Arc::clone(&self.gate.policy.borrow());
        let to = for_vault(&ready.permit.action().target);
        let renewed = lender.inject(&policy.secrets_for(&to), &to).await.ok()?;
        renewed.filter(|renewed| renewed.secret == lent.secret)
    }

    /// Why a request is not even sent: its right ended between the decision and now.
    async fn overtaken(&self, changes: &mut Changes, ready: &Ready) -> Option<String> {
        if let (Some(lender), Some(lent)) = (&self.outside.lender, &ready.lent)
            && let Some(why) = lender.vault().withdrawn(lent).now_or_never()
        {
            return Some(why);
        }
        self.gate.overtaken(changes, ready).await
    }

    /// Waits until policy, labels or a revoked secret end the right to what was begun.
    async fn withdrawn(&self, changes: &mut Changes, ready: &Ready) -> String {
        let secret = async {
            match (&self.outside.lender, &ready.lent) {
                (Some(lender), Some(lent)) => lender.vault().withdrawn(lent).await,
                (None, _) | (_, None) => std::future::pending().await,
            }
        };
        tokio::select! {
            why = self.gate.connect_withdrawn(changes, ready) => why,
            why = secret => why,
        }
    }

    /// Passes the answer on as it comes, no faster than it is taken.
    async fn pass(
        &self,
        response: Response<Incoming>,
        answer: &Answer,
        lent: Option<&Injection>,
    ) -> Result<(), EgressRefusal> {
        let refused = |status, why: String| EgressRefusal { status, why, hint: None };
        let bounds = self.outside.bounds;
        let (head, mut body) = response.into_parts();
        if head.status.as_u16() < 200 {
            return Err(refused(502, format!("the server wants to speak something else ({})", head.status)));
        }
        let mut search = lent.map(Search::new);
        if let (Some(_), Some(why)) = (&search, search::unsearchable(&head.headers)) {
            return Err(refused(502, why));
        }
        let headers = fields(&head.headers, search.as_ref().map(Search::scrubber));
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        if size > MAX_ANSWER - ROOM {
            return Err(refused(
                502,
                format!("the head of its answer has more than {} KiB", MAX_ANSWER >> 10),
            ));
        }
        let gone = |_| refused(502, NOBODY.to_owned());
        answer.head(head.status.as_u16(), headers).await.map_err(gone)?;
        let mut count = 0_u64;
        loop {
            let frame = tokio::time::timeout(bounds.idle, body.frame()).await.map_err(|_elapsed| {
                refused(504, format!("the answer stopped for {} s", bounds.idle.as_secs_f32()))
            })?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|error| refused(502, format!("the answer broke off: {}", told(&error))))?;
            // Trailers are not passed on.
            let Ok(bytes) = frame.into_data() else { continue };
            count = count.saturating_add(bytes.len() as u64);
            if count > bounds.answer {
                return Err(refused(502, format!("the answer has more than {} bytes", bounds.answer)));
            }
            match &mut search {
                Some(search) => {
                    let found = search.push(&bytes).map_err(|why| refused(502, why))?;
                    answer.body(&found).await.map_err(gone)?;
                }
                None => answer.body(&bytes).await.map_err(gone)?,
            }
        }
        if let Some(mut search) = search {
            answer.body(&search.finish()).await.map_err(gone)?;
        }
        Ok(())
    }
}

/// The request as it leaves: of the permit, and nothing else but its body, the length and the host's secret.
fn request(ready: &Ready, body: Option<RequestBody>, sent: &Arc<Sending>) -> Result<Request<Sent>, String> {
    let action = ready.permit.action();
    let unfit = |what: &str| format!("its {what} can't be sent");
    let mut headers = HeaderMap::new();
    for (name, value) in action.headers.iter().filter(|(name, _)| !stays(name)) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit("header"))?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit("header"))?);
    }
    if let Some(lent) = &ready.lent {
        let name = lent.header.as_deref().unwrap_or("authorization");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit("secret's header"))?;
        let mut value = HeaderValue::from_bytes(lent.value.reveal()).map_err(|_| unfit("secret"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
        search::ask_plainly(&mut headers);
    }
    // A push begins with what was decided on.
    let begin = action.push.as_ref().map(|push| Bytes::from(push.bytes.clone()));
    let body = match &action.body {
        Body::None => {
            sent.over();
            Either::Left(Full::new(begin.unwrap_or_default()))
        }
        Body::Whole(bytes) => {
            sent.more(bytes.len() as u64);
            sent.over();
            let whole = [begin.unwrap_or_default(), Bytes::from(bytes.clone())].concat();
            Either::Left(Full::new(Bytes::from(whole)))
        }
        Body::Upto(most) => {
            let body = body.ok_or_else(|| unfit("body"))?;
            let length = ready.length.filter(|_| begin.is_none());
            if let Some(length) = length {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            let begin = stream::iter(begin.map(|bytes| Ok(Frame::data(bytes))));
            Either::Right(StreamBody::new(
                begin.chain(counted(body, (*most, length), Arc::clone(sent))).boxed(),
            ))
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = action.target.method.parse().map_err(|_| unfit("method"))?;
    *request.uri_mut() = action.target.url().parse().map_err(|_| unfit("URL"))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The body as it comes from the program, at most as long as its budget. Whoever sends it may not ask for more once it is as long
/// as was said.
fn counted(
    body: RequestBody,
    (most, length): (u64, Option<u64>),
    sent: Arc<Sending>,
) -> stream::BoxStream<'static, Result<Frame<Bytes>, Cut>> {
    let next = move |(mut body, sent): (RequestBody, Arc<Sending>)| async move {
        let piece = match body.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                sent.over();
                return Ok(None);
            }
            Err(gone) => return Err(Cut::Gone(gone)),
        };
        sent.abreast.come().await?;
        let so_far = sent.more(piece.len() as u64).ok_or(Gone)?;
        if so_far > most {
            return Err(Cut::TooLong);
        }
        if length == Some(so_far) {
            sent.over();
        }
        Ok(Some((Frame::data(Bytes::from(piece)), (body, sent))))
    };
    stream::try_unfold((body, sent), next).boxed()
}

/// An answer's headers, without those of one connection, those that lead elsewhere, and those that are no text.
fn fields(headers: &HeaderMap, scrubber: Option<&Scrubber>) -> Vec<(String, String)> {
    let named: Vec<String> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let stays_here = |name: &str| {
        let length = name == "content-length";
        let scrubbed = length && scrubber.is_some();
        scrubbed || (stays(name) && !length) || name == "alt-svc" || named.iter().any(|other| other == name)
    };
    headers
        .iter()
        .filter(|(name, _)| !stays_here(name.as_str()))
        .filter_map(|(name, value)| {
            let value = match scrubber {
                Some(scrubber) => String::from_utf8(scrubber.whole(value.as_bytes())).ok()?,
                None => String::from_utf8(value.as_bytes().to_vec()).ok()?,
            };
            Some((name.as_str().to_owned(), value))
        })
        .collect()
}

/// Why there is no answer: whether anything left is known only where no connection was made.
fn not_answered(error: &hyper_util::client::legacy::Error) -> Came {
    if causes(error).any(|cause| cause.downcast_ref::<Cut>() == Some(&Cut::TooLong)) {
        let why = Cut::TooLong.to_string();
        return Came::broke(Outcome::Unknown { why: why.clone() }, 413, why);
    }
    let why = told(error);
    if error.is_connect() {
        return Came::broke(Outcome::NotDone { why: why.clone() }, 502, why);
    }
    Came::broke(Outcome::Unknown { why: why.clone() }, 502, format!("the server broke off: {why}"))
}

/// A failure in words of this host's.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(cut) = causes(error).find_map(|cause| cause.downcast_ref::<Cut>()) {
        return cut.to_string();
    }
    crate::upstream::told(error)
}

fn cut(why: String) -> Came {
    Came::broke(Outcome::Unknown { why: format!("cut: {why}") }, 403, why)
}
