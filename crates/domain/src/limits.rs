//! What a session may use up. Every limit has a value, but that of money, which not every model costs: tokens are limited
//! anyway.

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Span, UsdMicros};

/// The limits of one session and its cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of the micro VM; the container gets what its kernel leaves.
    pub memory: ByteSize,
    /// Virtual processors, 1 to 16.
    pub cpus: u8,
    /// Size of the agent's own disk.
    pub disk: ByteSize,
    /// Processes and threads in the container at once.
    pub pids: u32,
    /// Wall-clock time from the start of the session.
    pub wall_clock: Span,
    /// Bytes that the session may print, standard output and error together.
    pub output: ByteSize,
    /// Model tokens, input and output together, cached ones included.
    pub tokens: u64,
    /// The same of all its sessions of one day, counted from midnight UTC.
    pub tokens_per_day: u64,
    /// What all its sessions of one day may cost, where that is limited: models without a known price are then refused.
    #[serde(default)]
    pub usd_per_day: Option<UsdMicros>,
}

impl Limits {
    /// Each with its key in an agent file, for people.
    #[must_use]
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let Self { memory, cpus, disk, pids, wall_clock, output, tokens, tokens_per_day, usd_per_day } = self;
        let usd = usd_per_day.map_or_else(|| "not limited".to_owned(), |usd| usd.to_string());
        vec![
            ("memory", memory.to_string()),
            ("cpus", cpus.to_string()),
            ("disk", disk.to_string()),
            ("pids", pids.to_string()),
            ("wall_clock", wall_clock.to_string()),
            ("output", output.to_string()),
            ("tokens", tokens.to_string()),
            ("tokens_per_day", tokens_per_day.to_string()),
            ("usd_per_day", usd),
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(512),
            cpus: 1,
            disk: ByteSize::mib(4096),
            pids: 256,
            wall_clock: Span::seconds(3600),
            output: ByteSize::mib(64),
            tokens: 2_000_000,
            tokens_per_day: 20_000_000,
            usd_per_day: None,
        }
    }
}
