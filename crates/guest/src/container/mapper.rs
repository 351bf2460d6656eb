//! `newuidmap` and `newgidmap`, the programs that libcontainer calls to map more than one range of ids. Ours map what
//! they are told: only the guest's PID 1 has them called, with the ranges of `plan`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use crate::PROGRAM;
use crate::fault::{During, Fault};

/// Where the two names lie.
pub(crate) const FOLDER: &str = "/run/bin";

/// Gives this program the two names.
pub(crate) fn install() -> Result<(), Fault> {
    fs::create_dir_all(FOLDER).during("making the folder of the mappers")?;
    for name in ["newuidmap", "newgidmap"] {
        let path = Path::new(FOLDER).join(name);
        if !path.exists() {
            symlink(PROGRAM, path).during(format_args!("installing `{name}`"))?;
        }
    }
    Ok(())
}

/// The file that a mapper of this name writes.
pub(crate) fn file_of(program: &str) -> Option<&'static str> {
    match Path::new(program).file_name()?.to_str()? {
        "newuidmap" => Some("uid_map"),
        "newgidmap" => Some("gid_map"),
        _ => None,
    }
}

/// Maps ids: the arguments are a process id, then inside, outside and count of each range.
pub(crate) fn run(file: &str, arguments: &[String]) -> ExitCode {
    let written = arguments
        .split_first()
        .and_then(|(process, ranges)| fs::write(format!("/proc/{process}/{file}"), lines(ranges)).ok());
    if written.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Triples of numbers as the kernel reads them.
fn lines(ranges: &[String]) -> String {
    ranges.chunks(3).map(|range| range.join(" ") + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_lines() {
        let ranges = ["0", "99", "1", "1000", "1000", "1"].map(str::to_owned);
        assert_eq!(lines(&ranges), "0 99 1\n1000 1000 1\n");
    }

    #[test]
    fn only_the_two_names_are_mappers() {
        assert_eq!(file_of("/run/bin/newuidmap"), Some("uid_map"));
        assert_eq!(file_of("newgidmap"), Some("gid_map"));
        assert_eq!(file_of("/init"), None);
    }
}
