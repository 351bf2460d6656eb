//! The egress proxy: HTTP as programs speak it to a proxy, in the clear and in TLS that ends here, turned into typed
//! requests; answers stream back.
//!
//! ```text
//! program ── GET http://host/… ──────────────────▶ request ▶ exchange ── EgressRequest, body ──▶ daemon
//!         ── CONNECT host:443 ── TLS ── GET /… ──▶
//! ```
//! Nothing is forwarded: each request is written anew, in its one canonical form ([`wire::egress`]). Whatever is no HTTP
//! request (other protocols after CONNECT, upgrades) is refused. The keys of the certificates that are shown here are no
//! secrets: only this installation's cells trust their issuer, and what they protect ends in this process.

mod exchange;
mod leaf;
mod push;
mod refusal;
mod request;
mod rewound;
mod tunnel;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use wire::egress::Scheme;
use wire::egress::url::Authority;
use wire::mux::{Opener, Stream};

use crate::DoorLimits;
use crate::endpoint;
use crate::stalling::Stalling;

use exchange::Exchanges;
use leaf::Leaves;
use refusal::Refusal;
use rewound::Rewound;
use tunnel::Tunnel;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Serves the connections of one guest.
#[derive(Clone)]
pub(crate) struct EgressEndpoint {
    exchanges: Exchanges,
    leaves: Leaves,
    limits: DoorLimits,
}

impl EgressEndpoint {
    pub(crate) fn new(daemon: Opener, limits: DoorLimits) -> Self {
        Self { exchanges: Exchanges::new(daemon.clone(), limits), leaves: Leaves::new(daemon), limits }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self, connection: Stream) {
        let io = TokioIo::new(Stalling::new(connection, self.limits.stall));
        let opened = Mutex::new(None);
        let service = service_fn(|request| {
            let answered = self.answer(request, &opened);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let served = endpoint::http1(&self.limits).serve_connection(io, service).without_shutdown().await;
        match served.map(|parts| (parts.read_buf, parts.io.into_inner())) {
            Ok((read, connection)) => match opened.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(tunnel) => self.tunnel(tunnel, Rewound::new(read, connection)).await,
                None => endpoint::linger(connection).await,
            },
            Err(error) => tracing::debug!(%error, "a connection to the proxy ended early"),
        }
    }

    /// Answers a request to the proxy itself.
    async fn answer(&self, request: Request<Incoming>, opened: &Mutex<Option<Tunnel>>) -> Response<Body> {
        if request.method() != Method::CONNECT {
            return self.exchanges.answer(request, None).await;
        }
        match self.connect(&request).await {
            Ok(tunnel) => {
                *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
                Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    /// Looks at where a tunnel is to lead, and gets a certificate for it.
    async fn connect(&self, request: &Request<Incoming>) -> Result<Tunnel, Refusal> {
        let target = request.uri().authority().map_or("", http::uri::Authority::as_str);
        let authority = Authority::parse(target, Scheme::Https.usual_port()).map_err(Refusal::malformed)?;
        request::same_host(request.headers(), &authority, Scheme::Https)?;
        let tls = self.leaves.of(&authority.host).await?;
        Ok(Tunnel { authority, tls })
    }
}

/// Where the requests of a tunnel go: all to one server.
#[derive(Debug, Clone)]
struct Origin(Arc<OriginParts>);

#[derive(Debug)]
struct OriginParts {
    scheme: Scheme,
    authority: Authority,
    /// Another name that was asked for in TLS.
    misdirected: bool,
}
