//! System calls that attack: each does for real what a contained program must not be able to do, and says what happened.
//!
//! They are for the hostile agent of the demo. Each acts on the calling process or on what it was given, keeps whatever
//! it gains to itself, and undoes nothing: call them in a process that exists for one of them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;

/// An attack by one system call (or the few that belong to it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `clone3` of a child in a new user namespace; the child ends at once.
    Clone3UserNamespace,
    /// `clone` of a child in new user and network namespaces; the child ends at once.
    CloneUserNamespace,
    /// `open_tree` of `/` as a detached copy.
    OpenTree,
    /// `fsopen` of a tmpfs.
    FsOpen,
    /// `move_mount` of `/` onto itself.
    MoveMount,
    /// `mount_setattr` that makes `/` writable.
    MountSetAttr,
    /// `pivot_root` of `.` onto itself, which can't succeed but tells whether it may.
    PivotRoot,
    /// `bpf` that makes an array map.
    BpfMap,
    /// `add_key` to the process's keyring.
    AddKey,
    /// `request_key` for a key that nobody has.
    RequestKey,
    /// `keyctl` that makes a session keyring.
    JoinKeyring,
    /// `userfaultfd`, for user mode only.
    UserFaults,
    /// `io_uring_setup` of a ring with one entry.
    IoUring,
    /// `perf_event_open` of the processor clock of this process.
    PerfEvent,
    /// `kexec_load` of no segments.
    KexecLoad,
    /// `init_module` of nothing.
    InitModule,
    /// `finit_module` of no file.
    FinitModule,
    /// `delete_module` of a module that doesn't exist.
    DeleteModule,
    /// `reboot` with a wrong magic number, which tells whether the right one would do.
    Reboot,
    /// `swapon` of a file that doesn't exist.
    SwapOn,
    /// `acct` to a file that doesn't exist.
    Accounting,
    /// `quotactl` that syncs all quotas.
    Quota,
    /// `iopl(3)`: access to every port of the machine.
    IoPrivilege,
    /// `ioperm` for one port.
    IoPermission,
    /// `fanotify_init` that may hold up other programs' access to files.
    Fanotify,
    /// `clock_settime` to the time that it is.
    SetTime,
    /// `clock_adjtime` that sets the tick to what it is.
    AdjustTime,
    /// `settimeofday` of the kernel's time zone to what it is.
    SetTimeZone,
    /// `syslog` that reads the kernel's messages.
    KernelLog,
    /// `capset` that raises `CAP_SYS_ADMIN`.
    RaiseCapabilities,
    /// `userfaultfd` through the 32-bit entry, which a filter for 64 bits only would miss.
    Legacy32Bit,
    /// A 64-bit call with the x32 bit, which a filter by number only would miss.
    X32,
    /// `personality(READ_IMPLIES_EXEC)`.
    Personality,
    /// `kcmp` of this process and PID 1.
    CompareInit,
    /// `process_madvise` of PID 1.
    AdviseInit,
    /// `setpriority` to the highest.
    Priority,
    /// `sched_setscheduler` to real time.
    RealTime,
}

