//! The container's system calls: what is allowed; all else is denied.
//!
//! The list is that of Docker's default profile for a process without capabilities, less what an agent's programs don't
//! need and the kernel's history advises against: `ptrace` and its kin, `io_uring`, `userfaultfd`, keys, `bpf`, kernel
//! modules, the clocks, NUMA placement, AIO of the old kind is kept. 32-bit and x32 calls kill the process.
//!
//! What is denied answers `ENOSYS`, as if the kernel had never heard of it, so that a C library newer than the kernel
//! falls back to what it knows; the well-known privileged calls answer `EPERM`.

use serde_json::{Value, json};

/// Allowed with any arguments.
pub(crate) const ALLOWED: &[&str] = &[
    // Files and folders.
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "close_range",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futimesat",
    "getcwd",
    "getdents",
    "getdents64",
    "getxattr",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "setxattr",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "tee",
    "truncate",
    "umask",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "vmsplice",
    "write",
    "writev",
    // Waiting for files and events.
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "ioctl",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "pselect6",
    "select",
    "signalfd",
    "signalfd4",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    // Memory.
    "brk",
    "madvise",
    "membarrier",
    "memfd_create",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    // Processes and threads.
    "arch_prctl",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "getuid",
    "capget",
    "capset",
    "kill",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "prlimit64",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setuid",
    "sigaltstack",
    "tgkill",
    "time",
    "times",
    "tkill",
    "vfork",
    "wait4",
    "waitid",
    // Confining oneself further.
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "seccomp",
    // Time and the system.
    "alarm",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getrandom",
    "gettimeofday",
    "nanosleep",
    "sysinfo",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "uname",
    // Talking to each other within the container.
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
];

/// Denied with `EPERM`: a program that asks for these means them.
pub(crate) const REFUSED: &[&str] = &[
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
];

/// `CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
/// CLONE_NEWTIME` of `linux/sched.h`.
const NEW_NAMESPACES: u64 = 0x7e02_0080;

/// The type of a socket without its flags: `SOCK_TYPE_MASK` of `linux/net.h`.
const TYPE_MASK: u64 = 0xf;

/// Sockets that may be made: family, type, protocol. Unix as streams, datagrams and packets in order; IPv4 and IPv6
/// only as TCP and UDP, by number or as the type's own protocol (so no MPTCP, SCTP or UDP-Lite).
const SOCKETS: &[(u64, u64, u64)] = &[
    (1, 1, 0),
    (1, 2, 0),
    (1, 5, 0),
    (2, 1, 0),
    (2, 1, 6),
    (2, 2, 0),
    (2, 2, 17),
    (10, 1, 0),
    (10, 1, 6),
    (10, 2, 0),
    (10, 2, 17),
];

/// `AF_NETLINK`, of which only `NETLINK_ROUTE` (0) is allowed: the C library lists addresses with it.
const NETLINK: u64 = 16;

const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// The filter as an OCI runtime reads it.
pub(crate) fn filter() -> Value {
    let mut rules = vec![
        allow(ALLOWED, &json!([])),
        json!({ "names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }),
        allow(&["clone"], &json!([masked(0, NEW_NAMESPACES, 0)])),
        allow(&["socket"], &json!([equal(0, NETLINK), equal(2, 0)])),
        allow(&["socketpair"], &json!([equal(0, 1)])),
        // Only the personality of Linux itself, or the question which it is.
        allow(&["personality"], &json!([equal(0, 0)])),
        allow(&["personality"], &json!([equal(0, 0xffff_ffff)])),
    ];
    for (family, kind, protocol) in SOCKETS {
        let arguments = json!([equal(0, *family), masked(1, TYPE_MASK, *kind), equal(2, *protocol)]);
        rules.push(allow(&["socket"], &arguments));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    })
}

fn allow(names: &[&str], arguments: &Value) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": arguments })
}

fn equal(index: u8, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

/// The argument under the mask. libcontainer takes `value` for the wanted value and `valueTwo` for the mask; runc has
/// them the other way round. The container's init tries what this decides, so a library that changes its mind is
/// noticed.
fn masked(index: u8, mask: u64, wanted: u64) -> Value {
    json!({ "index": index, "value": wanted, "valueTwo": mask, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_call_is_both_allowed_and_refused_or_named_twice() {
        let all: Vec<_> = ALLOWED.iter().chain(REFUSED).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn what_history_advises_against_is_not_allowed() {
        let dangerous = [
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "userfaultfd",
            "bpf",
            "keyctl",
            "add_key",
            "request_key",
            "mount",
            "umount2",
            "fsopen",
            "move_mount",
            "open_tree",
            "unshare",
            "setns",
            "clone",
            "clone3",
            "socket",
            "pivot_root",
            "chroot",
            "init_module",
            "finit_module",
            "kexec_load",
            "perf_event_open",
            "open_by_handle_at",
            "reboot",
            "swapon",
            "personality",
            "pidfd_getfd",
            "syslog",
            "memfd_secret",
            "modify_ldt",
        ];
        for name in dangerous {
            assert!(!ALLOWED.contains(&name), "{name}");
        }
    }

    #[test]
    fn the_rest_is_denied_and_foreign_architectures_are_not_listed() {
        let filter = filter();
        assert_eq!(filter["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(filter["architectures"], json!(["SCMP_ARCH_X86_64"]));
        assert!(serde_json::from_value::<libcontainer::oci_spec::runtime::LinuxSeccomp>(filter).is_ok());
    }

    #[test]
    fn no_socket_is_allowed_without_its_protocol() {
        let filter = filter();
        let rules = filter["syscalls"].as_array().unwrap();
        let sockets: Vec<_> = rules.iter().filter(|rule| rule["names"] == json!(["socket"])).collect();
        assert_eq!(sockets.len(), SOCKETS.len() + 1);
        for rule in sockets {
            assert!(rule["args"].as_array().unwrap().iter().any(|arg| arg["index"] == 2), "{rule}");
        }
    }
}
