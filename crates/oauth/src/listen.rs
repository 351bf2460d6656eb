//! Where the browser comes back to: one answer, to a question that only its own log-in knows, on this machine's loopback.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY};
use ::http::{Method, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest::{SHA256, digest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::OauthError;
use crate::back::{Back, State};

/// Bytes of a digest that tell issuers apart.
const APART: usize = 8;
/// How long a person has.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long one connection may last, and how many there are at once.
const CONNECTION: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 16;
/// Most bytes of a request.
const MAX_REQUEST: usize = 16 << 10;
/// How long the browser is given to read that it is done.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where browsers may be sent back to on this machine.
#[derive(Debug)]
pub(crate) struct Redirect {
    /// What this machine is called there.
    pub(crate) host: &'static str,
    /// The ports that may be used, in order; 0: any.
    pub(crate) ports: &'static [u16],
    pub(crate) path: &'static str,
}

/// What servers are asked for that let any port be used (RFC 8252).
pub(crate) static LOOPBACK: Redirect = Redirect { host: "127.0.0.1", ports: &[0], path: "/callback" };

/// Listens.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    /// Host and port, as a browser says them.
    here: String,
    path: String,
}

/// What is waited for.
struct Awaited {
    here: String,
    path: String,
    state: State,
    /// Takes one answer.
    tell: mpsc::Sender<Back>,
}

impl Listener {
    /// For a client that is registered for this log-in, below a path of this issuer's own: one that another registered does not
    /// lead here. Another client comes back where it always does.
    pub(crate) async fn bind(at: &Redirect, issuer: Option<&String>) -> Result<Self, OauthError> {
        let addresses: Vec<_> = at.ports.iter().map(|&port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        let failed = |error: std::io::Error| match at.ports {
            [0] => OauthError::Host(format!("nothing can listen here: {error}")),
            ports => OauthError::Ports { ports: ports.to_vec(), why: error.to_string() },
        };
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let path = issuer.map_or_else(
            || at.path.to_owned(),
            |issuer| {
                let digest = digest(&SHA256, issuer.as_bytes());
                let apart = digest.as_ref().get(..APART).unwrap_or_default();
                format!("{}/{}", at.path, URL_SAFE_NO_PAD.encode(apart))
            },
        );
        Ok(Self { listener, here: format!("{}:{port}", at.host), path })
    }

    /// Where browsers are sent.
    pub(crate) fn uri(&self) -> String {
        format!("http://{}{}", self.here, self.path)
    }

    /// Waits for the browser that knows the state. Others are told to go away.
    pub(crate) async fn wait(self, state: &State) -> Result<Back, OauthError> {
        let (tell, mut told) = mpsc::channel(1);
        let awaited = Arc::new(Awaited { here: self.here, path: self.path, state: state.clone(), tell });
        let mut connections = JoinSet::new();
        let end = tokio::time::sleep(PATIENCE);
        tokio::pin!(end);
        let back = loop {
            tokio::select! {
                Some(back) = told.recv() => break back,
                Ok((stream, _)) = self.listener.accept(), if connections.len() < AT_ONCE => {
                    connections.spawn(tokio::time::timeout(CONNECTION, serve(stream, Arc::clone(&awaited))));
                }
                Some(_ended) = connections.join_next() => {}
                () = &mut end => return Err(late()),
            }
        };
        // Nobody is heard any more.
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // Whoever hasn't read it by then has only missed a kind word.
        drop(tokio::time::timeout(LAST_WORDS, all).await);
        Ok(back)
    }
}

/// Nobody came.
pub(crate) fn late() -> OauthError {
    OauthError::Late { minutes: PATIENCE.as_secs() / 60, last: None }
}

async fn serve(stream: TcpStream, awaited: Arc<Awaited>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &awaited);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // Whatever a stranger does with a connection is nothing to tell.
    drop(served);
}

fn answer(request: &Request<Incoming>, awaited: &Awaited) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let mut hosts = request.headers().get_all(HOST).iter();
    let named_here = hosts.next().is_some_and(|host| host.as_bytes() == awaited.here.as_bytes());
    // A page that leads here under another name (rebinding) is a stranger.
    if !named_here || hosts.next().is_some() || uri.authority().is_some() {
        return said(StatusCode::MISDIRECTED_REQUEST, "This is another host.");
    }
    if request.method() != Method::GET || uri.path() != awaited.path {
        return said(StatusCode::NOT_FOUND, "There is nothing here.");
    }
    let Some(back) = awaited.state.read(uri.query().unwrap_or_default()) else {
        return said(StatusCode::BAD_REQUEST, "This is no log-in that was begun here.");
    };
    match awaited.tell.try_send(back) {
        Ok(()) => said(StatusCode::OK, "Lazaret goes on at the terminal. You can close this window."),
        Err(_full) => said(StatusCode::GONE, "This log-in was used already."),
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
