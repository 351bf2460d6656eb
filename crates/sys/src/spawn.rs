//! Starting a program as the leader of its own session, clean of what its starter did with signals.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::libc;

/// How a leader differs from its starter, besides its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leader {
    /// Its standard input becomes its controlling terminal.
    pub terminal: bool,
    /// Where memory runs out, it and what it starts are killed before the starter.
    pub killed_first: bool,
}

/// Starts the program in a session and process group of its own, with no signal blocked.
///
/// # Errors
/// As [`Command::spawn`].
pub fn start(command: &mut Command, leader: Leader) -> io::Result<Child> {
    // SAFETY: the closure runs between fork and exec and calls only functions that are async-signal-safe: no
    // allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            own_session(leader.terminal)?;
            unblock_signals()?;
            if leader.killed_first { offer_to_be_killed() } else { Ok(()) }
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

/// Adds three tenths of the memory to what the kernel believes that this process uses, when it looks for a victim.
fn offer_to_be_killed() -> io::Result<()> {
    // SAFETY: takes integers. A process that hides its memory, as its starter may do, doesn't own its files in /proc;
    // it is about to become a program that does.
    nix::errno::Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })?;
    let score = b"300";
    // SAFETY: the path is a C string; open takes no other pointer.
    let file = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    let file = nix::errno::Errno::result(file)?;
    // SAFETY: the bytes outlive the call; the descriptor was just opened and is closed once, after its last use.
    let written = unsafe {
        let written = libc::write(file, score.as_ptr().cast(), score.len());
        libc::close(file);
        written
    };
    nix::errno::Errno::result(written).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_leader_has_a_session_of_its_own_and_no_blocked_signals() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cut -d' ' -f1,5,6 /proc/$$/stat; grep SigBlk /proc/self/status"]);
        let child = start(command.stdout(Stdio::piped()), Leader::default()).unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("{pid} {pid} {pid}\nSigBlk:\t0000000000000000\n"));
    }

    #[test]
    fn who_is_to_be_killed_first_says_so() {
        let mut command = Command::new("/bin/cat");
        command.arg("/proc/self/oom_score_adj").stdout(Stdio::piped());
        let child = start(&mut command, Leader { killed_first: true, ..Leader::default() }).unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"300\n");
    }
}
