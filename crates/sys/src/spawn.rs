//! Starting a program as the leader of its own session, clean of what its starter did with signals.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::libc;

/// Starts the program in a session and process group of its own, with no signal blocked. With `terminal`, its standard
/// input becomes its controlling terminal.
///
/// # Errors
/// As [`Command::spawn`].
pub fn leader(command: &mut Command, terminal: bool) -> io::Result<Child> {
    // SAFETY: the closure runs between fork and exec and calls only functions that are async-signal-safe: no
    // allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            own_session(terminal)?;
            unblock_signals()
        });
    }
    command.spawn()
}

fn own_session(terminal: bool) -> io::Result<()> {
    // SAFETY: setsid takes nothing.
    nix::errno::Errno::result(unsafe { libc::setsid() })?;
    if terminal {
        // SAFETY: TIOCSCTTY takes an integer; descriptor 0 is what the caller gave as standard input.
        nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
    }
    Ok(())
}

fn unblock_signals() -> io::Result<()> {
    // SAFETY: an all-zero sigset_t is a valid one, which sigemptyset then fills in; both pointers outlive the calls.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    nix::errno::Errno::result(result).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_leader_has_a_session_of_its_own_and_no_blocked_signals() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cut -d' ' -f1,5,6 /proc/$$/stat; grep SigBlk /proc/self/status"]);
        let child = leader(command.stdout(Stdio::piped()), false).unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("{pid} {pid} {pid}\nSigBlk:\t0000000000000000\n"));
    }
}
