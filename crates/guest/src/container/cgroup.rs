//! The container's cgroup: made by the guest's root with its limits set, before a process is in it.

use std::fs;
use std::fs::File;
use std::io;

use wire::guest::ContainerSpec;

use super::CGROUP;
use crate::fault::{During, Fault};

/// Where the guest sees the root of the hierarchy.
const ROOT: &str = "/sys/fs/cgroup";

/// The length of the span in which processor time is counted, microseconds.
const PERIOD: u64 = 100_000;

/// The limits as file and content.
pub(crate) fn limits(spec: &ContainerSpec) -> [(&'static str, String); 4] {
    // The kernel keeps memory in whole pages.
    let memory = spec.memory / 4096 * 4096;
    let time = u64::from(spec.cpu_millis) * (PERIOD / 1_000);
    [
        ("memory.max", memory.to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("pids.max", spec.pids.to_string()),
        ("cpu.max", format!("{time} {PERIOD}")),
    ]
}

/// Makes the cgroup and opens its folder.
pub(crate) fn make(spec: &ContainerSpec) -> Result<File, Fault> {
    let what = "making the container's cgroup";
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+cpu +memory +pids").during(what)?;
    match fs::create_dir(CGROUP) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.during(what)?,
    }
    for (file, limit) in limits(spec) {
        fs::write(format!("{CGROUP}/{file}"), limit).during(format_args!("{what}: setting `{file}`"))?;
    }
    File::open(CGROUP).during(what)
}
