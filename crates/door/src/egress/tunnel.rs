//! What comes after CONNECT: HTTP in TLS that ends here, or HTTP in the clear. Anything else is refused.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use wire::egress::url::Authority;
use wire::egress::{MAX_HEADER_BYTES, Scheme};

use super::refusal::Refusal;
use super::rewound::Rewound;
use super::{EgressEndpoint, Origin, OriginParts};
use crate::endpoint;

/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 16;
/// Bytes of request bodies that a program may send before they are taken: of one request, and of all on a connection.
const WINDOW: u32 = 64 << 10;
const WINDOWS: u32 = 256 << 10;
/// Bytes of an answer that wait to be sent.
const SEND_BUFFER: usize = 64 << 10;
/// What HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The first byte of TLS: a handshake record.
const HANDSHAKE: u8 = 0x16;

/// Where a tunnel leads, and how its TLS ends.
pub(super) struct Tunnel {
    pub(super) authority: Authority,
    pub(super) tls: Arc<ServerConfig>,
}

impl EgressEndpoint {
    /// Serves a tunnel to its end.
    pub(super) async fn tunnel<S>(&self, tunnel: Tunnel, mut stream: Rewound<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Tunnel { authority, tls } = tunnel;
        let first = tokio::time::timeout(self.limits.http_head, stream.first()).await;
        match first {
            Ok(Ok(Some(HANDSHAKE))) => self.tls(authority, tls, stream).await,
            // A method. Some clients make tunnels for plain HTTP too.
            Ok(Ok(Some(b'A'..=b'Z'))) => {
                let origin = OriginParts { scheme: Scheme::Http, authority, misdirected: false };
                self.http1(Origin(Arc::new(origin)), stream).await;
            }
            Ok(Ok(Some(_))) => refuse(stream).await,
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }

    async fn tls<S>(&self, authority: Authority, tls: Arc<ServerConfig>, stream: Rewound<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let stream = match tokio::time::timeout(self.limits.http_head, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_elapsed) => return tracing::debug!("a TLS handshake took too long"),
        };
        let (_, session) = stream.get_ref();
        let h2 = session.alpn_protocol() == Some(b"h2");
        // A server that serves several names would answer for another than the one that is decided on.
        let misdirected = session.server_name().is_some_and(|name| name != authority.host);
        let origin = Origin(Arc::new(OriginParts { scheme: Scheme::Https, authority, misdirected }));
        if h2 { self.http2(origin, stream).await } else { self.http1(origin, stream).await }
    }

    async fn http1<S>(&self, origin: Origin, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let service = service_fn(|request| {
            let answered = self.exchanges.answer(request, Some(&origin));
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let served = endpoint::http1(&self.limits)
            .serve_connection(TokioIo::new(stream), service)
            .without_shutdown()
            .await;
        match served {
            Ok(parts) => endpoint::linger(parts.io.into_inner()).await,
            Err(error) => tracing::debug!(%error, "a connection in a tunnel ended early"),
        }
    }

    async fn http2<S>(&self, origin: Origin, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Hyper would wait for it without end.
        let mut preface = [0; PREFACE];
        match tokio::time::timeout(self.limits.http_head, stream.read_exact(&mut preface)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "a connection of HTTP/2 ended before it began"),
            Err(_elapsed) => return tracing::debug!("the beginning of HTTP/2 took too long"),
        }
        let stream = Rewound::new(Bytes::copy_from_slice(&preface), stream);
        let service = service_fn(|request| {
            let (exchanges, origin) = (self.exchanges.clone(), origin.clone());
            async move { Ok::<_, Infallible>(exchanges.answer(request, Some(&origin)).await) }
        });
        let (ask, answer) = self.alive();
        let served = http2::Builder::new(Tasks::default())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOWS)
            .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(ask)
            .keep_alive_timeout(answer)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection of HTTP/2 ended early");
        }
    }

    /// How long a connection of HTTP/2 may be silent until it is asked whether it is still there, and how long it may take to
    /// say so. It can't before a head that it has begun is at its end (section 4.3), so this is the time for heads, too.
    fn alive(&self) -> (Duration, Duration) {
        let ask = self.limits.http_head / 3;
        (ask, self.limits.http_head.saturating_sub(ask))
    }
}

/// Tells a program that speaks another protocol why nothing answers it, in case it shows what it reads.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: Rewound<S>) {
    let refusal = Refusal::new(StatusCode::BAD_REQUEST, "only HTTP leaves a cell, in TLS or in the clear");
    let text = refusal.text();
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    if stream.write_all(response.as_bytes()).await.is_ok() {
        endpoint::linger(stream).await;
    }
}

/// The requests of one connection, which end with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
