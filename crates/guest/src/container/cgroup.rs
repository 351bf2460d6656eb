//! The container's cgroup: made before a template is saved, with its limits set before a process is in it.

use std::fs::{self, File};

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

/// Makes the cgroup. Its processor time is limited at once, only because the kernel rewrites its own code when it
/// limits the first one.
pub(crate) fn make() -> Result<(), Fault> {
    let what = "making the container's cgroup";
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+cpu +memory +pids").during(what)?;
    fs::create_dir(CGROUP).during(what)?;
    set("cpu.max", &format!("{PERIOD} {PERIOD}"))
}

/// Sets the limits, and opens the cgroup's folder.
pub(crate) fn limit(spec: &ContainerSpec) -> Result<File, Fault> {
    limits(spec).iter().try_for_each(|(file, limit)| set(file, limit))?;
    File::open(CGROUP).during("opening the container's cgroup")
}

fn set(file: &str, limit: &str) -> Result<(), Fault> {
    fs::write(format!("{CGROUP}/{file}"), limit)
        .during(format_args!("setting `{file}` of the container's cgroup"))
}
