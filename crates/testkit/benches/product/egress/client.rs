//! The client: HTTP/1.1 in TLS, to the origin itself or by `CONNECT` through a proxy, as programs in a cell do it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Result;

/// A way to the origin.
#[derive(Clone)]
pub struct Way {
    connector: TlsConnector,
    origin: u16,
    /// The proxy's port; none: straight.
    proxy: Option<u16>,
}

impl Way {
    /// To the origin on this port, whose certificate, or the proxy's in its place, this authority vouches for.
    pub fn new(origin: u16, proxy: Option<u16>, vouches: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(vouches.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), origin, proxy })
    }

    /// A connection that is kept.
    pub async fn open(&self) -> Result<Connection> {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.stream().await?)).await?;
        let driver = tokio::spawn(async { drop(connection.await) });
        Ok(Connection { sender, host: format!("localhost:{}", self.origin), driver })
    }

    /// TLS with the origin, or with the proxy as it.
    pub async fn stream(&self) -> Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.proxy.unwrap_or(self.origin))).await?;
        stream.set_nodelay(true)?;
        if self.proxy.is_some() {
            let target = format!("localhost:{}", self.origin);
            let wanted = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
            stream.write_all(wanted.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            if !head.starts_with(b"HTTP/1.1 200") {
                return Err(format!("the proxy said {}", String::from_utf8_lossy(&head)).into());
            }
        }
        Ok(self.connector.connect(ServerName::try_from("localhost")?, stream).await?)
    }
}

/// A connection to the origin.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Asks for a path, and reads the whole answer; its bytes.
    pub async fn get(&mut self, path: &str) -> Result<usize> {
        let request = hyper::Request::get(path).header("host", &self.host).body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if !response.status().is_success() {
            let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        let (mut body, mut count) = (response.into_body(), 0_usize);
        while let Some(frame) = body.frame().await {
            count += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(count)
    }
}
