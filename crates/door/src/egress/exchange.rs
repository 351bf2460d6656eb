//! One request to the daemon and its answer, both as they come and no faster than they are taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::egress::{BodyLength, EgressAnswer, EgressBody, MAX_ANSWER, MAX_REQUEST};
use wire::frame::{self, CHUNK};
use wire::host::DoorOpens;
use wire::mux::{Opener, Stream};

use super::refusal::Refusal;
use super::{Body, Origin, push, request};
use crate::DoorLimits;
use crate::frames::CHUNK_FRAME;

/// Requests at the daemon at once; more wait for those.
const AT_ONCE: usize = 32;
/// How much of a body that nobody wants is taken, and for how long.
const UNWANTED: usize = 1 << 20;
const UNWANTED_FOR: Duration = Duration::from_secs(5);

/// Makes the exchanges of one cell. Cheap to clone.
#[derive(Clone)]
pub(super) struct Exchanges {
    daemon: Opener,
    room: Arc<Semaphore>,
    /// How long a body may have nothing to say.
    patience: Duration,
}

impl Exchanges {
    pub(super) fn new(daemon: Opener, limits: DoorLimits) -> Self {
        Self { daemon, room: Arc::new(Semaphore::new(AT_ONCE)), patience: limits.http_body }
    }

    /// The answer to a program's request, which came to the proxy itself or in the tunnel to an origin.
    pub(super) async fn answer(&self, request: Request<Incoming>, origin: Option<&Origin>) -> Response<Body> {
        match self.asked(request, origin).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn asked(
        &self,
        request: Request<Incoming>,
        origin: Option<&Origin>,
    ) -> Result<Response<Body>, Refusal> {
        let (head, mut body) = request.into_parts();
        let length = match body.size_hint().exact() {
            _ if body.is_end_stream() => BodyLength::None,
            Some(0) => BodyLength::None,
            Some(bytes) => BodyLength::Known(bytes),
            None => BodyLength::Unknown,
        };
        let mut request = match request::canonical(&head, length, origin) {
            Ok(request) => request,
            Err(refusal) => {
                // Whoever waits for a word before its body has its word.
                if !head.headers.contains_key(header::EXPECT) {
                    discard(&mut body).await;
                }
                return Err(refusal);
            }
        };
        let mut begun = Bytes::new();
        if request.is_push() {
            begun = push::take(&mut request, &mut body, self.patience).await?;
        }
        let length = request.body;
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(Refusal::failed)?;
        let bodiless = request.method == "HEAD";
        let mut daemon = self.daemon.open().await.map_err(Refusal::failed)?;
        // Its head is no longer than its body's limit: `check` holds what is in it to less.
        let most = MAX_REQUEST.saturating_add(16);
        frame::write(&mut daemon, &DoorOpens::Egress(request), most).await.map_err(Refusal::failed)?;
        let (from, to) = tokio::io::split(daemon);
        let sending = match length {
            BodyLength::None => Sending::Done { _open: to },
            BodyLength::Known(_) | BodyLength::Unknown => {
                Sending::Runs(Box::pin(send(begun, body, to, self.patience)))
            }
        };
        Exchange { from, sending, _room: room }.respond(bodiless).await
    }
}

/// The request's body on its way.
enum Sending {
    /// It goes on.
    Runs(Pin<Box<dyn Future<Output = Result<WriteHalf<Stream>, BodyFault>> + Send>>),
    /// There is no more of it. The half stays open: that says that somebody waits.
    Done { _open: WriteHalf<Stream> },
}

/// Why a request's body did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyFault {
    #[error("the request's body broke off")]
    BrokeOff,
    #[error("the request's body had nothing to say for too long")]
    Idle,
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        let status = match fault {
            BodyFault::BrokeOff => StatusCode::BAD_REQUEST,
            BodyFault::Idle => StatusCode::REQUEST_TIMEOUT,
        };
        Self::new(status, fault.to_string())
    }
}

/// One that runs. Dropped, it lets the daemon's stream go, and the daemon gives the request up.
struct Exchange {
    from: ReadHalf<Stream>,
    sending: Sending,
    _room: OwnedSemaphorePermit,
}

