//! The way to a mail server: whom one may reach and whose certificates are believed is the dialer's to say.

use std::fmt::Debug;
use std::io;

use dial::Dialer;
use domain::{Destination, HostPattern, NamedHost};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin> Stream for S {}

/// Opens connections to servers that the person named.
pub trait Dial: Send + Sync {
    /// Connects.
    fn connect<'a>(&'a self, to: &'a Destination) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Begins TLS on a connection, with a certificate that must name this server.
    fn secure<'a>(
        &'a self,
        to: &'a Destination,
        stream: Box<dyn Stream>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

impl Dial for Dialer {
    fn connect<'a>(&'a self, to: &'a Destination) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            // Whoever wrote the account named its servers.
            let host: HostPattern = written(to.host()).parse().map_err(io::Error::other)?;
            let dialer = self.naming(NamedHost { host, port: Some(to.port()) });
            let stream = dialer.connect(to.host(), to.port()).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn secure<'a>(
        &'a self,
        to: &'a Destination,
        stream: Box<dyn Stream>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            let stream = Dialer::secure(self, stream, to.host()).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }
}

/// A host as patterns write it: an IPv6 address in brackets.
fn written(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
