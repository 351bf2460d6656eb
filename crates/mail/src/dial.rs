//! The way to a mail server, which the caller owns: whom one may reach, and whose certificates are believed.

use std::fmt::Debug;
use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin> Stream for S {}

/// Opens connections.
pub trait Dial: Send + Sync {
    /// Connects.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Begins TLS on a connection, with a certificate that must name this host.
    fn secure<'a>(
        &'a self,
        host: &'a str,
        stream: Box<dyn Stream>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}
