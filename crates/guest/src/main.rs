//! The one program inside a cell's machine: PID 1 of the guest, the init of the container, and what both start.
//!
//! ```text
//! /init ─ boot ─ early (Probe, Birth) ─▶ exec ─▶ born: mux, control, processes, relays
//! ```

mod async_file;
mod birth;
mod boot;
mod born;
mod channel;
mod disks;
mod early;
mod fault;
mod harness;
mod machine;

use std::process::ExitCode;

/// Where the program lies in the guest's root.
const PROGRAM: &str = "/lazaret-guest";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pid_one = std::process::id() == 1;
    match (pid_one, arguments.first().map(String::as_str)) {
        (true, Some("born")) => machine::end(born::run()),
        (true, _) => machine::end(boot::run()),
        (false, Some("builtin")) => harness::builtin(arguments.get(1..).unwrap_or_default()),
        (false, Some("acp")) => harness::acp(arguments.get(1..).unwrap_or_default()),
        (false, _) => ExitCode::from(64),
    }
}
