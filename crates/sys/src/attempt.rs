//! Forbidden things, tried for real: the only proof that a filter stands is that it stops them.

use std::fmt;
use std::io;

use nix::libc;

/// One thing that a contained process must not be able to do. Each is harmless where it works: it leaves a
/// descriptor open, asks for something, or fails on its null arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// `unshare(CLONE_NEWUSER)`, which any ordinary process may do.
    UserNamespace,
    /// `clone(CLONE_NEWUSER | CLONE_FS)`, which the kernel itself refuses as contradictory.
    CloneNamespace,
    /// `clone3` with no arguments, whose flags no filter can see.
    Clone3,
    /// `mount` of nothing.
    Mount,
    /// `bpf` with an unknown command.
    Bpf,
    /// `keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING)`.
    Keyring,
    /// `userfaultfd` for user mode, which any process may make.
    UserFaults,
    /// `io_uring_setup` with no parameters.
    IoUring,
    /// `ptrace(PTRACE_TRACEME)`.
    Trace,
    /// `perf_event_open` with no attributes.
    Perf,
    /// A packet socket.
    PacketSocket,
    /// A raw IPv4 socket.
    RawSocket,
    /// A socket to the hypervisor.
    VmSocket,
    /// A socket of the kernel's cryptography.
    CryptoSocket,
}

impl Attempt {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::UserNamespace,
        Self::CloneNamespace,
        Self::Clone3,
        Self::Mount,
        Self::Bpf,
        Self::Keyring,
        Self::UserFaults,
        Self::IoUring,
        Self::Trace,
        Self::Perf,
        Self::PacketSocket,
        Self::RawSocket,
        Self::VmSocket,
        Self::CryptoSocket,
    ];

    /// Does it. Only for a process that exists for this or is about to be confined anyway: an attempt that works may
    /// change the process.
    ///
    /// # Errors
    /// What stopped it.
    pub fn perform(self) -> io::Result<()> {
        let null = std::ptr::null::<u8>();
        // SAFETY: each call has plain integers or a null pointer as arguments; the kernel answers a null pointer with
        // an error and writes to none of this process's memory.
        let result = unsafe {
            match self {
                Self::UserNamespace => libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER),
                Self::CloneNamespace => {
                    libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::CLONE_FS, null, null, null, 0)
                }
                Self::Clone3 => libc::syscall(libc::SYS_clone3, null, 0),
                Self::Mount => libc::syscall(libc::SYS_mount, null, null, null, 0, null),
                Self::Bpf => libc::syscall(libc::SYS_bpf, -1, null, 0),
                Self::Keyring => libc::syscall(libc::SYS_keyctl, 0, -3, 0),
                Self::UserFaults => libc::syscall(libc::SYS_userfaultfd, 1),
                Self::IoUring => libc::syscall(libc::SYS_io_uring_setup, 1, null),
                Self::Trace => libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, null, null),
                Self::Perf => libc::syscall(libc::SYS_perf_event_open, null, 0, -1, -1, 0),
                Self::PacketSocket => open_socket(libc::AF_PACKET, libc::SOCK_RAW),
                Self::RawSocket => open_socket(libc::AF_INET, libc::SOCK_RAW),
                Self::VmSocket => open_socket(libc::AF_VSOCK, libc::SOCK_STREAM),
                Self::CryptoSocket => open_socket(libc::AF_ALG, libc::SOCK_SEQPACKET),
            }
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserNamespace => "unshare",
            Self::CloneNamespace => "clone",
            Self::Clone3 => "clone3",
            Self::Mount => "mount",
            Self::Bpf => "bpf",
            Self::Keyring => "keyctl",
            Self::UserFaults => "userfaultfd",
            Self::IoUring => "io_uring",
            Self::Trace => "ptrace",
            Self::Perf => "perf_event_open",
            Self::PacketSocket => "packet socket",
            Self::RawSocket => "raw socket",
            Self::VmSocket => "vsock",
            Self::CryptoSocket => "crypto socket",
        })
    }
}

fn open_socket(family: libc::c_int, kind: libc::c_int) -> libc::c_long {
    // SAFETY: socket takes integers only.
    unsafe { libc::syscall(libc::SYS_socket, family, kind | libc::SOCK_CLOEXEC, 0) }
}
