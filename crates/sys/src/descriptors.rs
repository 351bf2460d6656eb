//! File descriptors by number: those that a process inherits, and those that it leaves to the program it becomes.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Takes ownership of a descriptor that this process inherited by agreement on its number. It is closed on exec from
/// here on. Call it once per number, before anything else opens files.
///
/// # Errors
/// When the number isn't open, or is one of the standard streams.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::other(format!("descriptor {number} is a standard stream")));
    }
    // SAFETY: fcntl with F_SETFD on any number is harmless: it fails with EBADF where nothing is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (checked above) and was left to this process by the one that started it, so that
    // nothing in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts each descriptor at its number for the program that this process becomes next, and has every other one closed
/// on exec. Gives `keep` back, perhaps at another number; it too is closed on exec.
///
/// # Errors
/// When the kernel refuses; the process must then end.
pub fn arrange(fds: Vec<(OwnedFd, RawFd)>, keep: OwnedFd) -> io::Result<OwnedFd> {
    let above = fds.iter().map(|(_, number)| *number).max().unwrap_or(2).max(2) + 1;
    let aside = |fd: OwnedFd| -> io::Result<OwnedFd> {
        // SAFETY: duplicates a descriptor that we own to a free number at or above `above`.
        let number = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // The original is left to be closed by exec: its number may be one that is being filled.
        std::mem::forget(fd);
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    let keep = aside(keep)?;
    let fds = fds.into_iter().map(|(fd, number)| Ok((aside(fd)?, number))).collect::<io::Result<Vec<_>>>()?;
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed, only marked.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked < 0 {
        return Err(io::Error::last_os_error());
    }
    for (fd, number) in &fds {
        // SAFETY: this process is about to become another program; whoever owned this number is done with it.
        if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_streams_and_closed_numbers_are_not_handed_out() {
        assert!(inherited(0).is_err());
        assert!(inherited(2).is_err());
        assert!(inherited(9_999).is_err());
    }
}
