//! The machine as a whole: its log, and how it ends. PID 1 never returns: whatever goes wrong, the machine powers off.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use nix::sys::reboot::{RebootMode, reboot};

use crate::fault::Fault;

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
