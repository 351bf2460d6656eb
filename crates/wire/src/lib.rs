//! What guest, door process and daemon say to each other, and every parser of ours that sees a guest's bytes.
//!
//! ```text
//! guest (PID 1) ══ virtio-serial channel ══▶ door process ══ socket pair ══▶ daemon
//!               early, then a mux of streams               a mux of streams
//! ```
//! Both legs carry [`mux`] streams. Each stream opens with one head frame ([`guest`] on the channel, [`host`] on the
//! socket pair), then frames or raw bytes as the head says. The door decodes and encodes anew whatever passes it.

pub mod early;
pub mod egress;
pub mod frame;
mod gathered;
pub mod git;
pub mod guest;
pub mod host;
pub mod json;
pub mod model;
pub mod mux;
pub mod process;
pub mod tools;
