//! A file that the kernel reports ready, such as the channel, a terminal or a socket, as an asynchronous stream.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A file that never blocks.
pub(crate) struct AsyncFile(AsyncFd<File>);

impl AsyncFile {
    /// Takes the file over. Only within a Tokio runtime.
    ///
    /// # Errors
    /// When it is of a kind that the kernel can't report ready.
    pub(crate) fn new(file: impl Into<File>) -> io::Result<Self> {
        let file = file.into();
        let flags = OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL)?) | OFlag::O_NONBLOCK;
        fcntl(file.as_fd(), FcntlArg::F_SETFL(flags))?;
        #[expect(
            deprecated,
            reason = "a `File` keeps its one descriptor open, which is all that `register` asks for"
        )]
        AsyncFd::new(file).map(Self)
    }

    /// Tries whenever the file is writable, until the operation no longer would block.
    pub(crate) async fn when_writable<T>(
        &self,
        mut operation: impl FnMut(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.0.writable().await?;
            if let Ok(done) = guard.try_io(|fd| operation(fd.get_ref())) {
                return done;
            }
        }
    }

    /// Tries whenever the file is readable, until the operation no longer would block.
    pub(crate) async fn when_readable<T>(
        &self,
        mut operation: impl FnMut(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(done) = guard.try_io(|fd| operation(fd.get_ref())) {
                return done;
            }
        }
    }
}

impl AsyncRead for AsyncFile {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            if let Ok(read) = guard.try_io(|fd| fd.get_ref().read(room)) {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for AsyncFile {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|fd| fd.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
