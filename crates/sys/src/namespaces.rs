//! A child process in new namespaces, made as fork(2) makes one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Namespaces that a child can get of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// A user namespace, with no id mapped yet.
    pub user: bool,
    /// A network namespace, with loopback that is down; without, the child stays in the network of this process.
    pub network: bool,
}

/// Which side of [`fork_into`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The child: process 1 of its new pid namespace.
    Child,
    /// The parent, with what it needs to watch the child.
    Parent {
        /// The child's process id as the parent sees it.
        pid: i32,
        /// Becomes readable when the child ends; kills it without a race.
        pidfd: OwnedFd,
    },
}

/// Makes a child with mount, pid, ipc, uts and cgroup namespaces of its own, and those that are asked for. With `cgroup` (a cgroup v2 folder), the child starts in it.
///
/// # Errors
/// When this process has more than one thread (its other threads' locks would stay locked in the child), or when the
/// kernel refuses.
pub fn fork_into(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("a process with {threads} threads can't be forked safely")));
    }
    let mut flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_PIDFD;
    if namespaces.user {
        flags |= libc::CLONE_NEWUSER;
    }
    if namespaces.network {
        flags |= libc::CLONE_NEWNET;
    }
    let mut flags = flags as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let mut pidfd: RawFd = -1;
    let arguments = CloneArguments {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArguments::default()
    };
    // SAFETY: the arguments are a valid `struct clone_args` of the size given, and outlive the call. Without CLONE_VM
    // the child has a copy of this memory, as with fork; this process has one thread, so no lock is held in the copy.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&arguments), size_of::<CloneArguments>())
    };
    match result {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: the kernel stored a new descriptor here (CLONE_PIDFD), which nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv().is_err());
        assert!(fork_into(Namespaces { user: true, network: true }, None).is_err());
        drop(stop);
        assert!(thread.join().unwrap());
    }
}