/// Makes the attack and gives what the call gave.
///
/// # Errors
/// What stopped it.
pub fn call(what: Call) -> io::Result<i64> {
    const KEYRING: i32 = -2; // KEY_SPEC_PROCESS_KEYRING
    const JOIN: i32 = 1; // KEYCTL_JOIN_SESSION_KEYRING
    const OPEN_TREE_CLONE: i32 = 1;
    const Q_SYNC: i32 = 0x0080_0001 << 8;
    let null = std::ptr::null::<u8>();
    let root = c"/".as_ptr();
    let here = c".".as_ptr();
    let user = c"user".as_ptr();
    let name = c"lazaret-probe".as_ptr();
    let missing = c"/nonexistent/lazaret-probe".as_ptr();
    let at = libc::AT_FDCWD;
    let me = std::process::id();
    let priority = [1_i32];
    // SAFETY: every pointer is null, a constant text that ends in a zero, or the one number that is a
    // sched_param, and is only read; the lengths given are those of what they point at or zero. The kernel writes to no memory of this process.
    let value = unsafe {
        match what {
            Call::OpenTree => libc::syscall(libc::SYS_open_tree, at, root, OPEN_TREE_CLONE),
            Call::FsOpen => libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0),
            Call::MoveMount => libc::syscall(libc::SYS_move_mount, at, root, at, root, 0),
            Call::PivotRoot => libc::syscall(libc::SYS_pivot_root, here, here),
            Call::AddKey => libc::syscall(libc::SYS_add_key, user, name, c"x".as_ptr(), 1, KEYRING),
            Call::RequestKey => libc::syscall(libc::SYS_request_key, user, name, null, KEYRING),
            Call::JoinKeyring => libc::syscall(libc::SYS_keyctl, JOIN, null),
            Call::UserFaults => libc::syscall(libc::SYS_userfaultfd, 1),
            Call::KexecLoad => libc::syscall(libc::SYS_kexec_load, 0, 0, null, 0),
            Call::InitModule => libc::syscall(libc::SYS_init_module, null, 0, c"".as_ptr()),
            Call::FinitModule => libc::syscall(libc::SYS_finit_module, -1, c"".as_ptr(), 0),
            Call::DeleteModule => libc::syscall(libc::SYS_delete_module, name, libc::O_NONBLOCK),
            Call::Reboot => libc::syscall(libc::SYS_reboot, 1, 2, 3, null),
            Call::SwapOn => libc::syscall(libc::SYS_swapon, missing, 0),
            Call::Accounting => libc::syscall(libc::SYS_acct, missing),
            Call::Quota => libc::syscall(libc::SYS_quotactl, Q_SYNC, null, 0, null),
            Call::IoPrivilege => libc::syscall(libc::SYS_iopl, 3),
            Call::IoPermission => libc::syscall(libc::SYS_ioperm, 0x80, 1, 1),
            Call::Fanotify => libc::syscall(libc::SYS_fanotify_init, 4, 0),
            Call::SetTimeZone => libc::syscall(libc::SYS_settimeofday, null, null),
            Call::X32 => libc::syscall(0x4000_0000 | libc::SYS_getppid),
            Call::Personality => libc::syscall(libc::SYS_personality, 0x0040_0000),
            Call::CompareInit => libc::syscall(libc::SYS_kcmp, me, 1, 0, 0, 0),
            Call::AdviseInit => {
                let init = libc::syscall(libc::SYS_pidfd_open, 1, 0);
                if init < 0 { init } else { libc::syscall(libc::SYS_process_madvise, init, null, 0, 20, 0) }
            }
            Call::Priority => libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, -20),
            Call::RealTime => {
                libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, priority.as_ptr())
            }
            Call::Clone3UserNamespace => return clone3(),
            Call::CloneUserNamespace => return clone(),
            Call::PerfEvent => return perf_event(),
            Call::IoUring => return io_uring(),
            Call::BpfMap => return bpf_map(),
            Call::KernelLog => return kernel_log(),
            Call::RaiseCapabilities => return raise_capabilities(),
            Call::SetTime => return set_time(),
            Call::AdjustTime => return adjust_time(),
            Call::MountSetAttr => return mount_set_attr(),
            Call::Legacy32Bit => return legacy_32_bit(),
        }
    };
    result(value)
}

fn result(value: libc::c_long) -> io::Result<i64> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Ends a child of `clone` and reaps it in its parent.
fn end_child(pid: libc::c_long) -> io::Result<i64> {
    if pid == 0 {
        // SAFETY: _exit is safe in any state of the process.
        unsafe { libc::_exit(0) }
    }
    let pid = result(pid)?;
    let child = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: a null status is allowed.
    result(i64::from(unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) }))?;
    Ok(pid)
}

fn clone3() -> io::Result<i64> {
    let mut arguments = [0_u64; 11];
    arguments[0] = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    arguments[4] = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: the arguments are a clone_args of 88 bytes; without CLONE_VM the child has memory of its own, goes on
    // with this stack's copy, and only ends.
    end_child(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) })
}

fn clone() -> io::Result<i64> {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::SIGCHLD;
    // SAFETY: as for clone3; a null stack means the parent's, copied.
    end_child(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

/// Makes a child that sleeps until it is killed, or until its parent ends: one process of a fork bomb.
///
/// # Errors
/// When no process can be made.
pub fn sleeping_child() -> io::Result<i32> {
    // SAFETY: without CLONE_VM the child has its own memory; it calls only prctl and pause, which are safe after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: plain integers; pause returns when a handled signal arrives, and then it is called again.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    i32::try_from(result(pid)?).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn perf_event() -> io::Result<i64> {
    let mut attributes = [0_u8; 128];
    attributes[0] = 1; // type: software
    attributes[4] = 128; // size; config 0 is the processor clock
    // SAFETY: the attributes are 128 bytes, as they say.
    result(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) })
}

fn io_uring() -> io::Result<i64> {
    let mut parameters = [0_u8; 120];
    // SAFETY: io_uring_params has 120 bytes, which the kernel reads and writes.
    result(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
}

fn bpf_map() -> io::Result<i64> {
    // BPF_MAP_CREATE: type 2 (array), key of 4 bytes, value of 4 bytes, one entry.
    let mut attributes = [0_u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    // SAFETY: the attributes are as long as the size given.
    result(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) })
}

fn kernel_log() -> io::Result<i64> {
    let mut buffer = [0_u8; 4096];
    // SAFETY: the kernel writes at most 4096 bytes, the size of the buffer. 3 is SYSLOG_ACTION_READ_ALL.
    result(unsafe { libc::syscall(libc::SYS_syslog, 3, buffer.as_mut_ptr(), 4096) })
}

fn raise_capabilities() -> io::Result<i64> {
    let header = [0x2008_0522_u32, 0];
    let data = [1_u32 << 21, 1 << 21, 0, 0, 0, 0]; // effective, permitted, inheritable, in two halves
    // SAFETY: version 3 has a header of 8 and data of 24 bytes, both only read.
    result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

fn set_time() -> io::Result<i64> {
    let mut now = [0_i64; 2];
    // SAFETY: a timespec is two i64 on this architecture; the kernel writes and reads just that.
    unsafe {
        result(libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, now.as_mut_ptr()))?;
        result(libc::syscall(libc::SYS_clock_settime, libc::CLOCK_REALTIME, now.as_ptr()))
    }
}

