//! TLS of the services that the demo has outside: a certificate for one address, by an authority that nobody trusts who
//! wasn't told to.

use std::io::Error;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take to agree on TLS.
const PATIENCE: Duration = Duration::from_secs(5);

/// Accepts connections and agrees on TLS.
pub(crate) struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Listens at an address, at a port of the system's choice; also gives that port, and who vouches for it, as PEM.
    pub(crate) async fn listen(host: &str, what: &str) -> Result<(Self, u16, String), Error> {
        let (acceptor, authority) = certificate(host, what)?;
        let listener = TcpListener::bind((host, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok((Self { listener, acceptor }, port, authority))
    }

    /// The next client that agreed.
    pub(crate) async fn client(&mut self) -> (TlsStream<TcpStream>, std::net::SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // One at a time is enough here; whoever says nothing is let go of.
            if let Ok(Ok(stream)) = timeout(PATIENCE, self.acceptor.accept(stream)).await {
                return (stream, address);
            }
        }
    }
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.client().await
    }

    fn local_addr(&self) -> Result<Self::Addr, Error> {
        self.listener.local_addr()
    }
}

fn certificate(host: &str, what: &str) -> Result<(TlsAcceptor, String), Error> {
    let key = KeyPair::generate().map_err(Error::other)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(Error::other)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, what);
    let authority = params.self_signed(&key).map_err(Error::other)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().map_err(Error::other)?;
    let leaf = CertificateParams::new(vec![host.to_owned()]).map_err(Error::other)?;
    let leaf = leaf.signed_by(&key, &issuer).map_err(Error::other)?;
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority))
}
