//! Many streams with flow control over one byte pipe: yamux behind a small face, so that it could be exchanged.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use crate::gathered::Gathered;

/// One stream: reads and writes bytes, ends like a socket.
pub type Stream = Compat<yamux::Stream>;

/// Which end of the pipe this is. Both may open streams; the two must differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end nearer to the daemon.
    Host,
    /// The end nearer to the agent.
    Guest,
}

/// How much a peer may ask for.
#[derive(Debug, Clone, Copy)]
pub struct MuxLimits {
    /// Streams open at once, both directions together.
    pub streams: usize,
    /// Streams that the peer opened and nobody has taken yet; one more and the pipe is cut.
    pub backlog: usize,
}

impl Default for MuxLimits {
    fn default() -> Self {
        Self { streams: 128, backlog: 32 }
    }
}

/// Bytes that yamux lets a peer send into a fresh stream before it is read.
const FIRST_WINDOW: usize = 256 * 1024;

/// Most bytes of one frame of the mux: a chunk of ours fits in one.
const FRAME: usize = 64 * 1024;

/// Why the pipe ended.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// The peer broke the protocol or one of its limits, or the pipe failed.
    #[error("the stream multiplexer ended: {0}")]
    Broken(String),
    /// The peer opened streams faster than they are served.
    #[error("the peer opened more than {0} streams that wait to be served")]
    Backlog(usize),
    /// The driver has ended; no stream can be opened.
    #[error("the channel is closed")]
    Closed,
}

/// Opens streams to the peer. Cheap to clone; the pipe closes in order when every one is gone.
#[derive(Debug, Clone)]
pub struct Opener(mpsc::Sender<oneshot::Sender<Result<Stream, MuxError>>>);

impl Opener {
    /// Opens a stream.
    ///
    /// # Errors
    /// When the pipe is closed or the limit of streams is reached.
    pub async fn open(&self) -> Result<Stream, MuxError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| MuxError::Closed)?;
        answer.await.map_err(|_| MuxError::Closed)?
    }
}

/// The streams that the peer opens, in order.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Stream>);

impl Incoming {
    /// The next stream; `None` once the pipe is closed.
    pub async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

/// Moves the bytes. One task owns it and runs it to its end.
pub struct Driver<Io> {
    connection: yamux::Connection<Compat<Gathered<Io>>>,
    limits: MuxLimits,
    requests: mpsc::Receiver<oneshot::Sender<Result<Stream, MuxError>>>,
    waiting: VecDeque<oneshot::Sender<Result<Stream, MuxError>>>,
    incoming: mpsc::Sender<Stream>,
    closing: bool,
}

/// A multiplexer over `io`: what opens streams, what receives them, and the driver that must run for either to work.
pub fn mux<Io>(io: Io, side: Side, limits: MuxLimits) -> (Opener, Incoming, Driver<Io>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = yamux::Config::default();
    // First no window at all: yamux holds each setting against the other one's value of that moment.
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(limits.streams);
    config.set_max_connection_receive_window(Some(
        limits.streams.saturating_mul(FIRST_WINDOW).saturating_mul(2),
    ));
    config.set_split_send_size(FRAME);
    let mode = match side {
        Side::Host => yamux::Mode::Client,
        Side::Guest => yamux::Mode::Server,
    };
    let (request, requests) = mpsc::channel(8);
    let (accept, accepted) = mpsc::channel(limits.backlog);
    let connection = yamux::Connection::new(Gathered::new(io).compat(), config, mode);
    let driver =
        Driver { connection, limits, requests, waiting: VecDeque::new(), incoming: accept, closing: false };
    (Opener(request), Incoming(accepted), driver)
}

impl<Io> Driver<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    /// Runs until the pipe ends. `Ok` when it was closed in order by either side.
    ///
    /// # Errors
    /// When the peer broke the protocol or a limit, or the pipe failed.
    pub async fn run(mut self) -> Result<(), MuxError> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), MuxError>> {
        loop {
            self.take_requests(context);
            if self.closing && self.waiting.is_empty() {
                return self.connection.poll_close(context).map_err(broken);
            }
            self.open_waiting(context)?;
            match self.connection.poll_next_inbound(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                Poll::Ready(Some(Ok(stream))) => match self.incoming.try_send(stream.compat()) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        return Poll::Ready(Err(MuxError::Backlog(self.limits.backlog)));
                    }
                    // Nobody serves streams here any more: the peer's stream is reset by dropping it.
                    Err(mpsc::error::TrySendError::Closed(stream)) => drop(stream),
                },
            }
        }
    }

    fn take_requests(&mut self, context: &mut Context<'_>) {
        while !self.closing && self.waiting.len() < self.limits.streams {
            match self.requests.poll_recv(context) {
                Poll::Ready(Some(request)) => self.waiting.push_back(request),
                Poll::Ready(None) => self.closing = true,
                Poll::Pending => break,
            }
        }
    }

    fn open_waiting(&mut self, context: &mut Context<'_>) -> Result<(), MuxError> {
        while !self.waiting.is_empty() {
            match self.connection.poll_new_outbound(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(stream)) => {
                    if let Some(reply) = self.waiting.pop_front() {
                        // The asker may have gone; its stream is then reset by dropping it.
                        drop(reply.send(Ok(stream.compat())));
                    }
                }
                Poll::Ready(Err(yamux::ConnectionError::TooManyStreams)) => {
                    if let Some(reply) = self.waiting.pop_front() {
                        drop(reply.send(Err(broken(yamux::ConnectionError::TooManyStreams))));
                    }
                }
                Poll::Ready(Err(error)) => return Err(broken(error)),
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function from error to error")]
fn broken(error: yamux::ConnectionError) -> MuxError {
    MuxError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn bytes_cross_in_both_directions_and_the_end_is_seen() {
        let (near, far) = duplex(4096);
        let (opener, _, driver) = mux(near, Side::Host, MuxLimits::default());
        let (_keep, mut incoming, far_driver) = mux(far, Side::Guest, MuxLimits::default());
        let near_task = tokio::spawn(driver.run());
        let far_task = tokio::spawn(far_driver.run());
        let echo = tokio::spawn(async move {
            let mut stream = incoming.next().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            stream.write_all(&got).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let sent = vec![7_u8; 1_000_000];
        let mut stream = opener.open().await.unwrap();
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let (_, got) = tokio::join!(
            async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            },
            async {
                let mut got = Vec::new();
                read.read_to_end(&mut got).await.unwrap();
                got
            }
        );
        assert_eq!(got, sent);
        echo.await.unwrap();
        drop(stream);
        drop(opener);
        near_task.await.unwrap().unwrap();
        far_task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_opens_too_many_streams_is_cut_off() {
        let (near, far) = duplex(1 << 20);
        let limits = MuxLimits { streams: 64, backlog: 4 };
        let (_keep, _incoming, driver) = mux(near, Side::Host, limits);
        let (opener, _, far_driver) = mux(far, Side::Guest, MuxLimits { streams: 20_000, backlog: 4 });
        let cut = tokio::spawn(driver.run());
        tokio::spawn(far_driver.run());
        let mut open = Vec::new();
        for _ in 0..10_000 {
            let Ok(mut stream) = opener.open().await else { break };
            if stream.write_all(b"x").await.is_err() {
                break;
            }
            open.push(stream);
        }
        assert!(cut.await.unwrap().is_err());
        assert!(open.len() < 10_000);
    }
}
