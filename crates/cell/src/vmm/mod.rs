//! The seam to a virtual machine monitor: a machine goes in, a program for the jail comes out. QEMU is the one behind
//! it today; a monitor that has its own kernel in user space would be another.

pub(crate) mod qemu;
pub(crate) mod qmp;

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use domain::Isolation;

use crate::jail::spec::{Filter, JailFile};

/// A machine to be started.
#[derive(Debug)]
pub(crate) struct Machine {
    /// MiB of memory.
    pub(crate) memory_mib: u64,
    /// Virtual processors.
    pub(crate) cpus: u8,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// The machine's end of the channel: a connected Unix socket.
    pub(crate) channel: OwnedFd,
    /// Its disks; without, it has placeholders in their places.
    pub(crate) disks: Option<Disks>,
    /// Its standard error: for a person to read when it fails.
    pub(crate) log: OwnedFd,
}

/// What a machine's memory holds when it starts.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A kernel that boots.
    Boot(BootFiles),
    /// A kernel that boots in memory that is kept, in order to be saved.
    Save {
        /// What boots.
        files: BootFiles,
        /// The memory: a memfd of the machine's size.
        memory: OwnedFd,
        /// The monitor's control socket.
        control: OwnedFd,
    },
    /// What was saved, as a private copy.
    Clone {
        /// The memory: a sealed memfd.
        memory: OwnedFd,
        /// The rest of the state, to be read to its end.
        state: OwnedFd,
        /// The monitor's control socket, which is closed before the guest hears of its cell.
        control: OwnedFd,
    },
}

/// What a machine boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootFiles {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The boot image.
    pub(crate) initramfs: PathBuf,
}

/// A machine's disks, opened and locked by the daemon, which hands them over without looking into them.
#[derive(Debug)]
pub(crate) struct Disks {
    /// The image, open for reading only.
    pub(crate) image: OwnedFd,
    /// The agent's disk, open for reading and writing.
    pub(crate) disk: OwnedFd,
}

/// A monitor as a program for the jail.
#[derive(Debug)]
pub(crate) struct MonitorProgram {
    /// Path inside the jail.
    pub(crate) program: String,
    /// Arguments.
    pub(crate) args: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<(String, String)>,
    /// Files that it needs.
    pub(crate) files: Vec<JailFile>,
    /// Descriptors with their numbers inside.
    pub(crate) descriptors: Vec<(OwnedFd, RawFd)>,
    /// System calls that it may make.
    pub(crate) filter: Filter,
    /// Bytes of address space that it may have.
    pub(crate) address_space: u64,
}

/// A virtual machine monitor on this host, with one kind of isolation.
pub(crate) trait Vmm: Send + Sync {
    /// What its machines are.
    fn isolation(&self) -> Isolation;

    /// Everything about monitor and host that a saved machine depends on, as text.
    fn identity(&self) -> String;

    /// The program that runs this machine.
    fn program(&self, machine: Machine) -> io::Result<MonitorProgram>;
}
