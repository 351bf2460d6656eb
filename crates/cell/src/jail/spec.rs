//! What the daemon tells the launcher of a jail, and what it hears back. JSON, since both are one executable.

use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::CgroupPlan;
use super::identity::Identity;

/// Most bytes of an encoded [`JailSpec`].
pub(crate) const SPEC_BYTES: usize = 256 * 1024;
/// Most descriptors handed to a program.
pub(crate) const SPEC_FDS: usize = 32;
/// Most bytes of one report, and of what the inside of a jail says before it becomes the program.
pub(crate) const REPORT_BYTES: usize = 64 * 1024;

/// A jail and the program in it. Whatever isn't named here doesn't exist inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JailSpec {
    /// The program's path inside.
    pub(crate) program: String,
    /// Its arguments, without the program's name.
    pub(crate) args: Vec<String>,
    /// Its whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// All files of the root; each parent folder is made.
    pub(crate) files: Vec<JailFile>,
    /// Whether `/proc/self/fd` exists, and nothing else of /proc: the VMM opens its memory file through it.
    pub(crate) own_descriptors: bool,
    /// The number inside of each descriptor that comes with the spec, in order. 0, 1 and 2 are /dev/null if not named.
    pub(crate) descriptors: Vec<RawFd>,
    /// Whose rights it runs with.
    pub(crate) identity: Identity,
    /// Limits per process.
    pub(crate) limits: ProcessLimits,
    /// Limits as a cgroup, where the host delegates one.
    pub(crate) cgroup: Option<CgroupPlan>,
    /// Which system calls it may make.
    pub(crate) filter: Filter,
    /// An empty folder of the host where the root is put together. The supervisor removes it at the end.
    pub(crate) mount_point: PathBuf,
}

/// One file of a jail's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JailFile {
    /// Its path on the host; links are followed.
    pub(crate) source: PathBuf,
    /// Its absolute path inside.
    pub(crate) target: PathBuf,
    /// What may be done with it.
    pub(crate) access: FileAccess,
}

/// What may be done with a file of a jail. None can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FileAccess {
    /// Read.
    Read,
    /// Read and execute.
    Execute,
    /// A device: read and write it.
    Device,
}

/// Limits of the program as a process (rlimits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessLimits {
    /// Bytes of address space.
    pub(crate) address_space: u64,
    /// Bytes of private writable memory: holds where there is no cgroup.
    pub(crate) data: u64,
    /// Largest file it may write, bytes.
    pub(crate) file_size: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
}

/// Which list of system calls applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Filter {
    /// A VMM that emulates.
    Vmm,
    /// A VMM on KVM: also KVM's ioctls.
    VmmKvm,
    /// The door process.
    Door,
}

/// What the supervisor tells the daemon, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report")]
pub(crate) enum Report {
    /// The jail is up and has become the program.
    Running {
        /// Walls that this host could not give, for people.
        missing: Vec<String>,
    },
    /// The jail could not be built; nothing ran.
    Failed {
        /// Why.
        why: String,
    },
    /// The program ended; its jail is gone.
    Ended(JailEnd),
}

/// How a jailed program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JailEnd {
    /// Its exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// The signal that ended it otherwise.
    pub(crate) signal: Option<i32>,
    /// Its largest resident memory, KiB.
    pub(crate) peak_kib: i64,
}

/// What the inside says to the supervisor before it becomes the program, one JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub(crate) enum InsideReport {
    /// All is set up; the next step is the program.
    Ready {
        /// Walls that this host could not give, for people.
        missing: Vec<String>,
    },
    /// A step failed.
    Failed {
        /// Which, and why.
        why: String,
    },
}
