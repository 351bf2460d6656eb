//! The one program inside a cell's machine: PID 1 of the guest, the init of the container, and what both start.
//!
//! ```text
//! /init ─ boot ─ early (Probe, Birth) ─▶ exec ─▶ born ─┬─ control ─ container ─ limits, relay
//!                                                      └─ process, files
//! ```

mod archive;
mod async_file;
mod birth;
mod boot;
mod born;
mod channel;
mod container;
mod control;
mod disks;
mod early;
mod end;
mod fault;
mod files;
mod harness;
mod limits;
mod machine;
mod process;
mod reaper;
mod relay;

use std::path::Path;
use std::process::ExitCode;

/// Where the program lies in the guest's root.
const PROGRAM: &str = "/lazaret-guest";

/// The exit code of a program that was called wrongly, as `sysexits.h` has it.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let init = std::process::id() == 1;
    match words.as_slice() {
        ["container"] if init => container::init::run(),
        ["born", _] if init => machine::end(born::run()),
        ["put", folder] => archive::put(Path::new(folder)),
        ["get", folder] => archive::get(Path::new(folder)),
        ["builtin", ..] => harness::builtin(arguments.get(1..).unwrap_or_default()),
        ["acp", ..] => harness::acp(arguments.get(1..).unwrap_or_default()),
        _ if init => machine::end(boot::run()),
        _ => ExitCode::from(USAGE),
    }
}