impl Exchange {
    /// The response, whose body comes as the program takes it.
    async fn respond(mut self, bodiless: bool) -> Result<Response<Body>, Refusal> {
        let (status, headers) = match self.next().await {
            Ok(Some(EgressAnswer::Head { status, headers })) => (status, headers),
            Ok(Some(EgressAnswer::Refused { status, why, hint })) => {
                self.take_rest().await;
                return Err(Refusal::told(status, why, hint));
            }
            Ok(Some(EgressAnswer::Body(_) | EgressAnswer::End) | None) => {
                return Err(Refusal::failed("the answer has no head"));
            }
            Err(fault) => return Err(fault),
        };
        let head = head(status, headers).ok_or_else(|| Refusal::failed("the answer's head is malformed"))?;
        if bodiless || matches!(status, 204 | 304) {
            // Nothing is passed on, but the exchange ends in order.
            while let Ok(Some(EgressAnswer::Body(_))) = self.next().await {}
            return Ok(head.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync()));
        }
        let pieces = stream::try_unfold(self, |mut exchange| async move {
            match exchange.next().await {
                Ok(Some(EgressAnswer::Body(bytes))) => Ok(Some((Frame::data(Bytes::from(bytes)), exchange))),
                Ok(Some(EgressAnswer::End)) => Ok(None),
                // Cut before its end: the program must not take it for the whole.
                Ok(Some(EgressAnswer::Refused { .. } | EgressAnswer::Head { .. }) | None) | Err(_) => {
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                }
            }
        });
        Ok(head.map(|()| StreamBody::new(pieces).boxed_unsync()))
    }

    /// What the daemon says next, while the request's body goes on. `None`: it hung up.
    async fn next(&mut self) -> Result<Option<EgressAnswer>, Refusal> {
        let Self { from, sending, .. } = self;
        let answer = frame::read::<EgressAnswer, _>(from, MAX_ANSWER);
        tokio::pin!(answer);
        if let Sending::Runs(runs) = sending {
            let sent = tokio::select! {
                // First: what the daemon has said counts, whatever became of the body.
                biased;
                answer = &mut answer => return answer.map_err(Refusal::failed),
                sent = runs => sent,
            };
            *sending = Sending::Done { _open: sent? };
        }
        answer.await.map_err(Refusal::failed)
    }

    /// Takes what is left of the request's body, within bounds. A client of HTTP/2 that is still sending would else
    /// not get to read why nobody wants it.
    async fn take_rest(self) {
        if let Sending::Runs(runs) = self.sending {
            drop(tokio::time::timeout(UNWANTED_FOR, runs).await);
        }
    }
}

/// Passes a body on, whose first bytes were taken already, in pieces, without its trailers. Gives back the half of the
/// stream that it went to.
async fn send(
    begun: Bytes,
    mut body: Incoming,
    mut to: WriteHalf<Stream>,
    patience: Duration,
) -> Result<WriteHalf<Stream>, BodyFault> {
    let mut data = Some(begun);
    while let Some(bytes) = data {
        for piece in bytes.chunks(CHUNK) {
            if frame::write(&mut to, &EgressBody::Bytes(piece.to_vec()), CHUNK_FRAME).await.is_err() {
                // The daemon wants no more of it; its answer says why.
                discard(&mut body).await;
                return Ok(to);
            }
        }
        data = next(&mut body, patience).await?;
    }
    // A daemon that has hung up is heard of where its answer is read.
    drop(frame::write(&mut to, &EgressBody::End, CHUNK_FRAME).await);
    Ok(to)
}

/// The next bytes of a body, without its trailers; none at its end.
pub(super) async fn next(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, BodyFault> {
    loop {
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(BodyFault::BrokeOff),
            Err(_elapsed) => return Err(BodyFault::Idle),
        }
    }
}

/// Takes a body that nobody wants, within bounds.
async fn discard(body: &mut Incoming) {
    let taken = async {
        let mut left = UNWANTED;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else { return };
            left = rest;
        }
    };
    // A body that is longer or slower is cut.
    drop(tokio::time::timeout(UNWANTED_FOR, taken).await);
}

/// The head of a response. One that would begin another protocol is none.
fn head(status: u16, headers: Vec<(String, String)>) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200)?;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().append(name, HeaderValue::from_str(&value).ok()?);
    }
    Some(response)
}
