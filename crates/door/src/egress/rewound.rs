//! A stream some of whose first bytes have been read already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What was read, and what is still to come.
pub(super) struct Rewound<S> {
    read: Bytes,
    rest: S,
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    pub(super) fn new(read: Bytes, rest: S) -> Self {
        Self { read, rest }
    }

    /// The first byte, which stays to be read. `None`: there is none and will be none.
    pub(super) async fn first(&mut self) -> io::Result<Option<u8>> {
        if self.read.is_empty() {
            // With what came along: a parser that sees a whole line at once can tell what is wrong with it.
            let mut first = [0_u8; 1024];
            let read = self.rest.read(&mut first).await?;
            self.read = Bytes::copy_from_slice(first.get(..read).unwrap_or_default());
        }
        Ok(self.read.first().copied())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, into);
        }
        let fits = self.read.len().min(into.remaining());
        let piece = self.read.split_to(fits);
        into.put_slice(piece.chunk());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }
}
