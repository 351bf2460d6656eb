//! One request to the daemon and its answer, both as they come and no faster than they are taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
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
        let mut request = request::canonical(&head, length, origin)?;
        let mut begun = Bytes::new();
        if request.is_push() {
            begun = push::take(&mut request, &mut body, self.patience).await?;
        }
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(Refusal::failed)?;
        let bodiless = request.method == "HEAD";
        let mut daemon = self.daemon.open().await.map_err(Refusal::failed)?;
        // Its head is no longer than its body's limit: `check` holds what is in it to less.
        let most = MAX_REQUEST.saturating_add(16);
        frame::write(&mut daemon, &DoorOpens::Egress(request), most).await.map_err(Refusal::failed)?;
        let (from, to) = tokio::io::split(daemon);
        let sending: Sending = match length {
            // The half stays open: that says that somebody waits.
            BodyLength::None => Box::pin(idle(to)),
            BodyLength::Known(_) | BodyLength::Unknown => Box::pin(send(begun, body, to, self.patience)),
        };
        let exchange = Exchange { from, sending, _room: room };
        exchange.respond(bodiless).await
    }
}

/// Sends a request's body and then holds the stream open. It ends only by an error.
type Sending = Pin<Box<dyn Future<Output = BodyFault> + Send>>;

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
        tokio::select! {
            // First: what the daemon has said counts, whatever became of the body.
            biased;
            answer = answer => answer.map_err(Refusal::failed),
            fault = sending => Err(fault.into()),
        }
    }
}

async fn idle(_to: WriteHalf<Stream>) -> BodyFault {
    std::future::pending().await
}

/// Passes a body on, whose first bytes were taken already, in pieces, without its trailers.
async fn send(begun: Bytes, mut body: Incoming, mut to: WriteHalf<Stream>, patience: Duration) -> BodyFault {
    let mut data = begun;
    loop {
        for piece in data.chunks(CHUNK) {
            if frame::write(&mut to, &EgressBody::Bytes(piece.to_vec()), CHUNK_FRAME).await.is_err() {
                // The daemon wants no more of it; its answer says why.
                return idle(to).await;
            }
        }
        match next(&mut body, patience).await {
            Ok(Some(next)) => data = next,
            Ok(None) => break,
            Err(fault) => return fault,
        }
    }
    // A daemon that has hung up is heard of where its answer is read.
    drop(frame::write(&mut to, &EgressBody::End, CHUNK_FRAME).await);
    idle(to).await
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
