//! The door process: it alone parses what comes from a guest, and hands the daemon bounded, typed requests.
//!
//! ```text
//! guest ══ channel (descriptor 3) ══▶ door ══ socket pair (descriptor 4) ══▶ daemon
//! ```
//! One per cell, jailed, without secrets, files or network. It gives the guest its birth, then relays streams both
//! ways, decoding and encoding anew whatever passes; it speaks HTTP, and MCP over it, with the guest's programs
//! and turns each model request and tool call into a [`wire::host::DoorOpens`]. A guest that breaks a rule of the channel is cut off with a reason, and the door ends:
//! one cell is lost. What the guest's *programs* say (HTTP, archives) is refused where it is wrong; only the guest's
//! own side of the channel can break its rules.
//!
//! To add a service: name it in [`wire::guest::GuestOpens`], give it a module beside `model`, and open it in `door`.

mod birth;
mod control;
mod door;
mod egress;
mod endpoint;
mod files;
mod frames;
mod limits;
mod model;
mod process;
mod refusal;
mod stalling;
#[cfg(test)]
mod tests;
mod tools;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

pub use door::{CutOff, DoorError, serve};
pub use limits::DoorLimits;

/// The descriptor that holds the guest's channel.
pub const CHANNEL_FD: i32 = 3;
/// The descriptor that holds the socket pair to the daemon.
pub const DAEMON_FD: i32 = 4;

/// The whole life of a door process. Inherits its two descriptors, and opens nothing. Why it failed is on standard
/// error; the daemon has been told on the control stream.
#[must_use]
pub fn run() -> ExitCode {
    match run_inherited() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lazaret door: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_inherited() -> Result<(), DoorError> {
    let inherited = |number| sys::descriptors::inherited(number).map(UnixStream::from);
    let (channel, daemon) = (inherited(CHANNEL_FD)?, inherited(DAEMON_FD)?);
    channel.set_nonblocking(true)?;
    daemon.set_nonblocking(true)?;
    // One thread: a jailed process needs no more, and a filter may forbid to make another.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let channel = tokio::net::UnixStream::from_std(channel)?;
        let daemon = tokio::net::UnixStream::from_std(daemon)?;
        serve(channel, daemon, DoorLimits::default()).await
    })
}
