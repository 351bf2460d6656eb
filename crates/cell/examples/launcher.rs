//! A launcher for tests of the cell alone: the hidden command `jail`, a `door` that only relays bytes, and `host`, a
//! daemon that starts one cell and can be killed.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("jail") => cell::jail_main(),
        Some("door") => door().expect("the relay failed"),
        _ => std::process::exit(64),
    }
}

/// Copies between the channel and the daemon until the channel ends.
fn door() -> std::io::Result<()> {
    let channel = UnixStream::from(sys::descriptors::inherited(3)?);
    let daemon = UnixStream::from(sys::descriptors::inherited(4)?);
    let (channel_in, daemon_out) = (channel.try_clone()?, daemon.try_clone()?);
    std::thread::spawn(move || {
        // Either end may go first: the copy ends then, and that is all it can do.
        drop(copy(&daemon, &channel));
    });
    drop(copy(&channel_in, &daemon_out));
    daemon_out.shutdown(Shutdown::Write)
}

fn copy(mut from: &UnixStream, mut to: &UnixStream) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(buffer.get(..read).unwrap_or_default())?,
        }
    }
}
