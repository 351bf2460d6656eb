//! Attacks on the kernel by system calls that have a history of holes, or that act on the whole machine.

use demo::report::Layer;
use nix::libc;
use sys::raw::{self, Call};

use crate::probe::{Attempts, CONTAINER, KILLED, Probe, Verdict, calls};

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Container, places: CONTAINER, deaths: KILLED, seconds: 30, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe("bpf", "bpf", "makes a map of the kernel's virtual machine", || calls(&[("bpf", Call::BpfMap)])),
    probe("keyrings", "keyrings", "add_key, request_key, keyctl", || {
        calls(&[("add_key", Call::AddKey), ("request_key", Call::RequestKey), ("keyctl", Call::JoinKeyring)])
    }),
    probe("userfaultfd", "userfaultfd", "takes over page faults", || {
        calls(&[("userfaultfd", Call::UserFaults)])
    }),
    probe("io-uring", "io_uring", "sets up a ring, around the filter of system calls", || {
        calls(&[("io_uring_setup", Call::IoUring)])
    }),
    probe("perf", "perf_event_open", "counts events of the processor", || {
        calls(&[("perf_event_open", Call::PerfEvent)])
    }),
    probe("modules", "kernel modules", "loads and removes modules of the kernel", || {
        calls(&[
            ("init_module", Call::InitModule),
            ("finit_module", Call::FinitModule),
            ("delete_module", Call::DeleteModule),
        ])
    }),
    probe("kexec", "another kernel", "kexec_load", || calls(&[("kexec_load", Call::KexecLoad)])),
    probe("reboot", "reboot", "asks for a reboot, with a wrong magic number", || {
        calls(&[("reboot", Call::Reboot)])
    }),
    probe("swap-and-accounts", "swap, accounting, quotas", "swapon, acct, quotactl", || {
        calls(&[("swapon", Call::SwapOn), ("acct", Call::Accounting), ("quotactl", Call::Quota)])
    }),
    probe("ports", "I/O ports", "iopl and ioperm", || {
        calls(&[("iopl", Call::IoPrivilege), ("ioperm", Call::IoPermission)])
    }),
    probe("time", "time of day", "clock_settime, clock_adjtime, settimeofday", || {
        calls(&[
            ("clock_settime", Call::SetTime),
            ("clock_adjtime", Call::AdjustTime),
            ("settimeofday", Call::SetTimeZone),
        ])
    }),
    probe("kernel-log", "kernel log", "reads the kernel's messages", || {
        calls(&[("syslog", Call::KernelLog)])
    }),
    probe("fanotify", "fanotify", "holds up other programs' access to files", || {
        calls(&[("fanotify_init", Call::Fanotify)])
    }),
    Probe {
        // Without a 32-bit entry the interrupt is a fault, which is a stop as well.
        deaths: &[31, 9, 11],
        ..probe(
            "other-entries",
            "other entries to the kernel",
            "calls through the 32-bit entry and by x32 numbers",
            || calls(&[("x32", Call::X32), ("int 0x80", Call::Legacy32Bit)]),
        )
    },
    probe("personality", "personality", "makes all memory executable", || {
        calls(&[("personality", Call::Personality)])
    }),
    probe("terminal", "typing into a terminal", "TIOCSTI on every terminal within reach", terminal),
];

fn terminal() -> Verdict {
    let mut attempts = Attempts::default();
    for path in
        ["/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "/dev/console", "/dev/tty1"]
    {
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(path);
        let typed = opened.and_then(|file| raw::type_into(&file.into()));
        match typed {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EIO)) => {
                attempts.stopped(path, "no terminal of anyone's");
            }
            other => attempts.take(path, other),
        }
    }
    attempts.verdict("nothing was tried")
}
