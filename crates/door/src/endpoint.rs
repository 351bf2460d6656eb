//! What the endpoints share: HTTP/1.1 on one stream of the guest, and bodies that are read whole once there is room.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::mux::Stream;

use crate::DoorLimits;
use crate::stalling::Stalling;

/// Most header fields of a request.
const MAX_HEADERS: usize = 64;
/// Most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long a program may go on writing to a connection that has been answered for the last time.
const LINGER: Duration = Duration::from_secs(30);
/// How much of that is taken.
const LINGER_BYTES: u64 = 64 << 20;

/// Serves one connection to its end. What is wrong with it concerns its own program only.
pub(crate) async fn serve<F, A, B>(connection: Stream, limits: &DoorLimits, answer: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(Stalling::new(connection, limits.stall));
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let served = http1(limits).serve_connection(io, service).without_shutdown().await;
    match served {
        Ok(parts) => linger(parts.io.into_inner()).await,
        Err(error) => tracing::debug!(%error, "a connection ended early"),
    }
}

/// HTTP/1.1 with the bounds that hold for every program.
pub(crate) fn http1(limits: &DoorLimits) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(limits.http_head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    http1
}

/// Says that there is no more to come, then takes what the program still sends and nobody wants, such as a body that was
/// too large to begin with. A program that is still writing would otherwise not get to read why.
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut connection: S) {
    if connection.shutdown().await.is_err() {
        return;
    }
    let mut rest = connection.take(LINGER_BYTES);
    // What fails here has failed for the program too, or is cut off.
    drop(tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await);
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the body is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    #[error("the body took too long to arrive")]
    Slow,
    #[error("the body is not UTF-8")]
    NotText,
    #[error("the door is closing")]
    Closing,
}

impl BodyFault {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::NotText => StatusCode::BAD_REQUEST,
            Self::Closing => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Reads the bodies of all endpoints: so many bytes are held at once, and more requests wait.
#[derive(Clone)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    total: u32,
    patience: Duration,
}

impl Bodies {
    pub(crate) fn new(limits: &DoorLimits) -> Self {
        let room = Arc::new(Semaphore::new(limits.bodies as usize));
        Self { room, total: limits.bodies, patience: limits.http_body }
    }

    /// Reads a body of at most `max` bytes once there is room for it. The room is given back with the permit.
    pub(crate) async fn read(
        &self,
        body: Incoming,
        max: usize,
    ) -> Result<(OwnedSemaphorePermit, String), BodyFault> {
        let announced = body.size_hint().exact().unwrap_or(max as u64);
        if announced > max as u64 {
            return Err(BodyFault::TooLarge(max));
        }
        let room = u32::try_from(announced).unwrap_or(u32::MAX).min(self.total);
        let room =
            Arc::clone(&self.room).acquire_many_owned(room).await.map_err(|_closed| BodyFault::Closing)?;
        let body = tokio::time::timeout(self.patience, Limited::new(body, max).collect())
            .await
            .map_err(|_elapsed| BodyFault::Slow)?
            .map_err(|_| BodyFault::TooLarge(max))?;
        let body = String::from_utf8(body.to_bytes().into()).map_err(|_| BodyFault::NotText)?;
        Ok((room, body))
    }
}
