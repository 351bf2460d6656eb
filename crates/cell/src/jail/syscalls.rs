//! The system calls of each jailed program, as data. Two filters: one that allows what is listed and answers all else
//! as an older kernel would (ENOSYS, so that libraries fall back), and one that kills at once for calls that no honest
//! program in a jail makes.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::spec::Filter;

/// Filters in the order in which they are to be set.
pub(super) fn compile(filter: Filter) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let deadly = KILL.iter().map(|call| (*call, Vec::new())).collect();
    let deadly = SeccompFilter::new(deadly, SeccompAction::Allow, SeccompAction::KillProcess, arch)?;
    let allowed = SeccompFilter::new(
        rules(filter)?,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        SeccompAction::Allow,
        arch,
    )?;
    Ok(vec![deadly.try_into()?, allowed.try_into()?])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(filter: Filter) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = COMMON.iter().map(|call| (*call, Vec::new())).collect();
    let only = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    let arg = |index: u8, is: Is, value: u64| SeccompCondition::new(index, Width::Qword, is, value);
    let arg32 = |index: u8, is: Is, value: u64| SeccompCondition::new(index, Width::Dword, is, value);
    // Threads yes, namespaces no. clone3, whose flags are in memory, is not listed: libraries then use clone.
    rules.insert(libc::SYS_clone, vec![only(vec![arg(0, Is::MaskedEq(NEW_NAMESPACES), 0)?])?]);
    // Signals only to itself, which is process 1 of its namespace.
    rules.insert(libc::SYS_tgkill, vec![only(vec![arg32(0, Is::Eq, 1)?])?]);
    // Limits may be read, not set, and only its own.
    rules.insert(libc::SYS_prlimit64, vec![only(vec![arg32(0, Is::Eq, 0)?, arg(2, Is::Eq, 0)?])?]);
    let mut ioctls = vec![libc::FIONBIO, libc::TCGETS];
    match filter {
        Filter::Vmm | Filter::VmmKvm => {
            rules.extend(VMM.iter().map(|call| (*call, Vec::new())));
            let allowed = VMM_PRCTL.iter().map(|option| only(vec![arg32(0, Is::Eq, *option)?]));
            rules.insert(libc::SYS_prctl, allowed.collect::<Result<_, _>>()?);
        }
        Filter::Door => {
            rules.extend(DOOR.iter().map(|call| (*call, Vec::new())));
            // No memory becomes executable after the loader has mapped the program's own files.
            let executable = libc::PROT_EXEC.unsigned_abs().into();
            rules.insert(libc::SYS_mprotect, vec![only(vec![arg(2, Is::MaskedEq(executable), 0)?])?]);
            let unix = u64::from(libc::AF_UNIX.unsigned_abs());
            rules.insert(libc::SYS_socketpair, vec![only(vec![arg32(0, Is::Eq, unix)?])?]);
            let name = u64::from(libc::PR_SET_NAME.unsigned_abs());
            rules.insert(libc::SYS_prctl, vec![only(vec![arg32(0, Is::Eq, name)?])?]);
            ioctls.push(libc::FIOCLEX);
        }
    }
    let mut ioctl_rules = ioctls
        .iter()
        .map(|request| only(vec![arg32(1, Is::Eq, *request)?]))
        .collect::<Result<Vec<_>, _>>()?;
    if filter == Filter::VmmKvm {
        // Every request of KVM has this type in its second byte.
        ioctl_rules.push(only(vec![arg32(1, Is::MaskedEq(0xff00), 0xae00)?])?);
    }
    rules.insert(libc::SYS_ioctl, ioctl_rules);
    Ok(rules)
}

const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64
    | 0x80; // CLONE_NEWTIME

/// What starting a dynamically linked program, memory, threads, files already open and the clock need.
const COMMON: &[i64] = &[
    // The start itself; there is nothing else in the root to execute, and nothing gains rights by it.
    libc::SYS_execve,
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_access,
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_readlink,
    libc::SYS_getcwd,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
];

/// QEMU besides: its emulator makes code, its disks are files, its own sandbox sets filters.
const VMM: &[i64] = &[
    libc::SYS_mprotect,
    libc::SYS_seccomp,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_sync_file_range,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getdents64,
    libc::SYS_fchdir,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_delete,
    libc::SYS_set_mempolicy,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
];

/// prctl of QEMU: names, timer slack, memory errors, and what its own sandbox needs.
const VMM_PRCTL: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_SET_TIMERSLACK as u64,
    libc::PR_MCE_KILL as u64,
    libc::PR_SET_NO_NEW_PRIVS as u64,
    libc::PR_SET_SECCOMP as u64,
    libc::PR_GET_SECCOMP as u64,
];

/// The door besides: nothing but its runtime.
const DOOR: &[i64] = &[libc::SYS_getrusage];

/// Calls that end the program at once: each is an attempt to leave, or to look around.
const KILL: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_execveat,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_allows_what_another_kills_for() {
        for filter in [Filter::Vmm, Filter::VmmKvm, Filter::Door] {
            let rules = rules(filter).unwrap();
            for call in KILL {
                assert!(!rules.contains_key(call), "{filter:?} allows {call}");
            }
            assert_eq!(compile(filter).unwrap().len(), 2);
        }
    }

    #[test]
    fn no_list_allows_a_way_around_the_filter() {
        let open = [
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_fork,
            libc::SYS_vfork,
        ];
        for filter in [Filter::Vmm, Filter::VmmKvm, Filter::Door] {
            for call in open {
                assert!(!rules(filter).unwrap().contains_key(&call), "{filter:?} allows {call}");
            }
        }
    }
}
