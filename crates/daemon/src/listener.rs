//! Who may connect: the people of this installation, by the kernel's word (SO_PEERCRED), whatever the socket's mode.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;
/// How long to wait when the system has no descriptor left.
const BREATHE: Duration = Duration::from_millis(100);

/// A listener that turns strangers away.
#[derive(Debug)]
pub(crate) struct People {
    listener: UnixListener,
    known: watch::Receiver<BTreeSet<u32>>,
    room: Arc<Semaphore>,
}

impl People {
    /// Lets in who has one of these uids.
    pub(crate) fn new(listener: UnixListener, known: watch::Receiver<BTreeSet<u32>>) -> Self {
        Self { listener, known, room: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    async fn next(&self) -> io::Result<Option<(Connection, SocketAddr)>> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, address) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        if !self.known.borrow().contains(&peer.uid()) {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "a stranger was turned away");
            return Ok(None);
        }
        Ok(Some((Connection { stream, uid: peer.uid(), _room: room }, address)))
    }
}

impl Listener for People {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.next().await {
                Ok(Some(accepted)) => return accepted,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATHE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection, and its place among those allowed.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    uid: u32,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// The user at the other end.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use tokio::io::AsyncWriteExt as _;

    /// What the test runs as another user: this same test, told by a variable to connect only.
    const AS_STRANGER: &str = "LAZARET_TEST_CONNECT_TO";

    #[tokio::test]
    async fn a_stranger_is_turned_away_and_people_are_let_in() {
        if let Some(socket) = std::env::var_os(AS_STRANGER) {
            let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
            let mut byte = [0];
            // The end without a byte: turned away.
            let turned_away = matches!(std::io::Read::read(&mut stream, &mut byte), Ok(0) | Err(_));
            std::process::exit(if turned_away { 77 } else { 0 });
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can try as another user");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        // As if every protection of the file system had failed.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let socket = folder.path().join("s");
        let (_keep, known) = watch::channel([0, 61_997].into());
        let mut listener = People::new(UnixListener::bind(&socket).unwrap(), known);
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await;
                connection.write_all(b"x").await.unwrap();
            }
        });
        let program = folder.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let try_as = |uid: u32| {
            let mut command = Command::new(&program);
            command.args(["--exact", "listener::tests::a_stranger_is_turned_away_and_people_are_let_in"]);
            command.env(AS_STRANGER, &socket).uid(uid).gid(uid);
            tokio::task::spawn_blocking(move || command.status().unwrap().code())
        };
        assert_eq!(try_as(65_534).await.unwrap(), Some(77));
        assert_eq!(try_as(0).await.unwrap(), Some(0));
        assert_eq!(try_as(61_997).await.unwrap(), Some(0));
        server.abort();
    }
}
