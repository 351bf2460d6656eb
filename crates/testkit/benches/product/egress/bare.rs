//! A proxy that does nothing but what all of them have to: it ends TLS, and begins it anew. What is over that is what looking,
//! deciding and writing down cost.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::client::Way;
use super::origin::Authority;
use crate::Result;

/// Bytes taken at a time.
const PIECE: usize = 64 << 10;

/// The proxy. Dropping it ends it.
pub struct Bare {
    pub port: u16,
    /// Who vouches for the certificate that it shows, as PEM.
    pub vouches: String,
    _serving: JoinSet<()>,
}

impl Bare {
    /// One that goes to the origin this way.
    pub async fn start(straight: Way) -> Result<Self> {
        let authority = Authority::new()?;
        let acceptor = authority.acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, straight) = (acceptor.clone(), straight.clone());
                connections.spawn(async move { drop(relay(connection, &acceptor, &straight).await) });
            }
        });
        Ok(Self { port, vouches: authority.certificate, _serving: serving })
    }
}

async fn relay(mut connection: TcpStream, acceptor: &TlsAcceptor, straight: &Way) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await?);
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut inside = acceptor.accept(connection).await?;
    let mut outside = straight.stream().await?;
    copy_bidirectional_with_sizes(&mut inside, &mut outside, PIECE, PIECE).await?;
    Ok(())
}
