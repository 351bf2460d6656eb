//! How much patience and room a guest gets.

use std::time::Duration;

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
    /// From the start of a connection, or the end of its last answer, to the end of the next request's head.
    pub http_head: Duration,
    /// From the end of a request's head to the end of its body.
    pub http_body: Duration,
    /// How long a guest may leave bytes untaken, or let an archive wait.
    pub stall: Duration,
    /// Connections to the model endpoint that are served at once; more are closed at once.
    pub connections: usize,
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
            connections: 64,
            bodies: 32 << 20,
            chatter: 256,
        }
    }
}
