//! The way out: connections by the one dialer, HTTP over them, and what is the organisation's own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dial::{DialError, Dialer, Stream, TlsStream};
use domain::HostPattern;
use futures::stream::BoxStream;
use http::Uri;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use oauth::Lender;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;
use wire::egress::MAX_ANSWER;

use super::Gone;

/// How long a connection is kept that nobody uses, and how many of one host.
const IDLE: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 8;
/// Most header fields of an answer.
const MAX_FIELDS: usize = 128;

/// The body of a request, as it is sent.
pub(super) type Sent = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Cut>>>>;

/// The client of one session: its connections are shared with no other.
pub(super) type Http = Client<Dial, Sent>;

/// Why a body ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    /// The program went away.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// It is longer than it may be.
    #[error("the body is longer than it may be")]
    TooLong,
}

/// What bounds an exchange with a server.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Between two pieces of the request's body, and from its end to the head of the answer.
    pub head: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// Bytes of an answer.
    pub answer: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head: Duration::from_secs(300), idle: Duration::from_secs(300), answer: 16 << 30 }
    }
}

/// How requests leave this host.
#[derive(Clone)]
pub struct Outside {
    /// Makes the connections.
    pub dialer: Dialer,
    /// The organisation's own hosts.
    pub own: Arc<[HostPattern]>,
    /// Who lends the secrets that may be added; none: there is no vault.
    pub lender: Option<Arc<Lender>>,
    /// What bounds an exchange.
    pub bounds: Bounds,
}

impl Outside {
    pub(super) fn is_own(&self, host: &str) -> bool {
        self.own.iter().any(|own| own.names(host))
    }

    /// A client that follows no redirect, keeps no cookie and unpacks nothing: what comes back is passed on as it is.
    pub(super) fn client(&self) -> Http {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_ANSWER)
            .http1_max_headers(MAX_FIELDS)
            .http2_max_header_list_size(u32::try_from(MAX_ANSWER).unwrap_or(u32::MAX))
            .build(Dial(self.dialer.for_one()))
    }
}

/// Connects for hyper.
#[derive(Clone)]
pub(super) struct Dial(Dialer);

impl Service<Uri> for Dial {
    type Response = TokioIo<Dialed>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dialer = self.0.clone();
        Box::pin(async move {
            let host = to.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let secure = to.scheme() != Some(&http::uri::Scheme::HTTP);
            let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let dialed = if secure {
                Dialed::Tls(Box::new(dialer.https(&host, port).await?))
            } else {
                Dialed::Plain(dialer.connect(&host, port).await?)
            };
            Ok(TokioIo::new(dialed))
        })
    }
}

/// A connection that the dialer made.
pub(super) enum Dialed {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        let http2 = match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        if http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for Dialed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