fn adjust_time() -> io::Result<i64> {
    // struct timex has 208 bytes. ADJ_TICK with the tick that it reports.
    let mut timex = [0_u64; 26];
    // SAFETY: the kernel reads and writes the 208 bytes.
    unsafe {
        result(libc::syscall(libc::SYS_clock_adjtime, libc::CLOCK_REALTIME, timex.as_mut_ptr()))?;
        timex[0] = 0x4000;
        result(libc::syscall(libc::SYS_clock_adjtime, libc::CLOCK_REALTIME, timex.as_mut_ptr()))
    }
}

fn mount_set_attr() -> io::Result<i64> {
    let attributes = [0_u64, 1, 0, 0]; // of those to clear: MOUNT_ATTR_RDONLY
    let root = c"/".as_ptr();
    // SAFETY: struct mount_attr has 32 bytes, only read.
    result(unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, root, 0, attributes.as_ptr(), 32)
    })
}

fn legacy_32_bit() -> io::Result<i64> {
    let value: i64;
    // SAFETY: system call 374 of the 32-bit table is userfaultfd; its one argument is an integer, and no memory is
    // touched. The registers that the 32-bit entry may change are named; rbx is kept by hand because the compiler
    // reserves it.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "mov ebx, 1",
            "int 0x80",
            "pop rbx",
            inlateout("rax") 374_i64 => value,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let value = i64::from(value as i32);
    if value < 0 {
        Err(io::Error::from_raw_os_error(i32::try_from(-value).unwrap_or(libc::EINVAL)))
    } else {
        Ok(value)
    }
}

/// Opens the file of another root by a handle that was guessed, as the escape of 2014 did: `open_by_handle_at` with
/// the handle of inode 2.
///
/// # Errors
/// What stopped it.
pub fn open_by_handle(on: &OwnedFd) -> io::Result<OwnedFd> {
    // handle_bytes 8, type 1 (inode and generation), inode 2, generation 0.
    let handle = [8_u32, 1, 2, 0];
    // SAFETY: the handle is as long as it says, and only read.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            on.as_raw_fd(),
            handle.as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    owned(fd)
}

/// Takes a copy of descriptor `number` of process `pid`.
///
/// # Errors
/// What stopped it.
pub fn steal_descriptor(pid: i32, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers; what is opened is owned below.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Opens a socket of any family, kind and protocol.
///
/// # Errors
/// What stopped it.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers; the descriptor is owned below.
    owned(unsafe { libc::syscall(libc::SYS_socket, family, kind | libc::SOCK_CLOEXEC, protocol) })
}

/// Connects a socket to port `port` of the hypervisor's host.
///
/// # Errors
/// What stopped it.
pub fn connect_to_vm_host(socket: &OwnedFd, port: u32) -> io::Result<()> {
    let mut address = [0_u32; 4]; // sockaddr_vm: family and reserved, port, context id, flags and padding
    address[0] = libc::AF_VSOCK.cast_unsigned();
    address[1] = port;
    address[2] = 2;
    // SAFETY: the address has the 16 bytes that are given as its length, and is only read.
    result(unsafe { libc::syscall(libc::SYS_connect, socket.as_raw_fd(), address.as_ptr(), 16) }).map(drop)
}

/// Puts a character into the input of the terminal behind `terminal`.
///
/// # Errors
/// What stopped it.
pub fn type_into(terminal: &OwnedFd) -> io::Result<()> {
    let character = [b'#'];
    // SAFETY: TIOCSTI reads one byte.
    result(unsafe { libc::syscall(libc::SYS_ioctl, terminal.as_raw_fd(), libc::TIOCSTI, character.as_ptr()) })
        .map(drop)
}

/// Attaches to a process as its tracer, without stopping it.
///
/// # Errors
/// What stopped it.
pub fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: PTRACE_SEIZE takes integers; the tracee goes on running, and is let go when this process ends.
    result(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, pid, 0, 0) }).map(drop)
}

/// Writes `value` to an I/O port, after [`Call::IoPrivilege`]. Without the privilege the process is killed.
pub fn write_port(port: u16, value: u8) {
    // SAFETY: an `out` touches no memory of this process.
    unsafe {
        std::arch::asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    }
}

/// Mounts a file system of this kind on a folder, read-only and without replaying a journal.
///
/// # Errors
/// What stopped it.
pub fn mount(kind: &CStr, source: &CStr, at: &CStr) -> io::Result<()> {
    let options = if kind == c"ext4" { c"noload" } else { c"" };
    let (source, at, kind, options) = (source.as_ptr(), at.as_ptr(), kind.as_ptr(), options.as_ptr());
    // SAFETY: four texts that end in a zero and are only read.
    result(unsafe { libc::syscall(libc::SYS_mount, source, at, kind, libc::MS_RDONLY, options) }).map(drop)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result(fd)?).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just opened it for this process, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
