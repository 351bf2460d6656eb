//! The channel before it is a mux: plain frames, question and answer, so that a template can be saved between two of
//! them. The host asks, the guest answers; after [`Answer::Born`] both sides start the [`crate::mux`].
//!
//! A cold boot: `Birth → Born`. A template: `Probe → Hello`, saved; each clone of it: `Birth → Born`.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// The version of everything in this crate. Guest and host must have the same: they come from one build.
pub const VERSION: u32 = 1;

/// What the host asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Are you there?
    Probe,
    /// Come to life: take the seed and the time, load the disks, then say so.
    Birth(Birth),
}

/// What makes one cell different from any other clone of its template. It is applied before anything else runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// Fresh random bytes of the host, credited to the kernel's pool, which is then reseeded.
    pub seed: ByteArray<64>,
    /// The time of day: nanoseconds since 1970.
    pub unix_nanos: u64,
    /// The machine id, random per cell.
    pub machine_id: ByteArray<16>,
    /// The host name inside the cell.
    pub host_name: String,
}

/// What the guest answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Probe`].
    Hello {
        /// [`VERSION`] of the guest.
        version: u32,
    },
    /// To [`Question::Birth`]: seeded, on time, image and disk mounted.
    Born {
        /// [`VERSION`] of the guest.
        version: u32,
        /// The kernel's boot id after the birth, for tests that compare clones.
        boot_id: String,
    },
    /// The birth failed; the guest powers off.
    Failed {
        /// What failed, for logs.
        why: String,
    },
}
