//! The server that all of them ask: HTTPS on loopback, with a small answer, a large one, and one at a line's pace.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::Result;

/// Bytes of the small answer.
const SMALL: usize = 1024;
/// Bytes of the large answer.
pub const LARGE: usize = 128 << 20;
/// Bytes of the one that comes at a pace, and the bytes of a second: those of a line of 1 Gbit/s.
pub const PACED: usize = 32 << 20;
const PACE: f64 = 125e6;
/// Bytes in which they come.
const PIECE: usize = 64 << 10;

/// An issuer of certificates, as PEM.
pub struct Authority {
    pub certificate: String,
    pub key: String,
    params: CertificateParams,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "bench");
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem(), params })
    }

    /// Who ends TLS as `localhost`.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let issuer = Issuer::new(self.params.clone(), KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The server. Dropping it ends it.
pub struct Origin {
    pub port: u16,
    /// Who vouches for it.
    pub authority: Authority,
    _serving: JoinSet<()>,
}

impl Origin {
    pub async fn start() -> Result<Self> {
        let authority = Authority::new()?;
        let acceptor = authority.acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, acceptor));
        Ok(Self { port, authority, _serving: serving })
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        drop(connection.set_nodelay(true));
        connections.spawn(async move {
            let Ok(connection) = acceptor.accept(connection).await else { return };
            let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
            let serving = hyper::server::conn::http1::Builder::new();
            drop(serving.serve_connection(TokioIo::new(connection), service).await);
        });
    }
}

fn answer(request: &Request<hyper::body::Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    static ZEROS: [u8; PIECE] = [0; PIECE];
    let piece = || Ok(Frame::data(Bytes::from_static(&ZEROS)));
    Response::new(match request.uri().path() {
        "/large" => StreamBody::new(stream::iter((0..LARGE / PIECE).map(move |_| piece()))).boxed_unsync(),
        "/paced" => {
            let start = Instant::now();
            let after = move |pieces: usize| Duration::from_secs_f64((pieces * PIECE) as f64 / PACE);
            let pieces = stream::iter(0..PACED / PIECE).then(move |so_far| async move {
                tokio::time::sleep_until(start + after(so_far)).await;
                piece()
            });
            StreamBody::new(pieces).boxed_unsync()
        }
        _ => Full::new(Bytes::from_static(&[b'x'; SMALL])).boxed_unsync(),
    })
}
