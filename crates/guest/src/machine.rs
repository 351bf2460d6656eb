//! The machine as a whole: its log, and how it ends. PID 1 never returns: whatever goes wrong, the machine powers off.

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;

use nix::sys::reboot::{RebootMode, reboot};

use crate::fault::{During, Fault};

/// Writes a line to the kernel's log, which is all that the guest has for one. Without a log there is nobody to tell.
pub(crate) fn log(message: &str) {
    let line = format!("<5>lazaret-guest: {message}\n");
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        drop(log.write_all(line.as_bytes()));
    }
}

/// From now on a panic of PID 1 says why and powers the machine off.
pub(crate) fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        log(&format!("{panic}"));
        power_off();
    }));
}

/// The end of PID 1, with the reason when it was not asked for.
pub(crate) fn end(result: Result<(), Fault>) -> ExitCode {
    if let Err(fault) = result {
        log(&format!("powering off: {fault}"));
    }
    power_off();
    ExitCode::FAILURE
}

/// Writes back what is cached and powers off. Returns only if the kernel refuses; PID 1 then ends, which makes the
/// kernel panic and reset.
pub(crate) fn power_off() {
    nix::unistd::sync();
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    log(&format!("the kernel refuses to power off: {error}"));
}

/// Settings of the kernel that leave less to attack, as `path under /proc/sys`, `value`. Those that a kernel was built
/// without are passed over.
const SETTINGS: &[(&str, &str)] = &[
    ("kernel/core_pattern", "\n"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/modules_disabled", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/sysrq", "0"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/yama/ptrace_scope", "3"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "2"),
    ("fs/protected_symlinks", "1"),
    ("fs/suid_dumpable", "0"),
    ("net/core/bpf_jit_harden", "2"),
    // Memory is limited by the cgroup; runtimes reserve far more address space than they use.
    ("vm/overcommit_memory", "1"),
    ("vm/unprivileged_userfaultfd", "0"),
];

/// No namespace of these kinds can be made from now on, by anyone.
const NAMESPACES: &[&str] = &["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Tightens the kernel before anything of the agent's runs.
pub(crate) fn harden() -> Result<(), Fault> {
    SETTINGS.iter().try_for_each(|(path, value)| set(path, value))
}

/// Forbids new namespaces, once the container has its own.
pub(crate) fn forbid_namespaces() -> Result<(), Fault> {
    NAMESPACES.iter().try_for_each(|kind| set(&format!("user/max_{kind}_namespaces"), "0"))
}

fn set(path: &str, value: &str) -> Result<(), Fault> {
    match fs::write(format!("/proc/sys/{path}"), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.during(format_args!("setting `{path}`")),
    }
}
