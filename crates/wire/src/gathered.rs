//! A byte pipe whose every call is dear, such as the channel of an emulated machine: what is written is gathered, and
//! what can be read is read ahead.
//!
//! A multiplexer writes a head, a body and perhaps a flush for each frame. Here they leave together, with all the other
//! frames that are ready, at the latest when there is nothing left to read but what has yet to arrive. So it is for a
//! user that reads whenever it has no more to write, as ours does, and for no other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, ReadBuf};

/// Bytes gathered, and bytes read ahead.
const ROOM: usize = 64 * 1024;

/// The pipe.
pub(crate) struct Gathered<Io>(BufWriter<BufReader<Io>>);

impl<Io: AsyncRead + AsyncWrite + Unpin> Gathered<Io> {
    /// Takes the pipe over.
    pub(crate) fn new(io: Io) -> Self {
        Self(BufWriter::with_capacity(ROOM, BufReader::with_capacity(ROOM, io)))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.get_ref().buffer().is_empty()
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.0).poll_flush(context)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    /// Left to the next read.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{MuxLimits, Side, mux};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// A pipe that counts what is written to it at once.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn frames_that_are_ready_leave_together() {
        let (near, far) = duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let near = Counted(near, Arc::clone(&writes));
        let (opener, _incoming, driver) = mux(near, Side::Host, MuxLimits::default());
        let (_keep, mut incoming, far_driver) = mux(far, Side::Guest, MuxLimits::default());
        let drivers = [tokio::spawn(driver.run()), tokio::spawn(far_driver.run())];
        let mut streams = Vec::new();
        for _ in 0..20 {
            streams.push(opener.open().await.unwrap());
        }
        let before = writes.load(Ordering::Relaxed);
        // This thread is the only one: the driver runs when all have written.
        for stream in &mut streams {
            stream.write_all(&[7; 100]).await.unwrap();
        }
        for _ in 0..20 {
            let mut got = [0; 100];
            incoming.next().await.unwrap().read_exact(&mut got).await.unwrap();
            assert_eq!(got, [7; 100]);
        }
        let took = writes.load(Ordering::Relaxed) - before;
        assert!(took <= 4, "{took} writes for 20 frames");
        drivers.iter().for_each(tokio::task::JoinHandle::abort);
    }

    /// Sends as much as it gets, both at once.
    async fn exchange(stream: crate::mux::Stream, bytes: usize) {
        let (mut from, mut to) = tokio::io::split(stream);
        let piece = vec![3; 50_000];
        let send = async {
            for _ in 0..bytes / piece.len() {
                to.write_all(&piece).await.unwrap();
            }
            to.shutdown().await.unwrap();
        };
        let receive = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await.unwrap() };
        let ((), got) = tokio::join!(send, receive);
        assert_eq!(got, bytes as u64);
    }

    #[tokio::test]
    async fn a_pipe_that_is_full_both_ways_goes_on() {
        const BYTES: usize = 4_000_000;
        let (near, far) = duplex(1000);
        let (opener, _incoming, driver) = mux(near, Side::Host, MuxLimits::default());
        let (_keep, mut incoming, far_driver) = mux(far, Side::Guest, MuxLimits::default());
        let drivers = [tokio::spawn(driver.run()), tokio::spawn(far_driver.run())];
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut stream = opener.open().await.unwrap();
            stream.write_all(b"!").await.unwrap();
            let mut other = incoming.next().await.unwrap();
            other.read_exact(&mut [0]).await.unwrap();
            tasks.spawn(exchange(stream, BYTES));
            tasks.spawn(exchange(other, BYTES));
        }
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done.unwrap()
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("the pipe stands still");
        drivers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
