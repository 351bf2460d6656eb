//! How much patience and room a guest gets.

use std::time::Duration;

use tokio::time::Instant;

/// The limits of one door. The defaults are for emulated machines on a busy host: each is far above what a guest that
/// means well needs.
#[derive(Debug, Clone, Copy)]
pub struct DoorLimits {
    /// From the birth to the answer that it is done, a cold boot included.
    pub birth: Duration,
    /// From the container's description to the answer that it stands.
    pub configure: Duration,
    /// From the first byte of a frame to its last.
    pub frame: Duration,
    /// How long a running guest may say nothing at all although it was asked how it is.
    pub silence: Duration,
    /// From the start of a connection, or the end of its last answer, to the end of the next request's head; with HTTP/2, from
    /// its last sign of life to the next one, where none can come in the middle of a head.
    pub http_head: Duration,
    /// From the end of a request's head to the end of its body; of one that leaves, to its next piece, whatever its length.
    pub http_body: Duration,
    /// How long a guest may leave bytes untaken, or let an archive wait.
    pub stall: Duration,
    /// Between two signs of life in an answer of the tools' endpoint that takes its time.
    pub keep_alive: Duration,
    /// Connections to the endpoints that are served at once; more are closed at once.
    pub connections: usize,
    /// Connections in ten seconds that may be closed so.
    pub turned_away: u32,
    /// Bytes of request bodies that are held at once; more requests wait.
    pub bodies: u32,
    /// Control frames that a guest may send in ten seconds.
    pub chatter: u32,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            birth: Duration::from_secs(240),
            configure: Duration::from_secs(180),
            frame: Duration::from_secs(60),
            silence: Duration::from_secs(180),
            http_head: Duration::from_secs(90),
            http_body: Duration::from_secs(120),
            stall: Duration::from_secs(300),
            keep_alive: Duration::from_secs(15),
            connections: 64,
            turned_away: 1024,
            bodies: 32 << 20,
            chatter: 256,
        }
    }
}

/// The span over which events are counted.
const SPAN: Duration = Duration::from_secs(10);

/// Counts events, and tells when there are too many within ten seconds.
#[derive(Debug)]
pub(crate) struct Rate {
    limit: u32,
    since: Instant,
    count: u32,
}

impl Rate {
    /// Allows so many events.
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, since: Instant::now(), count: 0 }
    }

    /// Counts one event. Whether it is one too many.
    pub(crate) fn is_passed(&mut self) -> bool {
        if self.since.elapsed() > SPAN {
            *self = Self::new(self.limit);
        }
        self.count = self.count.saturating_add(1);
        self.count > self.limit
    }
}
